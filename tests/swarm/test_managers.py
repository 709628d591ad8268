"""A Swarm of three managers: a run is reached through any of them, and outlives the loss of its coordinator's."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from earlier_version import EarlierVersion
from engines import ENGINES
from healed import events, reach, story
from healed_swarm import account
from waiting import until

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle
from swarmtrain.errors import ClusterError
from swarmtrain.lab.images import ensure_torch_image
from swarmtrain.lab.lab import Lab
from swarmtrain.lab.names import default_name
from swarmtrain.wire import names

SETTLE_SECONDS = 5.0  # a manager counts as one before it has caught up

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
    trainer.fit(epochs=1000)
"""


@pytest.fixture(scope="module")
def three_managers() -> Iterator[Lab]:
    """A lab of its own: Docker 20.10's manager may lock itself up when one joins a Swarm that has a past."""
    lab = Lab(f"{os.environ.get('SWARMTRAIN_LAB') or default_name()}-m")
    try:
        lab.up(engines=ENGINES)
        for node in ("lab-2", "lab-3"):
            lab.manager.docker.run("node", "promote", node)
            time.sleep(SETTLE_SECONDS)
        lab.load(ensure_torch_image(lab.engine, lambda words: None))
        yield lab
    finally:
        lab.down()


def speak_to(manager: int, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a shell on one of the managers."""
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    monkeypatch.setenv("DOCKER_HOST", lab.names.host(manager))


@pytest.mark.long
def test_another_manager_reaches_the_run_through_a_relay(
    three_managers: Lab, torch_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speak_to(1, three_managers, monkeypatch)
    (tmp_path / "train.py").write_text("print('hello from', __import__('os').environ['RANK'])")
    monkeypatch.chdir(tmp_path)
    job = Job(script="train.py", name="relay", nodes=3, start="cold", image=torch_image)
    handle = Client(on="swarm").run(job)
    try:
        assert handle.wait(timeout=120).state == "succeeded"
        speak_to(2, three_managers, monkeypatch)
        there = Client(on="swarm").get("relay")
        assert there.status().state == "succeeded"
        lines = sorted(text for batch in there.logs() for *_, text in batch)
        assert lines == [f"hello from {rank}" for rank in range(3)]
    finally:
        speak_to(1, three_managers, monkeypatch)
        handle.remove(force=True)


def trains(handle: RunHandle, nodes: int, beyond: int) -> bool:
    try:
        status = handle.status()
    except ClusterError:
        return False
    return bool(status.world_size == nodes and (status.step or 0) > beyond)


def moves(handle: RunHandle, node: str) -> bool:
    try:
        handle.recover(node)
    except ClusterError:
        return False
    return True


@pytest.mark.long
def test_a_run_goes_on_when_its_coordinator_is_moved_off_a_dead_machine(
    three_managers: Lab, torch_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speak_to(2, three_managers, monkeypatch)
    (tmp_path / "train.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    env = {"OMP_NUM_THREADS": "1"}
    job = Job(script="train.py", nodes="2..3", image=torch_image, env=env, coordinator="lab-1")
    handle = Client(on="swarm").run(job)
    try:
        until(lambda: trains(handle, 3, 50), 120, "three nodes train")
        with pytest.raises(ClusterError, match="may still live: Swarm says that lab-1 is there"):
            handle.recover("lab-2")
        before = [event.text for event in handle.events()]
        three_managers.node("lab-1").kill()
        until(
            lambda: moves(handle, "lab-2"), 120, "Swarm notices that lab-1 is gone, and the coordinator moves"
        )
        until(lambda: trains(handle, 2, 50), 60, "two nodes train")
        texts = [event.text for event in handle.events()]
        assert texts[: len(before)] == before
        assert any(text.startswith("the coordinator was moved to lab-2") for text in texts)
        assert any(text.startswith("lab-1 was lost with rank") and "continued on 2" in text for text in texts)
        three_managers.node("lab-1").start()
        until(lambda: trains(handle, 3, 50), 120, "three nodes train again")
        assert handle.status().coordinator == "lab-2"
        generations = handle.status().generation
        time.sleep(5)
        assert handle.status().generation == generations, "the old coordinator took part again"

        # A second time, back to where it was: agents know who is the newest.
        three_managers.node("lab-2").kill()
        speak_to(3, three_managers, monkeypatch)
        until(lambda: moves(handle, "lab-1"), 120, "the coordinator moves again")
        until(lambda: trains(handle, 2, 50), 60, "two nodes train")
        again = [event.text for event in handle.events()]
        assert again[: len(texts)] == texts
        assert sum(text.startswith("the coordinator was moved to ") for text in again) == 2
        three_managers.node("lab-2").start()
        until(lambda: trains(handle, 3, 50), 120, "three nodes train again")
        assert handle.status().coordinator == "lab-1"
    finally:
        three_managers.up()  # a machine that is down, or a Swarm without a leader, lets nothing be removed
        with suppress(ClusterError):
            print(story(handle))
        handle.remove(force=True)


def bundle_of(lab: Lab, handle: RunHandle) -> list[str]:
    """The config that a run's coordinator has its parts of swarmtrain from."""
    (service,) = lab.node(2).docker.json("service", "inspect", f"{handle.run.stack}_coordinator")
    configs = service["Spec"]["TaskTemplate"]["ContainerSpec"]["Configs"]
    return [each["ConfigName"] for each in configs if each["File"]["Name"] == names.BUNDLE]


@pytest.mark.long
def test_a_run_of_the_version_before_keeps_it_when_its_coordinator_is_moved_by_this_one(
    three_managers: Lab, torch_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speak_to(2, three_managers, monkeypatch)
    monkeypatch.chdir(tmp_path)
    earlier = EarlierVersion(tmp_path / "earlier")
    flags = ("--image", torch_image, "-j", "2..3", "--set", "coordinator=lab-1")
    earlier.start(tmp_path, "kept", *flags, pauses={"1": 0.3, "2": 0.3}, pause=0.02)
    handle = Client(on="swarm").get("kept")
    try:
        reach(handle, 12, seconds=150)
        before = bundle_of(three_managers, handle)
        three_managers.node("lab-1").kill()
        until(
            lambda: moves(handle, "lab-2"), 120, "Swarm notices that lab-1 is gone, and the coordinator moves"
        )
        assert handle.wait(timeout=150).state == "succeeded", story(handle)
        assert bundle_of(three_managers, handle) == before
        assert len(events(handle, "moved")) == 1
        three_managers.node("lab-1").start()
        account(three_managers, handle).check(200)
    finally:
        three_managers.up()
        handle.remove(force=True)
