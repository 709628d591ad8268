"""Clocks that are set while a run lives: on the coordinator's machine, on an agent's. Nothing of the run may notice."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hand_clock import HandClock
from run_fakes import Theatre, WireMessages, exited, join, pulse

from swarmtrain.agent.worker_group.workers import read_error
from swarmtrain.control.places import in_order
from swarmtrain.coordinator.agents.connections import _clock
from swarmtrain.coordinator.clients.status import status
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.docker.command import Docker
from swarmtrain.files import snapshots
from swarmtrain.launchers.base import Run as Found
from swarmtrain.launchers.swarm import SwarmLauncher
from swarmtrain.launchers.swarm.stacks import Stack
from swarmtrain.protocol.codec import dump
from swarmtrain.swarm import tasks
from swarmtrain.wire import alive, names
from swarmtrain.wire import clock as module
from swarmtrain.wire.clock import RunClock

HOUR = 3600.0


@pytest.fixture
def hand() -> HandClock:
    """The machine's clock."""
    return HandClock()


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_a_clock_that_is_set_is_not_looked_at_again(hand: HandClock, jump: float) -> None:
    clock = RunClock.after(0.0, hand)
    before = hand.unix()
    hand.epoch += jump
    hand.turn(5.0)
    assert clock.now() == before + 5.0
    # Another process of the same boot.
    again = RunClock.after(before, hand, boot=hand.boot(), epoch=clock.epoch)
    assert (again.now(), again.moment(before)) == (before + 5.0, hand.now - 5.0)


def test_another_machine_goes_on_from_the_last_event(hand: HandClock) -> None:
    last = hand.unix()
    other = partial(RunClock.after, last, hand, boot="another one's", epoch=7.0)
    hand.epoch -= HOUR
    assert other().now() == last  # what has happened lies behind
    assert other(age=4.0).now() == last + 4.0
    hand.epoch += 2 * HOUR
    assert other(age=4.0).now() == last + 4.0  # an agent knows how long ago it was
    assert other().now() == last + HOUR


def test_what_has_passed_does_not_lie_ahead(hand: HandClock) -> None:
    clock = RunClock.after(0.0, hand)
    assert clock.moment(clock.now() + HOUR) == hand.now


def lived(stage: Theatre, jumps: list[float]) -> tuple[RunController, dict[str, Any]]:
    """A run that is healed, loses its coordinator and succeeds, while the machine's clock is set again and again."""
    setting = iter(jumps)

    def moment(seconds: float) -> None:
        stage.clock.turn(seconds)
        stage.clock.epoch += next(setting, 0.0)

    (a, _), (b, _) = stage.agent("a", 0), stage.agent("b", 1)
    agents = [a, b]

    def train(run: RunController, g: int, steps: int) -> None:
        for rank, agent in enumerate(agents):
            WireMessages(run).worker(agent, {"g": g, "rank": rank, "state": "running", "pid": 7, "t": 1.0})
        for step in (1, steps - 1, steps):
            moment(0.25)
            for rank, agent in enumerate(agents):
                agent.heard = stage.clock.now
                WireMessages(run).beat(agent, [pulse(rank, step, g=g, first=0.0)])
                run.output.append((g, rank), agent.node, run.journal.clock.now(), 0, f"step {step}\n")
                text = f'{{"kind": "step", "step": {step}, "t": {stage.clock.unix()}}}\n'
                run.progress.append(g, rank, agent.node, run.progress.offsets.get((g, rank), 0), text)

    def fail(run: RunController, g: int) -> None:
        t = stage.clock.now - 0.125  # as the agent says it, on its own monotonic clock
        WireMessages(run).worker(b, exited(1, None, g=g, signal=9, t=t))
        moment(0.25)
        WireMessages(run).worker(a, exited(0, None, g=g, signal=9, killed=True, t=t))
        for agent in agents:
            WireMessages(run).idle(agent, g, 20_002)
            WireMessages(run).drained(agent, g)

    def first(run: RunController) -> None:
        for agent in agents:
            agent.clock = run.journal.clock.now() - stage.clock.now
            join(run, agent)
        train(run, 1, 100)
        fail(run, 1)
        moment(1.0)
        train(run, 2, 120)
        moment(1.0)

    def second(run: RunController) -> None:
        for agent in agents:
            agent.channel = stage.agent("x")[1]  # type: ignore[assignment]
            agent.clock = run.journal.clock.now() - stage.clock.now
            join(run, agent)
        moment(1.0)
        fail(run, 2)
        moment(1.0)
        train(run, 3, 150)
        for rank, agent in enumerate(agents):
            WireMessages(run).worker(agent, exited(rank, g=3, t=stage.clock.now))
            WireMessages(run).idle(agent, 3, 20_003)
            WireMessages(run).drained(agent, 3)
        moment(5.0)

    run = stage.make()
    stage.play(lambda: first(run))
    stage.forget()
    moment(2.0)
    run = stage.make()
    stage.play(lambda: second(run))
    return run, dump(status(run))


@pytest.mark.parametrize(
    "jumps",
    [
        *([0.0] * n + [jump] for jump in (-HOUR, HOUR) for n in (0, 3, 4, 9, 14, 20)),
        [HOUR, -HOUR, -HOUR, HOUR] * 8,
    ],
)
def test_a_run_whose_machine_is_set_to_another_time_tells_the_same_story(
    tmp_path: Path, make_stage: Callable[[Path], Theatre], jumps: list[float]
) -> None:
    (tmp_path / "still").mkdir()
    still, told = lived(make_stage(tmp_path / "still"), [])
    (tmp_path / "set").mkdir()
    moved, told_there = lived(make_stage(tmp_path / "set"), jumps)
    assert moved.journal.events == still.journal.events
    assert told_there["recoveries"][0]["seconds"] < 5.0
    places = [str(run.place.storage.root) for run in (still, moved)]
    assert str(told).replace(places[0], "") == str(told_there).replace(places[1], "")
    assert moved.output.path.read_text() == still.output.path.read_text()


def test_an_agents_clock_is_known_by_the_message_that_was_quickest() -> None:
    offset = _clock(1000.4)
    for seen in (1000.9, 1000.1, 1000.3):
        offset = _clock(seen, offset)
    assert 1000.1 <= offset <= 1000.11


def test_a_worker_that_dies_while_the_clock_is_set_has_not_died_an_hour_ago(
    tmp_path: Path,
) -> None:
    clock = HandClock()
    document = '{"message": {"message": "ValueError: x", "extraInfo": {"timestamp": "%s"}}}'
    (tmp_path / "error").write_text(document % (clock.unix() - 2.0))
    os.utime(tmp_path / "error", (clock.unix() - 2.0,) * 2)
    found = read_error(tmp_path / "error", clock)
    assert found is not None and found.time == clock.now - 2.0
    for jump in (HOUR, -2 * HOUR):
        clock.epoch += jump
        found = read_error(tmp_path / "error", clock)
        assert found is not None and clock.now - 60.0 <= found.time <= clock.now
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_a_snapshots_age_is_counted_by_its_node_and_survives_a_clock_that_is_set(
    tmp_path: Path, hand: HandClock, jump: float
) -> None:
    stamp = module.stamp(hand)
    manifest: dict[str, Any] = {"format": 3, "fence": 1, "step": 7, "epoch": 0, "world_size": 1, "bytes": 1}
    manifest |= {"file": "g0001-s000000007-aa.pt", "sha256": "aa", "time": stamp["unix"], "stamp": stamp}
    manifest |= {"run": "t.1", "generation": 1, "weights": "ab"}
    (tmp_path / manifest["file"]).write_bytes(b"x")
    (tmp_path / "g0001-s000000007.json").write_text(json.dumps(manifest))
    hand.turn(40.0)
    hand.epoch += jump
    (found,) = snapshots.listed(tmp_path, "a", "disk", hand)
    assert (found.damage, found.age) == ("", 40.0)
    assert module.age(stamp | {"boot": "another"}, hand) == max(0.0, 40.0 + jump)


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_the_health_check_does_not_look_at_the_time_of_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    bundle, mark, clock = tmp_path / "bundle.zip", tmp_path / "mark", HandClock()
    bundle.touch()
    monkeypatch.setattr(alive, "_MARK", mark)
    monkeypatch.setattr(names, "BUNDLE", str(bundle))
    assert alive.main([], clock) == 1
    alive.beat(clock)
    clock.epoch += jump
    clock.turn(29.0)
    assert alive.main([], clock) == 0
    clock.turn(2.0)
    assert alive.main([], clock) == 1  # the loop hangs, whatever time it is
    clock.now = 5.0  # the machine was started anew
    assert alive.main([], clock) == 1


def test_the_latest_run_of_a_job_is_that_of_the_highest_number() -> None:
    """A client whose clock was set back in between asks for `digits`."""
    runs = [Found("digits", 1, "swarm", created=9000.0), Found("digits", 2, "swarm", created=5400.0)]
    other = Found("digits", 1, "local", created=7000.0)
    assert in_order([*runs, other]) == [other, *runs]
    assert in_order([runs[1], runs[0]])[-1].number == 2


@pytest.mark.parametrize(("moment", "told"), [("13:00:40", True), ("14:00:40", False)])
def test_a_loop_of_exits_is_seen_by_the_managers_clock(
    monkeypatch: pytest.MonkeyPatch, moment: str, told: bool
) -> None:
    """The client's own may be an hour off, or a year."""

    class Manager(Docker):
        def json_lines(self, *args: str, timeout: float | None = None) -> list[dict[str, Any]]:
            return [{"SystemTime": f"2020-11-26T{moment}.123456789Z"}]

    began = tasks.seconds("2020-11-26T13:00:00Z")
    agent = partial(tasks.Task, "t_agent", "agent", 1, created=began, changed=began)
    found = [agent(state="failed", exit_code=3, container="c") for _ in range(2)]
    monkeypatch.setattr(tasks, "read", lambda docker, stack: [*found, agent(state="starting")])
    trouble = SwarmLauncher(Manager()).trouble(Found("t", 1, "swarm"))
    assert ("ended with exit code 3" in trouble.text) is told


def test_moves_of_a_coordinator_are_numbered_by_the_swarm_and_by_no_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second one from a client whose clock was behind was once refused by every agent, for ever."""
    env: list[str] = ["SWARMTRAIN_NODE=x"]

    class Manager(Docker):
        def run(self, *args: str, **options: Any) -> str:
            env[1:] = [args[args.index("--env-add") + 1]]
            return ""

    spec = {"Name": "t-1_coordinator", "TaskTemplate": {"ContainerSpec": {"Env": env}}}
    machine = SimpleNamespace(id="n2", hostname="lab-2", role="manager", state="ready")
    monkeypatch.setattr(tasks, "read", lambda docker, stack: [])
    monkeypatch.setattr(Stack, "model", lambda stack, *roles: {"Spec": spec})
    monkeypatch.setattr(SwarmLauncher, "_node", lambda launcher, name: machine)
    numbers = []
    for _ in range(3):
        SwarmLauncher(Manager()).recover(Found("t", 1, "swarm"), "lab-2")
        numbers.append(env[1])
    assert numbers == [f"SWARMTRAIN_MOVED={number}" for number in (1, 2, 3)]
