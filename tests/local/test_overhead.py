"""What a run costs beside its workers. benchmarks/step_overhead.py measures what comes of it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from burning import burnt, told
from healed import reach
from healed_local import agent_of
from waiting import until

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle
from swarmtrain.launchers.local import LocalLauncher
from swarmtrain.wire.disk.storage import Storage
from swarmtrain.wire.machine.processes import descendants

_PLAIN = """
import time, torch, torch.distributed as dist
from torch import nn

dist.init_process_group("gloo")
model = nn.parallel.DistributedDataParallel(nn.Linear(4, 4))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for step in range(100_000):
    model(torch.randn(2, 4)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    time.sleep(0.05)
    if step % 10 == 0:
        print("step", step)
"""


@pytest.mark.alone
def test_what_leads_a_run_leaves_the_processors_to_its_workers(home: Path, tmp_path: Path) -> None:
    """At 50 ms a step, client, coordinator, agents and spawners together take about 1 % of a processor.

    Each rank waits for the slowest, so what disturbs one of them on a full machine slows them all.
    """
    (tmp_path / "plain.py").write_text(_PLAIN)
    command = [
        str(Path(sys.executable).with_name("swarmtrain")),
        "run",
        "--on",
        "local",
        "-j",
        "1x2",
        "plain.py",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
        handle = _its_run()
        reach(handle, 20)
        time.sleep(1.0)
        workers = {each.pid for each in handle.status().workers}
        leading = {client.pid}
        for root in LocalLauncher().roots(handle.run).values():
            leading |= {root, *descendants(root)} - workers
        shares = burnt(leading, 16.0)
        handle.stop()
    assert len(shares) >= 7, told(shares)  # two inits, agent, coordinator, guard, spawner, client
    assert sum(shares.values()) < 0.02, told(shares)


_MANY_FILES = """
import os, time
from pathlib import Path

if os.environ["RANK"] == "0":
    for number in range(3_000):
        path = Path(f"part-{number % 10}", str(number))
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(number))
    Path("written").touch()
time.sleep(600)
"""


@pytest.mark.alone
@pytest.mark.long
@pytest.mark.parametrize("nodes", [1, 2])
def test_to_watch_many_files_takes_an_agent_half_a_percent_of_a_processor_and_on_one_node_nothing(
    home: Path, tmp_path: Path, nodes: int
) -> None:
    (tmp_path / "many.py").write_text(_MANY_FILES)
    runs = [
        Client("local").run(
            Job(
                name=f"many-{share}",
                script="many.py",
                files=("many.py",),
                nodes=nodes,
                start="cold",
                share=share,
            )
        )
        for share in ("auto", "off")
    ]
    until(lambda: len(list(home.glob("data/*/*/work/written"))) == 2, 60, "their files")
    known = home / "data" / Storage(home).lineage(runs[0].id) / "node0" / "shared" / "record.json"
    if nodes > 1:
        until(lambda: known.exists() and '"part-9"' in known.read_text(), 60, "what is known of them")
        time.sleep(15.0)  # the others have their copies
    else:
        assert not known.parent.exists()
    shares = burnt([agent_of(handle, "node0") for handle in runs], 30.0)
    with_it, without = (shares[agent_of(handle, "node0")] for handle in runs)
    for handle in runs:
        handle.kill()
    assert with_it < without + (0.007 if nodes > 1 else 0.002), told(shares)


def _its_run() -> RunHandle:
    limit = time.monotonic() + 30
    while not (runs := Client("local").runs()):
        assert time.monotonic() < limit, "the client has submitted nothing"
        time.sleep(0.1)
    return runs[0]
