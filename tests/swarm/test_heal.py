"""Containers and machines fail under a training on a real Swarm: it goes on, with nothing lost and nothing done twice.

Times are bounded at about three times of what they are on a machine that does nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from healed import events, reach, story, weights
from healed_local import account as account_here
from healed_local import start as start_here
from healed_swarm import account, agents_on, check_output, remove, start
from waiting import until

from swarmtrain.control.handle import RunHandle
from swarmtrain.lab.lab import Lab

SAMPLES = 200
Start = Callable[..., RunHandle]
# Slow until the fault, slower until the run has grown again, then quick.
PACE = {"pause": 0.02, "pauses": {"1": 0.15, "2": 0.5}}
ELASTIC = {"nodes": "2..3", "random": False, **PACE}


@pytest.fixture
def begin(
    machines: Lab, torch_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Start]:
    """Starts runs on the lab, and waits until they train; afterwards nothing of them may be left."""
    monkeypatch.chdir(tmp_path)
    handles: list[RunHandle] = []

    def begun(name: str, **settings: object) -> RunHandle:
        handles.append(start(tmp_path, torch_image, name, **settings))
        reach(handles[-1], 12, seconds=150)
        return handles[-1]

    yield begun
    machines.up()
    for handle in handles:
        remove(machines, handle)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[str, list[float]]]:
    """The weights and the losses of a run without faults, which may be anywhere."""
    known: dict[tuple[int, bool], tuple[str, list[float]]] = {}

    def reference(nodes: int = 3, random: bool = False) -> tuple[str, list[float]]:
        if (nodes, random) not in known:
            directory = tmp_path_factory.mktemp("undisturbed")
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("SWARMTRAIN_HOME", str(directory / "home"))
                patch.chdir(directory)
                handle = start_here(directory, nodes=nodes, random=random, pause=0.0)
                handle.wait(timeout=120)
                known[nodes, random] = weights(handle), account_here(directory / "home", handle).losses()
        return known[nodes, random]

    return reference


def check_whole(lab: Lab, handle: RunHandle, losses: list[float]) -> None:
    """It succeeded, with each sample once an epoch, the losses of an undisturbed run, and each line of output once."""
    assert handle.wait(timeout=150).state == "succeeded", story(handle)
    sound = account(lab, handle)
    sound.check(SAMPLES)
    assert sound.losses() == pytest.approx(losses, rel=2e-3, abs=2e-4)
    check_output(lab, handle)


def recovered(handle: RunHandle, seconds: float, times: int = 1) -> list[dict[str, object]]:
    """Its recoveries, once there are so many; each took at most so long."""
    until(lambda: len(events(handle, "recovered")) >= times, 120, f"recovery {times} of\n{story(handle)}\n")
    found = events(handle, "recovered")
    assert max(each["seconds"] for each in found) < seconds, story(handle)
    return found


def world(handle: RunHandle) -> int:
    return int(handle.status().world_size)


@pytest.mark.long
def test_a_killed_container_is_replaced_and_the_weights_are_the_same(
    machines: Lab, begin: Start, undisturbed: Callable[..., tuple[str, list[float]]]
) -> None:
    handle = begin("kill", pause=0.02, pauses={"1": 0.15})
    machines.node(2).docker.run("kill", "--signal", "KILL", *agents_on(machines, 2, handle))
    expected, losses = undisturbed(3, True)
    check_whole(machines, handle, losses)
    (told,) = recovered(handle, 60)
    assert str(told["text"]).startswith("lab-2 was lost with rank "), told["text"]
    assert "continued on 3 nodes" in str(told["text"])
    assert weights(handle) == expected


@pytest.mark.parametrize("how", ["kill", pytest.param("power-off", marks=pytest.mark.long)])
def test_an_elastic_run_shrinks_at_once_and_grows_again(
    machines: Lab, begin: Start, how: str, undisturbed: Callable[..., tuple[str, list[float]]]
) -> None:
    handle = begin(how, **ELASTIC)
    assert world(handle) == 3
    if how == "kill":
        machines.node(3).docker.run("kill", "--signal", "KILL", *agents_on(machines, 3, handle))
    else:
        machines.node(3).kill()
    (lost,) = recovered(handle, 25)
    assert "lab-3 was lost" in str(lost["text"])
    assert "continued on 2 nodes" in str(lost["text"])
    if how == "power-off":
        machines.node(3).start()
    until(lambda: world(handle) == 3, 120, "growing again")
    check_whole(machines, handle, undisturbed()[1])
    grown = recovered(handle, 60, 2)[-1]
    assert grown["planned"] and grown["at_step"] == grown["from_step"]


@pytest.mark.long
def test_a_frozen_node_is_left_behind_and_takes_part_again_when_it_has_thawed(
    machines: Lab, begin: Start, undisturbed: Callable[..., tuple[str, list[float]]]
) -> None:
    handle = begin("frozen", **ELASTIC)
    ranks = {each.node: each.rank for each in handle.status().workers}
    machines.node(3).pause()
    try:
        (lost,) = recovered(handle, 30)
        assert "lab-3 was lost" in str(lost["text"])
    finally:
        machines.node(3).unpause()
    until(lambda: world(handle) == 3, 120, "growing again")
    check_whole(machines, handle, undisturbed()[1])
    # it was fenced
    assert account(machines, handle).newest_step(1, ranks["lab-3"]) <= int(str(lost["at_step"])) + 1
    assert recovered(handle, 60, 2)[-1]["planned"]


def test_a_training_does_not_need_the_coordinators_machine(
    machines: Lab, begin: Start, undisturbed: Callable[..., tuple[str, list[float]]]
) -> None:
    handle = begin("headless", nodes=["lab-2", "lab-3"], pause=0.3)
    machines.node(1).kill()
    time.sleep(20)
    machines.node(1).start()
    until(lambda: handle.status().state in ("running", "succeeded"), 120, "an answer")
    expected, losses = undisturbed(2, True)
    check_whole(machines, handle, losses)
    status = handle.status()
    assert (status.generation, status.restarts, status.lost_seconds) == (1, 0, 0), story(handle)
    assert weights(handle) == expected


@pytest.mark.long
def test_a_drained_node_saves_its_work_and_comes_back(
    machines: Lab, begin: Start, undisturbed: Callable[..., tuple[str, list[float]]]
) -> None:
    handle = begin("drain", **ELASTIC)
    manager = machines.node(1).docker
    try:
        manager.run("node", "update", "--availability", "drain", "lab-3")
        (left,) = recovered(handle, 30)
        assert left["planned"] and "lab-3 was told to leave" in str(left["text"])
    finally:
        manager.run("node", "update", "--availability", "active", "lab-3")
    until(lambda: world(handle) == 3, 120, "growing again")
    check_whole(machines, handle, undisturbed()[1])
    status = handle.status()
    assert (status.restarts, status.lost_steps) == (0, 0), story(handle)
