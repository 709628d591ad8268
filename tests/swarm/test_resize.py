"""A run on a real Swarm that shrinks and grows, and whose snapshots are reached on every node after its end."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest
from waiting import until

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle
from swarmtrain.docker.command import Docker
from swarmtrain.lab.lab import Lab
from swarmtrain.launchers.base import Run
from swarmtrain.swarm.cluster import STACK_LABEL, read_services

TRAINING = """
import time, torch
from torch import nn
from torch.utils.data import Dataset
from swarmtrain.trainer import Every, Options, Trainer

class Slow(Dataset):
    def __len__(self):
        return 60000
    def __getitem__(self, index):
        time.sleep(0.02)
        return torch.ones(4), torch.ones(1)

model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.01)
options = Options(batch_size=30, snapshot=Every(steps=20))
with Trainer(model, Slow(), optimizer, loss=nn.functional.mse_loss, options=options) as trainer:
    trainer.fit(epochs=1)
"""


@pytest.mark.long
def test_a_service_is_scaled_around_the_training_and_its_snapshots_outlive_it(
    lab: Lab, torch_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", lab.host)
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(TRAINING)
    job = Job(script="train.py", name="grow", nodes="1..3", image=torch_image, workers_per_node=1)
    handle = Client(on="swarm").run(job)
    try:
        limit = time.monotonic() + 120
        while (handle.status().step or 0) < 3:
            assert time.monotonic() < limit, [event.text for event in handle.events()]
            time.sleep(0.5)
        told: list[str] = []
        handle.resize(2, tell=told.append)
        assert agents(handle.run) == 2
        handle.resize(3, tell=told.append)
        assert agents(handle.run) == 3
        for nodes in (2, 3):  # the same by Docker's own means
            Docker().run("service", "scale", "--detach", f"{handle.run.stack}_agent={nodes}")
            until(partial(train, handle, nodes), 90, f"{nodes} nodes to train")
        handle.stop()
        status = handle.status()
        assert (status.restarts, status.lost_steps) == (0, 0), told

        found = handle.snapshots.verify()  # the agents have gone: helpers serve the files
        assert (found.damaged, found.silent) == ([], {})
        newest = found.snapshots[0].key
        assert len({each.node for each in found.snapshots if each.key == newest}) == 3
        pulled = handle.snapshots.pull(to=tmp_path / "here")
        assert (pulled.snapshot.key, pulled.path.stat().st_size) == (newest, pulled.snapshot.bytes)
    finally:
        handle.remove(force=True)


def train(handle: RunHandle, nodes: int) -> bool:
    """Whether so many nodes have made a step together."""
    status = handle.status()
    return bool(status.world_size == nodes and status.healing is None)


def agents(run: Run) -> int | None:
    """How many agents the run's service is to have."""
    services = read_services(Docker(), f"label={STACK_LABEL}={run.stack}")
    return next(each.replicas for each in services if each.name == f"{run.stack}_agent")
