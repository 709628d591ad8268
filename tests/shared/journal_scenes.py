"""Runs in the simulated world whose journals hold every kind of event: told again in tests, and kept as fixtures.

``python tests/shared/journal_scenes.py DIRECTORY`` writes their journals as this version does.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hand_clock import HandClock
from run_fakes import Theatre, WireMessages, exited, join, theatre
from world_fakes import Phase, World

from swarmtrain.coordinator.clients import actions
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.protocol.facts import Outcome
from swarmtrain.protocol.journal import events, remarks
from swarmtrain.protocol.journal.remarks import Warned

Scene = Callable[[Theatre], None]
SCENES: dict[str, Scene] = {}


def scene(play: Scene) -> Scene:
    """Name a scene by its function."""
    SCENES[play.__name__.replace("_", "-")] = play
    return play


def _ends(it: World, seconds: float = 900.0) -> None:
    assert it.until(seconds, lambda: it.run.phase is Phase.ENDED), it.run.phase


def _trains(it: World, steps: int = 50) -> None:
    g = it.run.current.generation.number
    assert it.until(120.0, lambda: it.steps.get(it.run.current.generation.number, 0) >= steps), g


def _next_trains(it: World) -> None:
    g = it.run.current.generation.number
    assert it.until(300.0, lambda: it.run.current.generation.number > g and it.trains_on > 0)


@scene
def healthy(stage: Theatre) -> None:
    _ends(World(stage, 2, nodes_min=2, nodes_max=2, goal=100))


@scene
def worker_killed(stage: Theatre) -> None:
    it = World(stage, 2, nodes_min=2, nodes_max=2, goal=400)
    _trains(it)
    it.do("crash", it.nodes[1])
    _ends(it)


@scene
def node_lost_and_back(stage: Theatre) -> None:
    it = World(stage, 3, nodes_min=2, nodes_max=3, goal=1500)
    _trains(it)
    it.do("power", it.nodes[0])
    _next_trains(it)
    it.do("lift", it.nodes[0])
    _ends(it)


@scene
def agent_started_anew(stage: Theatre) -> None:
    it = World(stage, 2, nodes_min=2, nodes_max=2, goal=300, can_pause=False)
    _trains(it)
    it.do("die", it.nodes[1])
    _ends(it)


@scene
def resized(stage: Theatre) -> None:
    it = World(stage, 4, nodes_min=2, nodes_max=4)
    _trains(it)
    it.do("resize", it.nodes[1])
    _next_trains(it)
    it.do("resize", it.nodes[3])
    _next_trains(it)
    it.do("stop", it.nodes[0])
    _ends(it)


@scene
def does_not_pause(stage: Theatre) -> None:
    it = World(stage, 3, nodes_min=2, nodes_max=3, goal=4000)
    _trains(it)
    it.do("jam", it.nodes[0])
    it.do("resize", it.nodes[1])
    it.until(100.0, lambda: it.run.journal.last(Warned) is not None)
    it.do("jam", it.nodes[0])
    _ends(it)


@scene
def node_told_to_leave(stage: Theatre) -> None:
    it = World(stage, 3, nodes_min=2, nodes_max=3, goal=800)
    _trains(it)
    it.do("leave", it.nodes[2])
    _next_trains(it)
    _ends(it)


@scene
def hangs(stage: Theatre) -> None:
    it = World(stage, 2, nodes_min=2, nodes_max=2, goal=600)
    it.run.progress.saves = True
    _trains(it)
    it.hangs_until = it.clock.now + 400.0
    it.until(390.0, lambda: it.run.current.generation.number > 1)
    it.hangs_until = 0.0
    _ends(it)


@scene
def stopped_while_it_trains(stage: Theatre) -> None:
    it = World(stage, 2, nodes_min=2, nodes_max=2)
    _trains(it)
    it.do("stop", it.nodes[0])
    _ends(it)


@scene
def stopped_before_it_began(stage: Theatre) -> None:
    it = World(stage, 2, nodes_min=4, nodes_max=4)
    for _ in range(4):
        it.beat()
    it.do("stop", it.nodes[0])
    _ends(it)


@scene
def stopped_between_two_generations(stage: Theatre) -> None:
    it = World(stage, 2, nodes_min=2, nodes_max=2)
    _trains(it)
    it.do("power", it.nodes[1])
    assert it.until(60.0, lambda: it.run.phase is Phase.GATHERING)
    it.do("stop", it.nodes[0])
    _ends(it)


@scene
def fails_at_its_start(stage: Theatre) -> None:
    it = World(stage, 2, nodes_min=2, nodes_max=2)
    it.until(20.0, lambda: it.nodes[1].live)
    it.do("raise", it.nodes[1])
    _ends(it)


@scene
def fails_again_and_again(stage: Theatre) -> None:
    it = World(stage, 2, nodes_min=2, nodes_max=2)
    while it.run.phase is not Phase.ENDED:
        it.beat()
        rank = it.nodes[1].live[0] if it.nodes[1].live else None
        if rank is not None and it.steps.get(rank.g, 0) >= 60:
            rank.ended, rank.code, rank.error = True, 1, "ValueError: always"


@scene
def node_that_keeps_dying(stage: Theatre) -> None:
    it = World(stage, 3, nodes_min=2, nodes_max=3, max_restarts=4)
    b = it.nodes[1]
    while it.run.phase is not Phase.ENDED and it.clock.now < 50_900.0:
        it.beat()
        if b.live and it.clock.now > b.live[0].born + 1.5:
            it.do("die", b)
    actions.stop(it.run)
    _ends(it)


@scene
def without_restarts(stage: Theatre) -> None:
    it = World(stage, 2, nodes_min=2, nodes_max=2, restart=False)
    _trains(it)
    it.do("crash", it.nodes[0])
    _ends(it)


@scene
def refused(stage: Theatre) -> None:
    run = stage.make(2)
    actions.refuse(run, "b has no image x:1")


@scene
def coordinator_restarted(stage: Theatre) -> None:
    it = World(stage, 2, nodes_min=2, nodes_max=2, goal=1200)
    it.do("restart", it.nodes[0])
    _trains(it)
    it.do("restart", it.nodes[0])
    _trains(it, 200)
    it.do("crash", it.nodes[0])
    it.beat()
    it.do("restart", it.nodes[0])
    it.until(60.0, lambda: it.run.phase is Phase.STOPPING or it.trains_on)
    it.do("restart", it.nodes[0])
    _next_trains(it) if it.run.current.generation.number == 1 else None
    it.do("power", it.nodes[1])
    assert it.until(60.0, lambda: it.run.phase is Phase.STOPPING)
    it.do("restart", it.nodes[0])
    assert it.until(60.0, lambda: it.run.phase is Phase.GATHERING)
    it.do("restart", it.nodes[0])
    it.do("lift", it.nodes[1])
    _ends(it)


@scene
def coordinator_moved(stage: Theatre) -> None:
    it = World(stage, 3, nodes_min=2, nodes_max=3, goal=900)
    _trains(it)
    run = it.run
    text = "the coordinator was moved to b, and goes on from what b, c knew"
    run.journal.append(events.CoordinatorMoved(text=text, moved=1, clock=run.journal.origin()))
    it.do("power", it.nodes[0])
    it.do("restart", it.nodes[0])
    _ends(it)


@scene
def coordinator_killed_for_good(stage: Theatre) -> None:
    it = World(stage, 2, nodes_min=2, nodes_max=2)
    _trains(it)
    actions.conclude(it.run, Outcome.FAILED, "its coordinator was killed again and again")


@scene
def told_by_people_and_agents(stage: Theatre) -> None:
    (a, _), (b, _) = stage.agent("a", 0, backend="nccl", gpus=1), stage.agent("b", 1, node_id="id-b")
    twin, _ = stage.agent("b", 2, node_id="id-b2", incarnation="b2-1")
    run = stage.make(2)
    join(run, a)
    WireMessages(run).note(a, "choice", "network eth0: from its address the kernel talks to the coordinator")
    join(run, b)
    WireMessages(run).note(b, "kept", "kept what the run had written over the code: data.txt")
    join(run, twin)
    for rank, peer in ((0, a), (1, b)):
        WireMessages(run).worker(peer, {"g": 1, "rank": rank, "state": "running", "pid": 9, "t": 1.0})
    run.journal.append(remarks.StrangerRefused(text="10.0.0.9 was refused: it does not know the run's token"))
    run.journal.append(remarks.ChaosCaused(text="chaos: kill b"))
    text = "a: no space left; training goes on, with the snapshots there are"
    run.journal.append(remarks.SnapshotFailed(text=text, node="a"))
    run.journal.append(remarks.StragglerSeen(text="b: rank 1 takes 2.0 s a step", rank=1, node="b"))
    WireMessages(run).trouble(twin, "the disk is full")
    WireMessages(run).leaving(b)
    WireMessages(run).worker(
        a, exited(0, 1, error={"summary": "ValueError: x", "traceback": "Traceback:\n  x", "time": 4.0})
    )
    for rank, peer in ((0, a), (1, b)):
        WireMessages(run).worker(peer, exited(rank, None, signal=15, killed=True))
        WireMessages(run).idle(peer, 1, 20_000)
        WireMessages(run).drained(peer, 1)
    stage.clock.turn(20.0)
    run.tick()


def record(name: str, directory: Path) -> Path:
    """Play one scene in a directory; return the journal that it leaves."""
    with pytest.MonkeyPatch.context() as patch:
        stage = theatre(directory, HandClock(), patch)
        try:
            stage.play(lambda: SCENES[name](stage))
        finally:
            stage.close()
    return directory / "runs" / "t.1" / "coordinator" / "journal.jsonl"


def main(target: Path) -> None:
    """Write every scene's journal."""
    target.mkdir(parents=True, exist_ok=True)
    for name in SCENES:
        with tempfile.TemporaryDirectory() as path:
            journal = record(name, Path(path))
            (target / f"{name}.jsonl").write_bytes(journal.read_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]))

__all__ = ["SCENES", "RunController", "record"]
