"""A script that saves on rank 0 alone, as if there were one machine, on several: the loss of that rank's machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from healed import events, lines, story
from healed_swarm import remove
from waiting import until

from swarmtrain import Client, ClusterError, Job
from swarmtrain.lab.lab import Lab

SAVES = 5.0  # seconds between two
SCRIPT = f"""
import os, time
from datetime import timedelta
import torch, torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo", timeout=timedelta(seconds=60))
rank = dist.get_rank()
torch.manual_seed(0)
model = DistributedDataParallel(nn.Linear(64, 64))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
step, saved = 0, time.monotonic()
if os.path.exists("snapshot.pt"):
    found = torch.load("snapshot.pt")
    step = found["step"]
    model.module.load_state_dict(found["model"])
print("from", step, flush=True)
stops = False
while not stops:
    optimizer.zero_grad()
    model(torch.randn(8, 64)).pow(2).mean().backward()
    optimizer.step()
    time.sleep(0.05)
    step += 1
    at = torch.tensor([step, -step, os.path.exists("/tmp/stop")])
    dist.all_reduce(at, dist.ReduceOp.MAX)
    if at[0] != -at[1]:
        print("out of step:", step, flush=True)
    stops = bool(at[2])
    if rank == 0 and time.monotonic() > saved + {SAVES}:
        torch.save({{"step": step, "model": model.module.state_dict()}}, "snapshot.pt")
        print("saved", step, flush=True)
        saved = time.monotonic()
dist.destroy_process_group()
"""


class Story:
    """A run of the script, led from lab-1; and what its ranks say."""

    def __init__(self, image: str, directory: Path, **wanted: Any) -> None:
        (directory / "train.py").write_text(SCRIPT)
        job = Job(
            name="saver",
            script="train.py",
            image=image,
            workers_per_node=1,
            share="auto",
            env={"OMP_NUM_THREADS": "1"},
            **wanted,
        )
        self.handle = Client(on="swarm").run(job)

    def said(self, word: str) -> list[tuple[int, int, int]]:
        """Of each time that a rank has said it: generation, rank, and the step."""
        return [
            (generation, rank, int(text.rpartition(" ")[2]))
            for _, generation, rank, _, text in lines(self.handle)
            if text.startswith(word)
        ]

    def begun(self, ranks: int, after: int) -> tuple[int, set[int]]:
        """The next generation of so many ranks, once all have begun: its number, and the steps they began with."""
        found: dict[int, list[int]] = {}

        def has() -> bool:
            found.clear()
            for generation, _, step in self.said("from "):
                found.setdefault(generation, []).append(step)
            return any(len(steps) == ranks for number, steps in found.items() if number > after)

        until(has, 120, f"{ranks} ranks of a generation after {after} of\n{story(self.handle)}\n")
        number = next(n for n, steps in found.items() if n > after and len(steps) == ranks)
        return number, set(found[number])

    def answers(self) -> bool:
        """Whether somebody leads the run, who can be asked."""
        try:
            return bool(self.handle.status().workers)
        except ClusterError:
            return False


@pytest.fixture
def begin(
    machines: Lab, torch_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Story]]:
    monkeypatch.chdir(tmp_path)
    begun: list[Story] = []

    def begin(**wanted: Any) -> Story:
        begun.append(Story(torch_image, tmp_path, **wanted))
        return begun[-1]

    yield begin
    machines.up()
    for scene in begun:
        remove(machines, scene.handle)


def test_when_the_machine_of_rank_0_is_lost_all_go_on_together_from_its_newest_copy(
    machines: Lab, begin: Callable[..., Story], tmp_path: Path
) -> None:
    scene = begin(nodes="1..2", constraints=("node.hostname != lab-1",))
    first, steps = scene.begun(2, after=0)
    assert steps == {0}
    until(lambda: len(scene.said("saved ")) >= 2, 60, "two saves")
    time.sleep(SAVES - 1)
    lost = next(worker.node for worker in scene.handle.status().workers if worker.rank == 0)
    machines.node(lost).kill()
    saved = [step for *_, step in scene.said("saved ")]
    alone, steps = scene.begun(1, after=first)
    assert steps in ({saved[-1]}, {saved[-2]}), story(scene.handle)
    machines.node(lost).start()
    until(lambda: len(events(scene.handle, "joined")) == 3, 120, "its coming back")
    (worker,) = scene.handle.status().workers
    scene.handle.exec(["kill", "-KILL", str(worker.pid)], rank=0)  # what was lost takes part again
    _, steps = scene.begun(2, after=alone)
    (step,) = steps
    assert step >= saved[-2], story(scene.handle)
    assert not scene.said("out of step"), story(scene.handle)
    scene.handle.exec(["touch", "/tmp/stop"], rank=0)
    assert scene.handle.wait(timeout=60).state == "succeeded", story(scene.handle)
    scene.handle.fetch("snapshot.pt", tmp_path / "fetched.pt")
    assert torch.load(tmp_path / "fetched.pt")["step"] == scene.said("saved ")[-1][2]


@pytest.mark.long
def test_when_the_machine_of_rank_0_that_leads_the_run_loses_its_power_three_go_on_together(
    machines: Lab, begin: Callable[..., Story]
) -> None:
    """Where a range of nodes is counted, rank 0 is where the run is led: that machine is to be back."""
    scene = begin(nodes="1..3")
    first, steps = scene.begun(3, after=0)
    assert steps == {0}
    until(lambda: len(scene.said("saved ")) >= 2, 60, "two saves")
    lead = next(worker.node for worker in scene.handle.status().workers if worker.rank == 0)
    assert lead == "lab-1"
    time.sleep(SAVES - 1)
    saved = [step for *_, step in scene.said("saved ")]
    machines.node(lead).kill()
    time.sleep(5)
    machines.node(lead).start()
    until(scene.answers, 120, "its coming back")
    _, steps = scene.begun(3, after=first)
    (step,) = steps
    assert step >= saved[-2], story(scene.handle)
    assert not scene.said("out of step"), story(scene.handle)
    scene.handle.exec(["touch", "/tmp/stop"], rank=0)
    assert scene.handle.wait(timeout=60).state == "succeeded", story(scene.handle)
