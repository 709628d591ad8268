"""A run's state, driven as agents drive it; the agents are stand-ins that keep what they are told."""

from __future__ import annotations

import asyncio

import pytest
from run_fakes import Theatre, WireMessages, exited, join, phase

from swarmtrain.coordinator.clients import actions
from swarmtrain.coordinator.clients.status import status
from swarmtrain.coordinator.core.model import Phase
from swarmtrain.coordinator.run import cold_starts
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.protocol.journal.events import GenerationFailed
from swarmtrain.protocol.journal.remarks import StartsCold


def test_a_generation_starts_when_all_are_there_and_ends_when_all_are_done(stage: Theatre) -> None:
    (a, hears_a), (b, hears_b) = stage.agent("a", 0), stage.agent("b", 1)
    run = stage.make()

    def scene() -> None:
        join(run, a)
        assert (run.phase, hears_a.starts()) == (Phase.GATHERING, [])
        join(run, b)
        assert phase(run) is Phase.RUNNING
        assert [start["ranks"] for start in (*hears_a.starts(), *hears_b.starts())] == [[0], [1]]
        for peer, rank in ((a, 0), (b, 1)):
            WireMessages(run).worker(peer, exited(rank))
            WireMessages(run).idle(peer, 1, 20_001)
            assert phase(run) is Phase.RUNNING  # until what they wrote is here
        WireMessages(run).drained(a, 1)
        WireMessages(run).drained(b, 1)

    stage.play(scene)
    assert status(run).state == "succeeded"
    assert hears_a.heard[-1] == hears_b.heard[-1] == {"end": {"outcome": "succeeded"}}


def test_all_nodes_get_one_backend(stage: Theatre) -> None:
    (a, hears_a), (b, hears_b) = (
        stage.agent("a", 0, backend="nccl", gpus=1),
        stage.agent("b", 1, backend="gloo"),
    )
    run = stage.make()

    def scene() -> None:
        join(run, a)
        join(run, b)

    stage.play(scene)
    assert [start["backend"] for start in (*hears_a.starts(), *hears_b.starts())] == ["gloo", "gloo"]
    assert "backend gloo: no GPU for every worker on b" in [event.text for event in run.journal.events]


def test_an_agent_that_missed_the_start_hears_it_when_it_is_back(stage: Theatre) -> None:
    (a, _), (b, _) = stage.agent("a", 0), stage.agent("b", 1)
    again, hears_again = stage.agent("b", 1)
    run = stage.make()

    def scene() -> None:
        join(run, a)
        join(run, b)
        WireMessages(run).left(b)
        join(run, again)

    stage.play(scene)
    assert [start["ranks"] for start in hears_again.starts()] == [[1]]


def test_an_agent_that_was_started_anew_starts_nothing_of_the_old_generation(stage: Theatre) -> None:
    (a, hears_a), (b, _) = stage.agent("a", 0), stage.agent("b", 1)
    anew, hears_anew = stage.agent("b", 1, incarnation="b-2")
    run = stage.make()

    def scene() -> None:
        join(run, a)
        join(run, b)
        join(run, anew)
        assert phase(run) is Phase.STOPPING
        assert hears_anew.starts() == []
        WireMessages(run).worker(a, exited(0, None, killed=True))
        WireMessages(run).idle(a, 1, 20_001)
        assert phase(run) is Phase.RUNNING

    stage.play(scene)
    assert [start["g"] for start in hears_a.starts()] == [1, 2]
    assert [start["g"] for start in hears_anew.starts()] == [2]
    failures = [event.text for event in run.journal.all(GenerationFailed)]
    assert failures == ["b was lost with rank 1: its agent was started anew"]


def test_without_restarts_a_lost_agent_ends_the_run(stage: Theatre) -> None:
    (a, hears_a), (b, _) = stage.agent("a", 0), stage.agent("b", 1)
    anew, hears_anew = stage.agent("b", 1, incarnation="b-2")
    run = stage.make(restart=False)

    def scene() -> None:
        join(run, a)
        join(run, b)
        join(run, anew)
        WireMessages(run).worker(a, exited(0, None, killed=True))
        WireMessages(run).idle(a, 1, 20_001)
        WireMessages(run).drained(a, 1)

    stage.play(scene)
    assert hears_anew.starts() == []
    assert hears_a.heard[-1] == {"end": {"outcome": "failed"}}
    assert status(run).reason == "b was lost with rank 1: its agent was started anew"


def test_an_agent_that_comes_back_while_its_workers_start_has_not_failed(stage: Theatre) -> None:
    (a, _), (b, _) = stage.agent("a", 0), stage.agent("b", 1)
    again, _ = stage.agent("b", 1, idle=False, drained=False, generation=1)
    run = stage.make()

    def scene() -> None:
        join(run, a)
        join(run, b)
        WireMessages(run).left(b)
        join(run, again, [{"g": 1, "rank": 1, "state": "starting", "t": 1.0}])
        assert phase(run) is Phase.RUNNING

    stage.play(scene)
    assert run.current.failures == ()


def test_an_agent_is_welcomed_before_it_hears_what_follows_from_its_workers_ends(stage: Theatre) -> None:
    (a, _), (b, _) = stage.agent("a", 0), stage.agent("b", 1)
    again, hears = stage.agent("b", 1, incarnation="b-1", idle=True, drained=True, generation=1)
    run = stage.make()

    def scene() -> None:
        join(run, a)
        join(run, b)
        WireMessages(run).left(b)
        join(run, again, [exited(1, None, signal=9)])
        assert phase(run) is Phase.STOPPING

    stage.play(scene)
    assert [next(iter(message)) for message in hears.heard][:2] == ["welcome", "stop"]


def test_words_of_an_old_generation_change_nothing(stage: Theatre) -> None:
    (a, _), (b, _) = stage.agent("a", 0), stage.agent("b", 1)
    run = stage.make()

    def scene() -> None:
        join(run, a)
        join(run, b)
        WireMessages(run).worker(a, exited(0, 1) | {"g": 0})
        WireMessages(run).idle(a, 0, 1)
        assert phase(run) is Phase.RUNNING
        assert not a.idle

    stage.play(scene)


def test_a_run_that_cannot_be_placed_fails_with_the_launchers_reason(stage: Theatre) -> None:
    run = stage.make()
    stage.play(lambda: actions.refuse(run, "lab-2 has no image x:1"))
    assert (status(run).state, status(run).reason) == ("failed", "lab-2 has no image x:1")


def test_two_machines_of_one_name_are_told_apart(stage: Theatre) -> None:
    (a, _), (twin, _) = stage.agent("pc", 0, node_id="id-1"), stage.agent("pc", 1, node_id="id-2")
    run = stage.make()

    def scene() -> None:
        join(run, a)
        assert join(run, twin).node == "pc-2"

    stage.play(scene)
    assert sorted(run.members.connected) == ["pc", "pc-2"]


def test_why_workers_start_cold_is_said_once_a_run(stage: Theatre, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all ranks together, each reason once, also by a coordinator that is started again."""
    monkeypatch.setattr(cold_starts, "GATHER", 0.0)
    run = stage.make()

    async def act(run: RunController, *reasons: str) -> None:
        agents = [join(run, stage.agent(node, slot)[0]) for slot, node in enumerate("ab")]
        for why in reasons:
            for rank, peer in enumerate(agents):
                WireMessages(run).worker(
                    peer, {"g": 1, "rank": rank, "state": "running", "t": 1.0, "cold": why}
                )
            await asyncio.sleep(0.001)

    asyncio.run(act(run, "it writes output", "it writes output"))
    stage.forget()
    run = stage.make()
    asyncio.run(act(run, "it writes output", "it makes a file"))
    said = [event.text for event in run.journal.all(StartsCold)]
    assert said == ["2 of 2 ranks start cold: it writes output", "2 of 2 ranks start cold: it makes a file"]
