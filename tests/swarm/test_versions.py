"""A run of the version before, on a Swarm: a client of this one understands it, and a coordinator of this one leads it.

A run keeps the version that it was submitted with (docs/decisions/0015): this client brings a coordinator of its own
only where somebody says so to Docker, as here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from earlier_version import EarlierVersion
from healed import events, lines, reach, step_of, story, weights
from healed_swarm import account, agents_on, check_output, remove

from swarmtrain import Client
from swarmtrain.control.handle import RunHandle
from swarmtrain.lab.lab import Lab
from swarmtrain.payload import bundle
from swarmtrain.swarm.cluster import STACK_LABEL
from swarmtrain.wire import names

SAMPLES = 200


@pytest.fixture
def handle(
    machines: Lab, torch_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunHandle]:
    """A run of three nodes that the version before has submitted and trains; afterwards nothing of it may be left."""
    monkeypatch.chdir(tmp_path)
    earlier = EarlierVersion(tmp_path / "earlier")
    earlier.start(
        tmp_path, "earlier", "--image", torch_image, "-j", "3x1", pauses={"1": 0.4, "2": 0.1}, pause=0.02
    )
    handle = Client(on="swarm").get("earlier")
    yield handle
    machines.up()
    remove(machines, handle)


def take_over(lab: Lab, handle: RunHandle) -> None:
    """Have Docker start the run's coordinator anew, with the bundle of this version."""
    docker, service = lab.manager.docker, f"{handle.run.stack}_{names.COORDINATOR_SERVICE}"
    (spec,) = docker.json("service", "inspect", service)
    configs = spec["Spec"]["TaskTemplate"]["ContainerSpec"]["Configs"]
    (theirs,) = (each["ConfigName"] for each in configs if each["File"]["Name"] == names.BUNDLE)
    ours = f"{handle.run.stack}_bundle-{bundle.build().digest}"
    assert ours != theirs
    label = f"{STACK_LABEL}={handle.run.stack}"
    docker.run("config", "create", "--label", label, ours, "-", input=bundle.build().data, timeout=30)
    added = f"source={ours},target={names.BUNDLE},mode=0444"
    docker.run("service", "update", "--detach", "--config-rm", theirs, "--config-add", added, service)


def test_a_coordinator_of_this_version_takes_over_a_run_of_the_one_before(
    machines: Lab, handle: RunHandle
) -> None:
    reach(handle, 12, seconds=150)
    assert handle.status().world_size == 3
    before = [event.text for event in handle.events()]
    assert {line.rank for line in lines(handle)} == {0, 1, 2}
    take_over(machines, handle)
    reach(handle, step_of(handle) + 3)
    assert [event.text for event in handle.events()][: len(before)] == before
    machines.node(2).docker.run("kill", "--signal", "KILL", *agents_on(machines, 2, handle))
    assert handle.wait(timeout=150).state == "succeeded", story(handle)

    assert len(events(handle, "coordinator")) == 1, story(handle)
    assert len(events(handle, "recovered")) == 1, story(handle)
    account(machines, handle).check(SAMPLES)
    check_output(machines, handle)
    assert weights(handle)
    assert {each.node for each in handle.snapshots.listing().snapshots} == {"lab-1", "lab-2", "lab-3"}
