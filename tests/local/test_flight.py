"""A rank that hangs among three is named with the collective that it is missing from, and its line of source."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from swarmtrain import Client, ClusterError, Job, RunHandle
from swarmtrain.job import Restart
from swarmtrain.protocol.journal.event import Event

SWARMTRAIN = str(Path(sys.executable).with_name("swarmtrain"))
HANG = 3.0

# Three ranks train until rank 1, at its sixth step, does what the first argument says.
SCRIPT = """
import sys, time
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

class Numbers(Dataset):
    def __len__(self): return 10000
    def __getitem__(self, index):
        if HOW == "loader" and index == 20 and dist.get_rank() == 1:
            time.sleep(1000)  # in the loader
        return torch.randn(8)

def told(value):
    dist.all_reduce(value)  # of all

def stray(value):
    dist.broadcast(value, src=1)  # of one

def train():
    model = DistributedDataParallel(torch.nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step, x in enumerate(DataLoader(Numbers(), batch_size=1, num_workers=int(HOW == "loader"))):
        loss = model(x).mean()
        loss.backward()
        optimizer.step()
        if step == 6 and dist.get_rank() == 1:
            if HOW == "outside":
                time.sleep(1000)  # outside
            if HOW == "mismatch":
                stray(torch.ones(3))
        told(torch.ones(3))
        optimizer.zero_grad()
        time.sleep(0.01)

HOW = sys.argv[1]
dist.init_process_group("gloo")
train()
"""

# No step of it can be counted.
PLAIN = """
import datetime, time
import torch, torch.distributed as dist

def work():
    for step in range(10):
        if step == 3 and dist.get_rank() == 1:
            time.sleep(1000)  # away
        dist.all_reduce(torch.ones(10))

dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=15))
work()
"""

pytestmark = pytest.mark.usefixtures("home")


def line_of(comment: str) -> int:
    return 1 + [line.endswith(f"# {comment}") for line in SCRIPT.splitlines()].index(True)


def start(directory: Path, how: str, **keys: Any) -> RunHandle:
    (directory / "train.py").write_text(SCRIPT)
    return Client("local").run(Job(script="train.py", args=[how], **keys))


def failure(handle: RunHandle) -> Event:
    found = [event for event in handle.events(follow=True) if event.kind == "failure"]
    return found[0]


OUTSIDE = (
    f"it is not in all_reduce #SEQ of Float [3] (train.py:{line_of('of all')} in told), in which ranks 0 and 2 wait",
    f": it is at train.py:{line_of('outside')} in train",
)
MISMATCH = (
    f"it is in broadcast #SEQ of Float [3] (train.py:{line_of('of one')} in stray), ranks 0 and 2 in all_reduce #SEQ",
    f"(train.py:{line_of('of all')} in told): not all ranks call the same collectives",
)


@pytest.mark.parametrize(
    ("how", "said"), [("outside", OUTSIDE), pytest.param("mismatch", MISMATCH, marks=pytest.mark.long)]
)
def test_the_rank_and_its_line_are_named_as_it_is_noticed(
    tmp_path: Path, how: str, said: tuple[str, ...]
) -> None:
    handle = start(tmp_path, how, nodes=3, restart=Restart(hang_timeout=HANG, max=0))
    try:
        found = failure(handle)
    finally:
        handle.kill()
    text = found.text
    assert text.startswith("rank 1 on node1: no step for 3 s: it is "), text
    number = text.partition("#")[2].partition(" ")[0]
    for part in said:
        assert part.replace("SEQ", number) in text, text


def test_nobody_is_named_in_a_run_that_gets_on(tmp_path: Path) -> None:
    handle = start(tmp_path, "well", nodes=1, workers_per_node=3)
    try:
        until(lambda: any(each.step and each.step >= 3 for each in handle.status().workers), 60, "steps")
        for _ in range(5):
            found = handle.stacks()
            assert not found.findings
            assert [each.rank for each in found.ranks if each.report and each.report.flight] == [0, 1, 2]
    finally:
        handle.stop()


def test_a_person_sees_all_ranks_while_they_hang(tmp_path: Path) -> None:
    handle = start(tmp_path, "loader", nodes=1, workers_per_node=3)
    try:
        until(lambda: any(each.step and each.step >= 3 for each in handle.status().workers), 60, "steps")
        time.sleep(2.0)
        began = time.monotonic()
        done = subprocess.run([SWARMTRAIN, "stacks", handle.id], capture_output=True, text=True, timeout=60)
        assert time.monotonic() - began < 10
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert lines[0].startswith("rank 1 is not in all_reduce #"), done.stdout
        assert "in which ranks 0 and 2 wait" in lines[0]
        assert lines[2] == "rank 1 on node0: main thread"
        assert "ranks 0,2: main threads" in lines
        forked = lines.index("rank 1 on node0: 1 process that it has forked")
        assert lines[forked + 1] == f"  > train.py:{line_of('in the loader')} in __getitem__"
        line = [SWARMTRAIN, "stacks", handle.id, "--rank", "1", "--json"]
        told = json.loads(subprocess.run(line, capture_output=True, timeout=60).stdout)
        assert [each["rank"] for each in told["ranks"]] == [1] and told["findings"][0]["ranks"] == [1]
        assert {each["what"] for each in told["groups"]} >= {"main thread", "process"}
        assert any(each.seq for each in handle.stacks().findings)
    finally:
        handle.stop()
    with pytest.raises(ClusterError, match=r"no worker of train\.1 runs now"):
        handle.stacks()


@pytest.mark.long
def test_what_a_person_saw_of_a_plain_script_names_the_rank_when_its_process_group_gives_up(
    tmp_path: Path,
) -> None:
    (tmp_path / "train.py").write_text(PLAIN)
    handle = Client("local").run(Job(script="train.py", nodes=3, restart=Restart(max=0)))
    try:
        until(lambda: all(each.state == "running" for each in handle.status().workers), 60, "workers")
        until(lambda: any(each.kind == "missing" for each in handle.stacks().findings), 60, "a finding")
        handle.wait(60)
    finally:
        handle.kill()
    found = handle.explain()
    assert (found.code, found.rank, found.node) == ("stuck-code", 1, "node1")
    assert "is not in all_reduce #4 of Float [10] (train.py:9 in work)" in found.verdict
    assert "in which ranks 0 and 2 wait" in found.verdict and "is at train.py:8 in work" in found.verdict
