"""Runs with the Trainer that faults befall: they go on, say what it cost, and train what they would have without."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from healed import events, lines, origins, reach, step_of, story, weights
from healed_local import ONE_NODE, account, agent_of, check_output, start, worker_of
from waiting import check_nothing_left, until

from swarmtrain.control.chaos.faults import Fault
from swarmtrain.control.chaos.sites import place_of
from swarmtrain.control.handle import RunHandle
from swarmtrain.wire.disk.storage import Storage

SAMPLES = 200
STEPS = 90  # of 10 epochs
Reference = Callable[..., tuple[str, list[float]]]

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """The weights and the losses of a run without faults."""
    known: dict[str, tuple[str, list[float]]] = {}

    def reference(**settings: Any) -> tuple[str, list[float]]:
        key = repr(sorted(settings.items()))
        if key not in known:
            directory = tmp_path_factory.mktemp("undisturbed")
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("SWARMTRAIN_HOME", str(directory / "home"))
                patch.chdir(directory)
                alike = {"nodes": 1, "workers_per_node": settings.get("nodes", 2)}
                handle = start(directory, pause=0.0, **settings | alike)
                handle.wait(timeout=150)
                known[key] = weights(handle), account(directory / "home", handle).losses()
                check_nothing_left(directory, directory / "home")
        return known[key]

    return reference


def recovery(handle: RunHandle) -> dict[str, object]:
    """The one recovery of a run."""
    found = events(handle, "recovered")
    assert len(found) == 1, story(handle)
    return found[0]


def check_whole(home: Path, handle: RunHandle) -> None:
    account(home, handle).check(SAMPLES)
    check_output(home, handle)


def test_a_killed_worker_costs_steps_and_seconds_that_are_told_and_nothing_else(
    tmp_path: Path, home: Path, undisturbed: Reference
) -> None:
    handle = start(tmp_path)
    reach(handle, 33)
    os.kill(worker_of(handle, 1), signal.SIGKILL)
    assert handle.wait(timeout=150).state == "succeeded", story(handle)
    assert weights(handle) == undisturbed()[0]
    told = recovery(handle)
    sentence = re.fullmatch(
        r"rank 1 on node1: killed by SIGKILL at step (\d+); continued on 2 nodes from step (\d+) after ([\d.]+) s",
        str(told["text"]),
    )
    assert sentence is not None, told["text"]
    at, origin, seconds = int(sentence[1]), int(sentence[2]), float(sentence[3])
    assert at >= 33 and at - 10 <= origin <= at
    assert 0 < seconds < 10
    status = handle.status()
    assert (status.restarts, status.lost_steps) == (1, at - origin)
    assert status.lost_seconds == pytest.approx(seconds, abs=0.06)
    assert status.healing is None
    assert origins(handle) == {2: (1, origin)}
    check_whole(home, handle)


def test_a_killed_agent_is_started_again_and_its_node_takes_part_again(
    tmp_path: Path, home: Path, undisturbed: Reference
) -> None:
    handle = start(tmp_path)
    reach(handle, 33)
    os.kill(agent_of(handle, "node1"), signal.SIGKILL)
    assert handle.wait(timeout=150).state == "succeeded", story(handle)
    assert weights(handle) == undisturbed()[0]
    assert str(recovery(handle)["text"]).startswith("node1 was lost with rank 1: ")
    check_whole(home, handle)


def test_a_killed_coordinator_is_started_again_and_the_training_does_not_notice(
    tmp_path: Path, home: Path, undisturbed: Reference
) -> None:
    handle = start(tmp_path)
    reach(handle, 20)
    pids = [worker_of(handle, rank) for rank in (0, 1)]
    os.kill(agent_of(handle, ""), signal.SIGKILL)
    until(lambda: events(handle, "coordinator"), what="another coordinator")
    reach(handle, 60)
    until(lambda: [each.pid for each in handle.status().workers] == pids, what="the same workers")
    assert handle.wait(timeout=150).state == "succeeded", story(handle)
    status = handle.status()
    assert (status.generation, status.restarts, status.lost_seconds) == (1, 0, 0)
    assert weights(handle) == undisturbed()[0]
    assert len([line for line in lines(handle) if line.text.startswith("step ")]) == 2 * STEPS
    check_whole(home, handle)


@pytest.mark.long
def test_a_node_whose_disk_fails_is_done_without_and_takes_part_again_when_it_is_mended(
    tmp_path: Path, home: Path
) -> None:
    handle = start(tmp_path, nodes="1..2", epochs=200)
    reach(handle, 10)
    directory = home / "data" / Storage(home).lineage(handle.id) / "node1" / "snapshots"
    directory.rename(tmp_path / "aside")
    directory.write_text("no directory")  # as for an agent without one
    os.kill(agent_of(handle, "node1"), signal.SIGKILL)
    until(lambda: events(handle, "warning"), what="a warning")
    assert "node1" in events(handle, "warning")[-1]["text"]
    reach(handle, step_of(handle) + 20)
    assert len(handle.status().workers) == 1
    directory.unlink()
    (tmp_path / "aside").rename(directory)
    until(lambda: len(handle.status().workers) == 2, 60, "two nodes again")
    assert handle.wait(timeout=120).state == "succeeded", story(handle)
    check_whole(home, handle)


def test_a_rank_that_hangs_is_named_with_its_line_and_restarted(
    tmp_path: Path, home: Path, undisturbed: Reference
) -> None:
    handle = start(tmp_path, fault="hang", restart={"hang_timeout": 3.0}, **ONE_NODE)
    assert handle.wait(timeout=150).state == "succeeded", story(handle)
    assert weights(handle) == undisturbed()[0]
    (failure,) = events(handle, "failure")
    line = 1 + (tmp_path / "train.py").read_text().splitlines().index(
        "    time.sleep(600)  # a rank that hangs outside of any collective"
    )
    assert failure["text"].startswith("rank 1 on node0: no step for 3 s: it ")
    assert f"train.py:{line} in stuck" in failure["text"]
    assert "in stuck" in failure["failure"]["traceback"]
    assert 3 < float(str(recovery(handle)["seconds"])) < 15
    check_whole(home, handle)


def test_a_worker_that_does_not_run_is_named_and_replaced(
    tmp_path: Path, home: Path, undisturbed: Reference
) -> None:
    handle = start(tmp_path, restart={"hang_timeout": 3.0})
    reach(handle, 33)
    os.kill(worker_of(handle, 1), signal.SIGSTOP)
    assert handle.wait(timeout=150).state == "succeeded", story(handle)
    assert weights(handle) == undisturbed()[0]
    (failure,) = events(handle, "failure")
    assert "it does not run: its process is stopped" in failure["text"]
    check_whole(home, handle)


def test_an_error_that_comes_again_at_the_same_step_ends_the_run_with_its_traceback(tmp_path: Path) -> None:
    handle = start(tmp_path, fault="raise", always=True, **ONE_NODE)
    result = handle.wait(timeout=150)
    assert result.state == "failed", story(handle)
    assert result.reason.startswith(
        "rank 1 on node0: ValueError: planted (it failed at step 39 2 times in a row"
    )
    cause = handle.status().cause
    assert cause is not None
    assert (cause.kind, cause.rank) == ("exception", 1)
    assert cause.traceback.startswith("Traceback (most recent call last):")
    assert 'raise ValueError("planted")' in cause.traceback
    assert cause.traceback.rstrip().endswith("ValueError: planted")


def test_an_error_that_does_not_come_again_is_survived(
    tmp_path: Path, home: Path, undisturbed: Reference
) -> None:
    handle = start(tmp_path, fault="raise", **ONE_NODE)
    assert handle.wait(timeout=150).state == "succeeded", story(handle)
    assert weights(handle) == undisturbed()[0]
    assert str(recovery(handle)["text"]).startswith("rank 1 on node0: ValueError: planted at step 39; ")
    check_whole(home, handle)


@pytest.mark.long
def test_never_is_one_attempt(tmp_path: Path) -> None:
    handle = start(tmp_path, restart="never")
    reach(handle, 10)
    os.kill(worker_of(handle, 0), signal.SIGKILL)
    result = handle.wait(timeout=150)
    assert (result.state, result.reason) == ("failed", "rank 0 on node0: killed by SIGKILL")
    assert handle.status().generation == 1


@pytest.mark.parametrize("nodes", [pytest.param(each, marks=pytest.mark.long) for each in ("1..3", "2..3")])
def test_a_run_with_fewer_nodes_goes_on_at_once_and_grows_again(
    tmp_path: Path, home: Path, undisturbed: Reference, nodes: str
) -> None:
    handle = start(tmp_path, nodes=nodes, random=False, pauses={"2": 0.4})  # time for a node to start
    reach(handle, 20)
    assert handle.status().world_size == 3
    power = place_of(handle).inflict(Fault("power-off", "node1"), "node1", handle.status())
    until(lambda: handle.status().world_size == 2, what="going on with two nodes")
    until(lambda: events(handle, "recovered"), what="a recovery")
    shrunk = step_of(handle)
    assert float(events(handle, "recovered")[0]["seconds"]) < 10
    reach(handle, shrunk + 10)
    assert power is not None
    power()
    until(lambda: handle.status().world_size == 3, what="going on with three nodes")
    assert handle.wait(timeout=150).state == "succeeded", story(handle)
    lost, grown = events(handle, "recovered")
    assert str(lost["text"]).startswith("node1 was lost with rank 1: ")
    assert "; continued on 2 nodes from step " in lost["text"]
    assert grown["planned"] and grown["at_step"] == grown["from_step"], grown["text"]
    assert "node1 has joined" in grown["text"] and "; continued on 3 nodes from step " in grown["text"]
    assert handle.status().restarts == 1
    sound = account(home, handle)
    sound.check(SAMPLES)
    assert sound.losses() == pytest.approx(undisturbed(nodes=3, random=False)[1], rel=2e-3, abs=2e-4)
    check_output(home, handle)


def test_a_stopped_run_saves_its_last_step_and_resume_goes_on_there(
    tmp_path: Path, home: Path, undisturbed: Reference
) -> None:
    first = start(tmp_path)
    reach(first, 33)
    first.stop()
    status = first.status()
    assert (status.state, status.reason) == ("stopped", "stopped by a person")
    assert status.snapshot is not None and status.step == status.snapshot.step
    assert (status.snapshot.step or 0) < STEPS
    second = start(tmp_path, resume=True)
    assert second.wait(timeout=150).state == "succeeded", story(second)
    assert origins(second) == {1: (1, status.step)}
    assert weights(second) == undisturbed()[0]
    entries = [line.text for handle in (first, second) for line in lines(handle) if line.rank == 1]
    assert [text for text in entries if text.startswith("step ")] == [
        f"step {n}" for n in range(1, STEPS + 1)
    ]


def test_a_node_that_is_told_to_leave_costs_no_step(
    tmp_path: Path, home: Path, undisturbed: Reference
) -> None:
    handle = start(tmp_path, nodes="2..3", random=False)
    reach(handle, 20)
    os.kill(agent_of(handle, "node2"), signal.SIGTERM)
    assert handle.wait(timeout=150).state == "succeeded", story(handle)
    (left, *back) = events(handle, "recovered")
    assert left["planned"] and "node2 was told to leave" in left["text"]
    assert left["at_step"] == left["from_step"]
    assert all(each["planned"] for each in back)
    status = handle.status()
    assert (status.restarts, status.lost_steps) == (0, 0)
    sound = account(home, handle)
    sound.check(SAMPLES)
    assert sound.losses() == pytest.approx(undisturbed(nodes=3, random=False)[1], rel=2e-3, abs=2e-4)
    check_output(home, handle)
