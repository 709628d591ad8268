"""A coordinator whose machine is gone is moved to another manager by a person's word, and the run goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from healed import story
from managers import more_managers
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
    with more_managers(lab, "lab-2", "lab-3"):
        monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
        monkeypatch.setenv("DOCKER_HOST", f"unix://{lab.node(2).socket}")
        yield lab


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
        three_managers.up()  # a machine that is down, or a Swarm without a leader, lets nothing be removed
        with suppress(ClusterError):
            print(story(handle))
        handle.remove(force=True)
