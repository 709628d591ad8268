"""The coordinator is started again: training goes on, and nothing is lost or doubled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from waiting import until

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle

COUNTING = """
import time
for number in range(120):
    print(number, flush=True)
    time.sleep(0.05)
"""


@pytest.fixture
def handle(tmp_path: Path, home: Path) -> RunHandle:
    (tmp_path / "count.py").write_text(COUNTING)
    handle = Client(on="local").run(Job(script="count.py", nodes=2, start="cold"))
    until(lambda: "started" in [event["kind"] for event in handle.events()])
    return handle


def restart_coordinator(place: Path, pause: float) -> None:
    """Kill the coordinator of a run as a crash would, and start it again as Swarm would."""
    processes = json.loads((place / "processes.json").read_text())
    environment = dict(
        entry.split("=", 1)
        for entry in Path(f"/proc/{processes['']['pid']}/environ").read_text().split("\0")
        if "=" in entry
    )
    os.kill(processes[""]["pid"], signal.SIGKILL)
    time.sleep(pause)
    with (place / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "swarmtrain.inside", "coordinator", "--leave"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    process.returncode = 0
    began = int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19])
    processes[""] = {"pid": process.pid, "began": began}
    (place / "processes.json").write_text(json.dumps(processes))


@pytest.mark.parametrize("pause", [0.0, 2.0, 8.0], ids=["at once", "in the middle", "after the workers' end"])
def test_a_coordinator_that_is_started_again_loses_nothing(
    handle: RunHandle, tmp_path: Path, pause: float
) -> None:
    restart_coordinator(tmp_path / "home" / "runs" / handle.id / "coordinator", pause)
    time.sleep(0.5)
    assert handle.wait(timeout=60).state == "succeeded"
    found: dict[int, list[str]] = {0: [], 1: []}
    for batch in handle.logs():
        for _, _, rank, _, text in batch:
            found[rank].append(text)
    assert found == {rank: [str(number) for number in range(120)] for rank in (0, 1)}
    kinds = [event["kind"] for event in handle.events()]
    assert kinds.count("coordinator") == 1
    assert kinds.count("generation") == 1
    assert kinds[-1] == "ended"
