"""A run's state, driven as agents drive it; the agents are stand-ins that keep what they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swarmtrain.coordinator.membership import Phase
from swarmtrain.coordinator.peers import Peer
from swarmtrain.coordinator.run import Place, Run
from swarmtrain.coordinator.status import status
from swarmtrain.wire.storage import Storage
from swarmtrain.wire.task import Task, Ticket


class Ear:
    """A channel that remembers what was posted."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []

    def post(self, message: dict[str, Any]) -> None:
        self.heard.append(message)

    def abort(self) -> None:
        pass

    def starts(self) -> list[dict[str, Any]]:
        return [message["start"] for message in self.heard if "start" in message]


def agent(node: str, slot: int = 0, **fields: Any) -> tuple[Peer, Ear]:
    ear = Ear()
    settings: dict[str, Any] = {
        "node": node,
        "node_id": node,
        "incarnation": f"{node}-1",
        "slot": slot,
        "workers": 1,
        "address": f"10.0.0.{slot + 1}",
        "interface": "eth0",
        "why": "a test",
        "port": 20_000,
        "joined": 0.0,
        "heard": 1e12,
        "channel": ear,
    }
    return Peer(**settings | fields), ear


def make(path: Path, nodes: int = 2) -> Run:
    task = Task(name="t", kind="script", target="train.py", nodes_min=nodes, nodes_max=nodes)
    place = Place(Storage(path), "t.1", "t.1", "")
    place.path.mkdir(parents=True, exist_ok=True)
    return Run(task, Ticket("t.1", "token"), place)


def join(run: Run, peer: Peer, states: list[dict[str, Any]] | None = None, generation: int = 0) -> Peer:
    known = run.join(peer, states or [], generation)
    run.tell(known)
    return known


@pytest.fixture
def played(tmp_path: Path) -> Callable[[Callable[[Run], None]], Run]:
    """Plays a scene with a run, inside a loop, and closes its files."""

    def play(scene: Callable[[Run], None]) -> Run:
        run = make(tmp_path)

        async def act() -> None:
            scene(run)

        asyncio.run(act())
        for store in (run.journal, run.output, run.progress):
            store.close()
        return run

    return play


Play = Callable[[Callable[[Run], None]], Run]


def exited(rank: int, code: int | None = 0, **fields: Any) -> dict[str, Any]:
    return {"g": 1, "rank": rank, "state": "exited", "code": code, "signal": None, "t": 5.0, **fields}


def test_a_generation_starts_when_all_are_there_and_ends_when_all_are_done(played: Play) -> None:
    (a, hears_a), (b, hears_b) = agent("a", 0), agent("b", 1)

    def scene(run: Run) -> None:
        join(run, a)
        assert (run.phase, hears_a.starts()) == (Phase.GATHERING, [])
        join(run, b)
        assert run.phase is Phase.RUNNING
        assert [start["ranks"] for start in (*hears_a.starts(), *hears_b.starts())] == [[0], [1]]
        for peer, rank in ((a, 0), (b, 1)):
            run.worker(peer, exited(rank))
            assert run.phase is Phase.RUNNING
            run.idle(peer, 1, 20_001)

    run = played(scene)
    assert status(run)["state"] == "succeeded"
    assert hears_a.heard[-1] == hears_b.heard[-1] == {"end": {"outcome": "succeeded"}}


def test_all_nodes_get_one_backend(played: Play) -> None:
    (a, hears_a), (b, hears_b) = agent("a", 0, backend="nccl", gpus=1), agent("b", 1, backend="gloo")

    def scene(run: Run) -> None:
        join(run, a)
        join(run, b)

    run = played(scene)
    assert [start["backend"] for start in (*hears_a.starts(), *hears_b.starts())] == ["gloo", "gloo"]
    assert "backend gloo: no GPU for every worker on b" in [event["text"] for event in run.journal.events]


def test_an_agent_that_missed_the_start_hears_it_when_it_is_back(played: Play) -> None:
    (a, _), (b, _) = agent("a", 0), agent("b", 1)
    again, hears_again = agent("b", 1)

    def scene(run: Run) -> None:
        join(run, a)
        join(run, b)
        run.left(b)
        join(run, again, generation=0)

    played(scene)
    assert [start["ranks"] for start in hears_again.starts()] == [[1]]


def test_an_agent_that_was_started_anew_starts_nothing_and_the_run_fails(played: Play) -> None:
    (a, _), (b, _) = agent("a", 0), agent("b", 1)
    anew, hears_anew = agent("b", 1, incarnation="b-2")

    def scene(run: Run) -> None:
        join(run, a)
        join(run, b)
        join(run, anew)
        run.worker(a, exited(0, None, killed=True))
        run.idle(a, 1, 20_001)

    run = played(scene)
    assert hears_anew.starts() == []
    assert status(run)["reason"] == "b was lost with rank 1: its agent was started anew"


def test_an_agent_that_comes_back_while_its_workers_start_has_not_failed(played: Play) -> None:
    (a, _), (b, _) = agent("a", 0), agent("b", 1)
    again, _ = agent("b", 1, idle=False)

    def scene(run: Run) -> None:
        join(run, a)
        join(run, b)
        run.left(b)
        join(run, again, [{"g": 1, "rank": 1, "state": "starting", "t": 1.0}], generation=1)
        assert run.phase is Phase.RUNNING

    assert played(scene).failures == []


def test_words_of_an_old_generation_change_nothing(played: Play) -> None:
    (a, _), (b, _) = agent("a", 0), agent("b", 1)

    def scene(run: Run) -> None:
        join(run, a)
        join(run, b)
        run.worker(a, exited(0, 1) | {"g": 0})
        run.idle(a, 0, 1)
        assert run.phase is Phase.RUNNING
        assert not a.idle

    played(scene)


def test_a_run_that_cannot_be_placed_fails_with_the_launchers_reason(played: Play) -> None:
    run = played(lambda run: run.refuse("lab-2 has no image x:1"))
    assert (status(run)["state"], status(run)["reason"]) == ("failed", "lab-2 has no image x:1")


def test_two_machines_of_one_name_are_told_apart(played: Play) -> None:
    (a, _), (twin, _) = agent("pc", 0, node_id="id-1"), agent("pc", 1, node_id="id-2")

    def scene(run: Run) -> None:
        join(run, a)
        assert join(run, twin).node == "pc-2"

    run = played(scene)
    assert sorted(run.peers) == ["pc", "pc-2"]
