"""How a training is broken, and what is measured of its going on."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from recover_stamps import Stuck, Whole, largest_gap
from recover_trainings import NODES, Bench, Training

from swarmtrain.lab.node import LabNode
from swarmtrain.launchers.swarm import containers
from swarmtrain.wire.names import COORDINATOR_SERVICE

START_SECONDS = 240.0
STEADY_SECONDS = 8.0  # of steps before a fault
CALM_SECONDS = 15.0  # after the coordinator's end, in which no step may be lost
OFF_SECONDS = 30.0
HANG_SECONDS = 10.0
FULL_SECONDS = 60.0  # to be on all nodes again

# ---- faults: each is done to a training on a node, and returns how to undo it -----------------------------------

Undo = Callable[[], object]
Fault = Callable[[Bench, Training, int], Undo]


def nothing() -> None:
    """There is nothing to undo."""


def kill_worker(bench: Bench, training: Training, index: int) -> Undo:
    pid = training.log.worker_at(index - 1).pid
    docker = bench.lab.node(index).docker
    (container,) = containers.running(docker, training.stack)
    docker.run("exec", container, "sh", "-c", f"kill -KILL {pid}")
    return nothing


def kill_container(bench: Bench, training: Training, index: int) -> Undo:
    docker = bench.lab.node(index).docker
    (container,) = containers.running(docker, training.stack)
    docker.run("kill", "--signal", "KILL", container)
    return nothing


def freeze(bench: Bench, training: Training, index: int) -> Undo:
    node = bench.lab.node(index)
    node.pause()
    return node.unpause


def power_off(bench: Bench, training: Training, index: int) -> Undo:
    node = bench.lab.node(index)
    node.kill()
    return lambda: power_on(node)


def power_on(node: LabNode) -> None:
    if node.machine() != "running":
        node.start()


def hang(bench: Bench, training: Training, index: int) -> Undo:
    pattern = bench.lab.names.node_directory(index) / "bench"
    for directory in pattern.iterdir():
        (directory / "hang").touch()
    return nothing


# ---- measurements -----------------------------------------------------------------------------------------------


@dataclass
class Found:
    """One measurement. `seconds` is None when training did not go on within the limit."""

    case: str
    round: int = 0
    seconds: float | None = None
    full_seconds: float | None = None  # until all nodes took part again, where that was waited for
    limit: float = 0.0
    as_wanted: bool = True
    note: str = ""
    step_seconds: float = 0.0
    load: float = 0.0
    journal: list[dict[str, Any]] = field(default_factory=list)


def recovery(bench: Bench, training: Training, fault: Fault, index: int, limit: float) -> Found:
    """From the last step of all ranks before a fault to the first one after it."""
    last = training.log.steady(NODES, STEADY_SECONDS, START_SECONDS, training.alive)
    begun = time.time()
    undo = fault(bench, training, index)
    try:
        following = training.log.next_attempt(last, limit)
    finally:
        undo()
    last = training.log.last_of(last.attempt)
    if last.t < begun - 1.0:
        raise Stuck(f"training stood still {begun - last.t:.1f} s before the fault")
    found = _found(training, last, following, last.t, limit)
    if following and fault is kill_container:  # of which Swarm starts another one
        full = training.log.next_attempt(last, FULL_SECONDS, NODES)
        found.full_seconds = full.t - last.t if full else None
        found.note += f", all {NODES} after {found.full_seconds:.1f} s" if full else ", never all again"
    return found


def hung(bench: Bench, training: Training, fault: Fault, index: int, limit: float) -> Found:
    """The same, and whether the journal names the rank that hung."""
    found = recovery(bench, training, fault, index, limit)
    (rank,) = {
        stamp.rank for stamp in training.log.stamps() if stamp.place == index - 1 and stamp.world == NODES
    }
    named = [event["text"] for event in training.journal() if event["kind"] in ("failure", "stall")]
    if not any(f"rank {rank} " in text and "hang_here" in text for text in named):
        found.as_wanted, found.note = False, f"rank {rank} is not named: {named}"
    else:
        found.note = "the rank and its line are named"
    return found


def coordinator_killed(bench: Bench, training: Training, fault: Fault, index: int, limit: float) -> Found:
    """The longest time between two steps while the coordinator is away and comes back; no step may be lost."""
    last = training.log.steady(NODES, 2 * STEADY_SECONDS, START_SECONDS, training.alive)
    containers.kill(bench.docker, training.handle.run, COORDINATOR_SERVICE)  # type: ignore[attr-defined]
    killed = time.time()
    time.sleep(CALM_SECONDS)
    kinds = [event["kind"] for event in training.journal()]
    steps = training.log.whole()
    end = steps[-1].t if time.time() - steps[-1].t < limit else time.time()
    before = largest_gap([s for s in steps if s.attempt == last.attempt], killed - CALM_SECONDS, killed)
    gap = largest_gap(steps, killed, end)
    attempts = {step.attempt for step in steps}
    made = sorted(step.step for step in steps)
    is_whole = len(attempts) == 1 and made == list(range(made[0], made[0] + len(made)))
    is_back = "coordinator" in kinds and kinds.count("generation") == 1
    found = Found("", seconds=gap, limit=limit, as_wanted=is_whole and is_back)
    found.step_seconds = _usual(training, last)
    found.note = f"longest gap between steps; {before:.2f} s in the time before"
    found.note += "; no step lost" if is_whole else f"; STEPS LOST, {len(attempts)} attempts"
    found.note += "" if is_back else f"; journal: {kinds}"
    return found


def coordinator_off(bench: Bench, training: Training, fault: Fault, index: int, limit: float) -> Found:
    """From the start of the coordinator's machine, off for 30 s, to the first step of all ranks."""
    last = training.log.steady(NODES, STEADY_SECONDS, START_SECONDS, training.alive)
    undo = power_off(bench, training, 1)
    try:
        time.sleep(OFF_SECONDS)
        early = training.log.next_attempt(last, 0)
    finally:
        began = time.time()
        undo()
    following = training.log.next_attempt(last, limit)
    found = _found(training, training.log.last_of(last.attempt), following, began, limit)
    if early:
        found.as_wanted, found.note = False, "it went on while the coordinator was away"
    return found


def _found(training: Training, last: Whole, following: Whole | None, since: float, limit: float) -> Found:
    found = Found("", limit=limit, step_seconds=_usual(training, last))
    if following:
        found.seconds = following.t - since
        again = last.step + 1 - following.step
        found.note = f"on {following.world} nodes, {again} steps made again"
        if again < -1:  # one more may have been made without being written down by all
            found.as_wanted, found.note = False, f"{-again} steps were left out"
    return found


def _usual(training: Training, last: Whole) -> float:
    times = [step.t for step in training.log.whole() if step.attempt == last.attempt]
    return statistics.median(late - early for early, late in itertools.pairwise(times))
