"""A run under words that nobody should say, and rebuilt from its journal at every point."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from drawn import examples
from hand_clock import HandClock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run_fakes import Theatre, WireMessages, exited, join, pulse, theatre
from world_fakes import Phase, World

from swarmtrain.coordinator.clients import actions
from swarmtrain.coordinator.clients.status import status
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.protocol.facts import Outcome
from swarmtrain.protocol.journal.events import Ended
from swarmtrain.wire.disk.records import parse

JOURNALS = Path(__file__).with_name("fixtures") / "journals" / "0.1"


@contextmanager
def staged() -> Iterator[Theatre]:
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=base) as path, pytest.MonkeyPatch.context() as patch:
        stage = theatre(Path(path), HandClock(), patch)
        try:
            yield stage
        finally:
            stage.close()


NODE = st.sampled_from("abc")
NUMBER = st.integers(0, 3)  # of a generation, or of a rank
WORDS = st.one_of(
    st.tuples(st.just("join"), NODE, st.integers(1, 2), NUMBER, st.booleans(), st.booleans()),
    st.tuples(st.just("left"), NODE),
    st.tuples(st.just("running"), NODE, NUMBER, NUMBER),
    st.tuples(st.just("exited"), NODE, NUMBER, NUMBER, st.sampled_from([0, 1, None]), st.booleans()),
    st.tuples(st.just("idle"), NODE, NUMBER),
    st.tuples(st.just("drained"), NODE, NUMBER),
    st.tuples(st.just("beat"), NODE, NUMBER, NUMBER, st.integers(0, 9)),
    st.tuples(st.just("leaving"), NODE),
    st.tuples(st.just("trouble"), NODE),
    st.tuples(st.just("stacks"), NODE, NUMBER),
    st.tuples(st.just("resize"), NUMBER),
    st.tuples(st.just("turn"), st.sampled_from([0.1, 1.0, 3.9, 61.0])),
    st.tuples(st.just("again")),
)


def say(run: RunController, stage: Theatre, words: tuple[Any, ...]) -> None:
    """One message of an agent, whether it makes sense or not."""
    kind, *rest = words
    if kind == "turn":
        stage.clock.turn(rest[0])
        return run.tick()
    if kind == "resize":
        return actions.resize(run, rest[0])
    node = rest[0]
    if kind == "join":
        _, life, generation, idle, warm = rest
        peer, _ = stage.agent(
            node, incarnation=f"{node}-{life}", generation=generation, idle=idle, drained=idle, warm=warm
        )
        if not run.members.replaced(peer):
            join(run, peer, [] if idle else [exited(0, 1, g=generation)])
        return None
    peer = run.members.connected.get(node)  # type: ignore[assignment]
    if peer is None:
        return None
    peer.heard = stage.clock.now
    if kind == "left":
        WireMessages(run).left(peer)
    elif kind == "running":
        WireMessages(run).worker(
            peer, {"g": rest[1], "rank": rest[2], "state": "running", "pid": 1, "t": 1.0}
        )
    elif kind == "exited":
        _, g, rank, code, killed = rest
        signal = 9 if code is None else None
        WireMessages(run).worker(peer, exited(rank, code, g=g, signal=signal, killed=killed))
    elif kind == "idle":
        WireMessages(run).idle(peer, rest[1], 20_000)
    elif kind == "beat":
        WireMessages(run).beat(peer, [pulse(rest[2], rest[3], g=rest[1])])
    elif kind == "stacks":
        WireMessages(run).stacks(peer, {"g": rest[1], "ranks": {"0": {"stack": "", "state": "S"}}})
    elif kind == "drained":
        WireMessages(run).drained(peer, rest[1])
    elif kind == "leaving":
        WireMessages(run).leaving(peer)
    elif kind == "trouble":
        WireMessages(run).trouble(peer, "no disk")
    return None


@settings(
    max_examples=examples(60),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(script=st.lists(WORDS, max_size=40))
def test_no_words_of_agents_break_a_run(script: list[tuple[Any, ...]]) -> None:
    sizes: dict[str, Any] = {"nodes_min": 1, "nodes_max": 3, "max_restarts": 3}
    with staged() as stage:
        runs = [stage.make(1, **sizes)]

        def scene() -> None:
            for node in "ab":
                join(runs[-1], stage.agent(node)[0])
            stage.clock.turn(3.1)
            runs[-1].tick()
            for words in script:
                if words[0] == "again":
                    stage.forget()
                    runs.append(stage.make(1, **sizes))
                    runs[-1].settle()
                else:
                    say(runs[-1], stage, words)
                document = status(runs[-1])
                assert (document.state in ("succeeded", "failed", "stopped")) is (
                    runs[-1].phase is Phase.ENDED
                )
            run = runs[-1]
            actions.stop(run)
            for _ in range(60):
                stage.clock.turn(2.0)
                run.tick()
            assert run.phase is Phase.ENDED
            assert len(run.journal.all(Ended)) == 1
            assert run.state.reason or run.state.outcome is Outcome.SUCCEEDED

        stage.play(scene)


SCRIPT = [
    *(("crash", 1, 12), ("die", 2, 1), ("leave", 0, 12), ("freeze", 1, 40), ("lift", 1, 5)),
    *(("resize", 1, 12), ("power", 0, 40), ("resize", 2, 3), ("lift", 0, 30)),
]


def test_a_run_goes_on_from_every_point_of_its_journal() -> None:
    """As after a power cut of the whole room: its agents are new, and only their disks know anything."""
    sizes: dict[str, Any] = {"nodes_min": 2, "nodes_max": 3, "goal": 900}
    with staged() as stage:
        it = World(stage, 3, **sizes)

        def whole() -> None:
            for action, node, beats in SCRIPT:
                it.do(action, it.nodes[node])
                for _ in range(beats):
                    it.beat()
            it.until(600.0, lambda: it.run.phase is Phase.ENDED)

        stage.play(whole)
        lines = it.run.journal.path.read_bytes().splitlines(keepends=True)
        clock = stage.clock
    assert len(lines) > 40
    assert it.run.state.outcome is Outcome.SUCCEEDED
    for count in range(1, len(lines) + 1):
        rest = gone_on(lines[:count], clock.now, **sizes | {"goal": 100})
        assert rest.run.state.outcome is Outcome.SUCCEEDED, (count, rest.run.state.reason)
        assert rest.run.current.generation.number <= it.run.current.generation.number + 3


def gone_on(lines: list[bytes], now: float, **sizes: Any) -> World:
    """A coordinator goes on from these lines of a journal until the run has ended; its agents are new."""
    with staged() as stage, redirect_stderr(StringIO()):
        stage.clock.now = now
        journal = stage.path / "runs" / "t.1" / "coordinator" / "journal.jsonl"
        journal.parent.mkdir(parents=True)
        journal.write_bytes(b"".join(lines))
        rest = World(stage, 3, **sizes)

        def goes_on() -> None:
            for node in rest.nodes:
                node.lives = 9
            rest.run.settle()
            assert rest.until(1_200.0, lambda: rest.run.phase is Phase.ENDED)

        stage.play(goes_on)
        return rest


@pytest.mark.parametrize("name", ["worker-killed", "coordinator-moved", "damaged-lines"])
def test_a_run_of_an_earlier_version_is_gone_on_with_from_every_point_of_its_journal(name: str) -> None:
    lines = (JOURNALS / f"{name}.jsonl").read_bytes().splitlines(keepends=True)
    for count in range(1, len(lines) + 1):
        rest = gone_on(lines[:count], 51_000.0, nodes_min=2, nodes_max=3, goal=100)
        assert rest.run.state.outcome is Outcome.SUCCEEDED, (count, rest.run.state.reason)
        kept = [event for line in lines[:count] if (event := parse(line)) is not None]
        assert all(event in [known.dump() for known in rest.run.journal.events] for event in kept)
