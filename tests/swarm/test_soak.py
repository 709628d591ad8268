"""Faults of all kinds on a training on three machines: nothing is lost, nothing left, nothing grows.

The short ones are for every day, the long ones for `make test-all`. The same seed draws the same faults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from healed import reach, step_of, story
from healed_local import start as start_here
from healed_resources import ResourceWatch
from healed_swarm import account, check_output, remove, saved_weights, start
from waiting import until

from swarmtrain.control.chaos.execution import Chaos
from swarmtrain.control.chaos.faults import random_plan
from swarmtrain.control.chaos.sites import place_of
from swarmtrain.control.handle import RunHandle
from swarmtrain.lab.chaos import LabMachines
from swarmtrain.lab.lab import Lab

SAMPLES = 2000
EVERY = 20.0  # seconds between two faults
# A leak is something that grows with every step or every fault: far more than this in fifteen minutes.
MEMORY = 4096  # KiB
FILES = 4

Start = Callable[..., RunHandle]
Finished = tuple[RunHandle, int]


@pytest.fixture
def begin(
    machines: Lab, torch_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Start]:
    """Starts a run on the lab, and waits until it trains; afterwards nothing of it may be left."""
    monkeypatch.chdir(tmp_path)
    handles: list[RunHandle] = []

    def begun(**settings: object) -> RunHandle:
        handles.append(start(tmp_path, torch_image, "soak", **settings))
        reach(handles[-1], 5, seconds=150)
        return handles[-1]

    yield begun
    machines.up()
    for handle in handles:
        remove(machines, handle)


def soak(machines: Lab, begin: Start, seed: int, minutes: float, **settings: object) -> Finished:
    """Train while faults come, then until a step after the last of them; stop. Returns the run and its last step."""
    restart = {"max": 1000, "hang_timeout": 20.0}
    often = {"memory": 20, "disk": 200}
    handle = begin(samples=SAMPLES, epochs=100_000, pause=0.05, restart=restart, **often, **settings)
    place = place_of(handle, LabMachines(machines, handle.run))
    plan = random_plan(seed=seed, every=EVERY, length=60 * minutes, kinds=place.mix)
    with ResourceWatch(machines, 5.0) as watch:
        report = Chaos(handle, place, plan, tell=lambda happening: print(happening.text)).run()
    # A fault may find nothing to hit while the run still heals from the one before; its end must come.
    assert not [each for each in report.failed if "its end" in each.text], report.failed
    last = step_of(handle)
    until(lambda: step_of(handle) > last + 20, 180, f"a step after the last fault, of\n{story(handle)}\n")
    until(lambda: handle.status().healing is None, 60, "health")
    handle.stop()
    status = handle.status()
    print(story(handle))
    print(watch.table())
    assert status.state == "stopped", status.reason
    leaks = {name: grown for name, grown in watch.growth().items() if grown[0] > MEMORY or grown[1] > FILES}
    assert not leaks, f"{leaks}\n{watch.table()}"
    done = [each for each in report.happenings if each.what == "fault"]
    assert len(done) > len(plan.faults) / 2, report.failed
    return handle, status.step or 0


def check(machines: Lab, handle: RunHandle) -> None:
    """Each sample once an epoch, each line once, and nothing left."""
    account(machines, handle).check(SAMPLES)
    check_output(machines, handle)


LENGTHS = [
    pytest.param(1.0, id="a minute"),
    # With what comes before and after them, these take half an hour.
    pytest.param(15.0, id="15 minutes", marks=[pytest.mark.long, pytest.mark.timeout(3000)]),
]


@pytest.mark.parametrize("minutes", LENGTHS)
def test_three_nodes_end_with_the_weights_of_an_undisturbed_training(
    machines: Lab, begin: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: float
) -> None:
    handle, step = soak(machines, begin, seed=5, minutes=minutes, nodes=3)
    check(machines, handle)
    found = saved_weights(machines, handle, step)
    monkeypatch.setenv("SWARMTRAIN_HOME", str(tmp_path / "home"))
    whole = start_here(tmp_path, nodes=3, samples=SAMPLES, steps=step, pause=0.0, memory=10_000, disk=10_000)
    assert whole.wait(timeout=600).state == "succeeded"
    assert set((whole.status().weights or {}).values()) == {found}


@pytest.mark.long
@pytest.mark.parametrize("minutes", LENGTHS)
def test_two_to_three_nodes_train_each_sample_once_an_epoch(
    machines: Lab, begin: Start, minutes: float
) -> None:
    handle, _ = soak(machines, begin, seed=70, minutes=minutes, nodes="2..3", random=False)
    check(machines, handle)
