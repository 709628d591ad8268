"""Real runs whose ranks end each in its own way, over gloo: who is named, how often it is tried, and what stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from healed import events, lines, story
from healed_local import ONE_NODE

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle

pytestmark = pytest.mark.usefixtures("home")

HEAD = """
import os, sys, time
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
dist.init_process_group("gloo")
rank = dist.get_rank()
model = DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

def step():
    optimizer.zero_grad()
    model(torch.randn(8, 4)).mean().backward()
    optimizer.step()
"""

SHORT_OF_DATA = """
for _ in range(12 if rank == 1 else 20):
    step()
if rank == 1 and sys.argv[1] == "exit":
    sys.exit(256)  # of which the system keeps the lowest byte
if rank == 1 and sys.argv[1] == "leave":
    os._exit(0)
if sys.argv[1] == "destroy":
    dist.destroy_process_group()
"""

WITH_WORDS = """
if rank == 1:
    time.sleep(0.2)
    sys.exit("no data in /data/train")
dist.barrier()
"""

OWN_CHECKPOINT = """
place = os.path.join("checkpoints", os.environ["TORCHELASTIC_RUN_ID"], str(rank))
os.makedirs(os.path.dirname(place), exist_ok=True)
first = int(open(place).read()) if os.path.exists(place) else 0
attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
print("attempt", attempt, "begins at", first)
for number in range(first, 10):
    step()
    with open(place, "w") as file:
        file.write(str(number + 1))
    if number == 5 and rank == 1 and attempt == 0:
        time.sleep(5)  # what was written in the last moments may be half of what was to be
        os.kill(os.getpid(), 9)
dist.destroy_process_group()
"""

NEVER_ENDS = """
import threading
for _ in range(12):
    step()
dist.barrier()
print("trained")
if rank == 0:
    threading.Thread(target=time.sleep, args=(600,)).start()  # which Python waits for
"""


def start(directory: Path, text: str, *args: str, **job: object) -> RunHandle:
    (directory / "train.py").write_text(HEAD + text)
    settings: dict[str, object] = {**ONE_NODE, "env": {"OMP_NUM_THREADS": "1"}} | job
    return Client(on="local").run(Job(script="train.py", args=args, **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "how",
    ["destroy", *(pytest.param(how, marks=pytest.mark.long) for how in ("end", "exit", "leave"))],
)
def test_a_rank_that_runs_out_of_data_is_named_and_not_tried_a_third_time(tmp_path: Path, how: str) -> None:
    handle = start(tmp_path, SHORT_OF_DATA, how)
    result = handle.wait(timeout=120)
    assert result.state == "failed", story(handle)
    assert result.reason.startswith(
        "rank 1 on node0: ended with 0 after 12 steps while the others went on (it failed at step 12 2 times"
    ), story(handle)
    status = handle.status()
    assert status.cause is not None
    assert (status.generation, status.cause.rank) == (2, 1), story(handle)
    assert [other.rank for other in status.cause.others] == [0]


def test_the_words_of_an_exit_are_the_reason_of_the_run(tmp_path: Path) -> None:
    handle = start(tmp_path, WITH_WORDS)
    result = handle.wait(timeout=120)
    assert (result.state, result.reason) == ("failed", "rank 1 on node0: no data in /data/train"), story(
        handle
    )


def test_a_script_finds_its_own_checkpoint_by_the_runs_id_and_nothing_else_is_promised(
    tmp_path: Path,
) -> None:
    handle = start(tmp_path, OWN_CHECKPOINT)
    assert handle.wait(timeout=120).state == "succeeded", story(handle)
    said = sorted(line.text for line in lines(handle) if line.text.startswith("attempt"))
    assert said == ["attempt 0 begins at 0"] * 2 + ["attempt 1 begins at 6"] * 2
    (told,) = events(handle, "recovered")
    assert "; begun anew on 1 node after " in told["text"]
    assert told["text"].endswith(
        " s: the script takes no snapshots; 5 steps lost but for what it saves by itself"
    ) or told["text"].endswith(
        " s: the script takes no snapshots; 6 steps lost but for what it saves by itself"
    )


def test_processes_that_do_not_end_when_their_scripts_have_are_stopped_and_nothing_is_trained_again(
    tmp_path: Path,
) -> None:
    handle = start(tmp_path, NEVER_ENDS, restart={"hang_timeout": 3.0})
    assert handle.wait(timeout=60).state == "succeeded", story(handle)
    assert handle.status().generation == 1
    assert [line.text for line in lines(handle)].count("trained") == 2
    assert events(handle, "stopping")[0]["text"].endswith("and not all of their processes end"), story(handle)
