"""Another number of nodes while a run trains, with processes on this machine: nothing is lost; agents come and go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from waiting import until

from swarmtrain import Client, ClusterError, Job, RequestError
from swarmtrain.control.handle import RunHandle
from swarmtrain.launchers.local import LocalLauncher

# Each sample is written down as it is used, so that a test can count them.
PAUSING = """
import os, time, torch
from torch import nn
from torch.utils.data import Dataset
from swarmtrain.trainer import Every, Options, Trainer, seed_everything

class Slow(Dataset):
    def __len__(self):
        return 2000
    def __getitem__(self, index):
        with open("used", "a") as used:
            used.write(f"{index}\\n")
        if not os.path.exists(os.environ["HURRY"]):
            time.sleep(0.04)
        return torch.ones(4) * index / 2000, torch.ones(1)

seed_everything(0)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.01)
options = Options(batch_size=20, snapshot=Every(steps=1000))
with Trainer(model, Slow(), optimizer, loss=nn.functional.mse_loss, options=options) as trainer:
    trainer.fit(epochs=1)
"""
PLAIN = """
import time, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
dist.init_process_group("gloo")
model = DistributedDataParallel(torch.nn.Linear(4, 1))
for step in range(1200):
    model(torch.ones(2, 4)).sum().backward()
    time.sleep(0.05)
"""

Start = Callable[..., RunHandle]


@pytest.fixture
def start(tmp_path: Path, home: Path) -> Start:
    """Starts a run and waits until it makes steps."""

    def started(text: str, nodes: int | str | list[str]) -> RunHandle:
        (tmp_path / "train.py").write_text(text)
        env = {"HURRY": str(tmp_path / "hurry")}
        job = Job(
            name="grow",
            script="train.py",
            nodes=nodes,
            workers_per_node=1,
            stop_grace=2.0,
            env=env,
            per_node=("used",),
        )
        handle = Client(on="local").run(job)
        until(lambda: (handle.status().step or 0) > 2)
        return handle

    return started


def agents(handle: RunHandle) -> list[str]:
    """The nodes whose agents live."""
    return sorted(node for node in LocalLauncher().roots(handle.run) if node)


def ranks(handle: RunHandle) -> dict[int, str]:
    return {worker.rank: worker.node for worker in handle.status().workers}


def test_a_run_shrinks_and_grows_without_losing_or_repeating_a_sample(start: Start, tmp_path: Path) -> None:
    handle = start(PAUSING, "1..3")
    told: list[str] = []
    handle.resize(1, tell=told.append)
    assert (ranks(handle), agents(handle)) == ({0: "node0"}, ["node0"])
    handle.resize(2, tell=told.append)
    assert (ranks(handle), agents(handle)) == ({0: "node0", 1: "node1"}, ["node0", "node1"])
    assert any("trains" in text or "continued on 2 nodes" in text for text in told)
    (tmp_path / "hurry").touch()
    result = handle.wait(timeout=90)
    assert (result.state, result.step) == ("succeeded", 100)
    assert (result.status.restarts, result.status.lost_steps) == (0, 0)
    used = [int(line) for path in tmp_path.rglob("used") for line in path.read_text().split()]
    assert sorted(used) == list(range(2000))


def test_a_script_that_cannot_pause_is_left_alone(start: Start) -> None:
    handle = start(PLAIN, "1..2")
    told: list[str] = []
    handle.resize(1, tell=told.append)
    assert told[-1].startswith("its script cannot save and pause, so nothing is changed now")
    assert agents(handle) == ["node0", "node1"]
    assert handle.status().generation == 1


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        (2, "cannot go on with 1: its job allows 2 nodes and no others"),
        pytest.param(["a", "b"], "its job names its nodes, a, b", marks=pytest.mark.long),
    ],
)
def test_mistakes_change_nothing(start: Start, nodes: int | list[str], why: str) -> None:
    handle = start(PLAIN, nodes)
    with pytest.raises(RequestError, match=why):
        handle.resize(1)
    asked = handle.status().nodes
    assert asked is not None and asked.wanted is None
    handle.stop()
    with pytest.raises(ClusterError, match=r"grow\.1 has ended"):
        handle.resize(2)
