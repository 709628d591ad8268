"""A coordinator whose machine is gone is moved to another manager by a person's word, and the run goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from waiting import until

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle
from swarmtrain.errors import ClusterError
from swarmtrain.lab.lab import Lab

SCRIPT = """
import time
import torch
from torch import nn
from torch.nn import functional as F
from swarmtrain.trainer import Options, Trainer, seed_everything

class Slow(torch.utils.data.Dataset):
    def __len__(self):
        return 960
    def __getitem__(self, index):
        time.sleep(0.002)
        return torch.full((8,), index / 960), torch.tensor(float(index % 7))

seed_everything(0)
model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0))
with Trainer(model, Slow(), torch.optim.AdamW(model.parameters()), loss=F.mse_loss,
             options=Options(batch_size=24)) as trainer:
    trainer.fit(epochs=200)
"""


@pytest.fixture
def three_managers(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """The lab with three managers, spoken to through the second; afterwards it has one again."""
    first = lab.node(1).docker
    for count, node in ((2, "lab-2"), (3, "lab-3")):  # one after the other, each until it is there
        first.run("node", "promote", node)
        until(partial(_has_managers, lab, count), 60, f"{count} managers")
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{lab.node(2).socket}")
    yield lab
    lab.up()
    for count, node in ((2, "lab-3"), (1, "lab-2")):  # or the rest would lose its quorum
        until(partial(_demoted, lab, node), 60, f"demoting {node}")
        until(partial(_has_managers, lab, count), 60, f"{count} managers")


def _has_managers(lab: Lab, count: int) -> bool:
    rows = lab.node(1).docker.json_lines("node", "ls")
    return sum(row["ManagerStatus"] in ("Leader", "Reachable") for row in rows) == count


def _demoted(lab: Lab, node: str) -> bool:
    return lab.node(1).docker.completed("node", "demote", node).returncode == 0


def trains(handle: RunHandle, nodes: int, beyond: int) -> bool:
    try:
        status = handle.status()
    except ClusterError:
        return False
    return bool(status["world_size"] == nodes and (status["step"] or 0) > beyond)


@pytest.mark.long
def test_a_run_goes_on_when_its_coordinator_is_moved_off_a_dead_machine(
    three_managers: Lab, torch_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    env = {"OMP_NUM_THREADS": "1"}
    job = Job(script="train.py", nodes="2..3", image=torch_image, env=env, coordinator="lab-1")
    handle = Client(on="swarm").run(job)
    try:
        until(lambda: trains(handle, 3, 50), 120, "three nodes train")
        with pytest.raises(ClusterError, match="may still live: Swarm says that lab-1 is there"):
            handle.recover("lab-2")
        before = [event["text"] for event in handle.events()]
        three_managers.node("lab-1").kill()

        def moved() -> bool:
            try:
                handle.recover("lab-2")
            except ClusterError:
                return False
            return True

        until(moved, 120, "Swarm notices that lab-1 is gone, and the coordinator moves")
        until(lambda: trains(handle, 2, 50), 60, "two nodes train")
        texts = [event["text"] for event in handle.events()]
        assert texts[: len(before)] == before
        assert any(text.startswith("the coordinator was moved to lab-2") for text in texts)
        assert any(text.startswith("lab-1 was lost with rank") and "continued on 2" in text for text in texts)
        three_managers.node("lab-1").start()
        until(lambda: trains(handle, 3, 50), 120, "three nodes train again")
        assert handle.status()["coordinator"] == "lab-2"
        generations = handle.status()["generation"]
        time.sleep(5)
        assert handle.status()["generation"] == generations, "the old coordinator took part again"
    finally:
        handle.remove(force=True)
