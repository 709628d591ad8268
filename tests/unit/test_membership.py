"""The decisions of a run, as a table of cases."""

from __future__ import annotations

import dataclasses

import pytest

from swarmtrain.coordinator.membership import (
    Decision,
    End,
    Form,
    Lose,
    Member,
    Outcome,
    Phase,
    Policy,
    Stop,
    View,
    Wait,
    decide,
    form,
    missing,
)

THREE = Policy(nodes_min=3, nodes_max=3)
ELASTIC = Policy(nodes_min=2, nodes_max=4, last_call=3.0)
NAMED = Policy(nodes_min=2, nodes_max=2, names=("zoe", "amy"))


def member(node: str, slot: int = 0, *, workers: int = 1, **fields: object) -> Member:
    base = Member(node, slot, workers, f"10.0.0.{slot + 1}", 20_000 + slot, joined=10.0)
    return dataclasses.replace(base, **fields)  # type: ignore[arg-type]


A, B, C = member("a", 1), member("b", 2), member("c", 3)


def gathering(*members: Member, **fields: object) -> View:
    return dataclasses.replace(View(Phase.GATHERING, members, deadline=100.0), **fields)  # type: ignore[arg-type]


def running(*members: Member, **fields: object) -> View:
    busy = tuple(dataclasses.replace(each, idle=False) for each in members)
    nodes = frozenset(each.node for each in members)
    view = View(Phase.RUNNING, busy, deadline=100.0, taking_part=nodes)
    return dataclasses.replace(view, **fields)  # type: ignore[arg-type]


CASES: dict[str, tuple[View, Policy, float, Decision | type]] = {
    "nobody is there yet": (gathering(), THREE, 11.0, Wait(100.0)),
    "one is missing": (gathering(A, B), THREE, 11.0, Wait(100.0)),
    "all are there": (gathering(A, B, C), THREE, 11.0, Form),
    "one that still has old workers does not count": (
        gathering(A, B, dataclasses.replace(C, idle=False)),
        THREE,
        11.0,
        Wait(100.0),
    ),
    "one that is gone does not count": (
        gathering(A, B, dataclasses.replace(C, gone=10.5)),
        THREE,
        11.0,
        Wait(100.0),
    ),
    "the deadline passes": (
        gathering(A, B),
        THREE,
        100.0,
        End(Outcome.FAILED, "2 of 3 nodes joined (a, b)"),
    ),
    "the deadline passes with enough for an elastic run": (gathering(A, B), ELASTIC, 100.0, Form),
    "an elastic run waits a moment for more": (gathering(A, B), ELASTIC, 11.0, Wait(13.0)),
    "an elastic run starts with what came": (gathering(A, B), ELASTIC, 13.0, Form),
    "stopped before it began": (
        gathering(A, stop_asked=True),
        THREE,
        11.0,
        End(Outcome.STOPPED, "stopped before the training began"),
    ),
    "an agent cannot do its part": (gathering(A, failed=True), THREE, 11.0, End(Outcome.FAILED)),
    "training goes on": (running(A, B, C), THREE, 50.0, Wait(None)),
    "a rank failed": (running(A, B, C, failed=True), THREE, 50.0, Stop()),
    "a person stops it": (running(A, B, C, stop_asked=True), THREE, 50.0, Stop()),
    "a connection closed a moment ago": (
        running(A, dataclasses.replace(B, gone=49.0)),
        THREE,
        50.0,
        Wait(51.0),
    ),
    "a connection closed and nobody came back": (
        running(A, dataclasses.replace(B, gone=49.0)),
        THREE,
        51.0,
        Lose(("b",)),
    ),
    "a spectator going away is nobody's loss": (
        running(A, B, members=(*running(A, B).members, dataclasses.replace(C, gone=1.0))),
        THREE,
        50.0,
        Wait(None),
    ),
    "all ranks are done but their output is not here yet": (
        running(A, B, finished=True),
        THREE,
        50.0,
        Wait(None),
    ),
    "all ranks are done": (
        running(A, B, finished=True, members=(A, B)),
        THREE,
        50.0,
        End(Outcome.SUCCEEDED),
    ),
    "stopping takes its time": (
        running(A, B, phase=Phase.STOPPING, failed=True, stopping_until=60.0),
        THREE,
        50.0,
        Wait(60.0),
    ),
    "stopping does not take for ever": (
        running(A, B, phase=Phase.STOPPING, failed=True, stopping_until=60.0),
        THREE,
        60.0,
        End(Outcome.FAILED),
    ),
    "everybody has stopped": (
        running(A, B, phase=Phase.STOPPING, failed=True, stopping_until=60.0, members=(A, B)),
        THREE,
        50.0,
        End(Outcome.FAILED),
    ),
    "everybody has stopped as a person wanted": (
        running(A, B, phase=Phase.STOPPING, stop_asked=True, stopping_until=60.0, members=(A, B)),
        THREE,
        50.0,
        End(Outcome.STOPPED, "stopped by a person"),
    ),
    "a member that was lost is not waited for": (
        running(
            A,
            B,
            phase=Phase.STOPPING,
            failed=True,
            stopping_until=60.0,
            members=(A, dataclasses.replace(B, idle=False, gone=40.0)),
        ),
        THREE,
        50.0,
        End(Outcome.FAILED),
    ),
    "what has ended stays ended": (gathering(A, B, C, phase=Phase.ENDED), THREE, 500.0, Wait(None)),
}


@pytest.mark.parametrize("case", CASES)
def test_decisions(case: str) -> None:
    view, policy, now, expected = CASES[case]
    decision = decide(view, policy, now)
    if isinstance(expected, type):
        assert isinstance(decision, expected)
    else:
        assert decision == expected
    assert decide(view, policy, now) == decision


def test_named_nodes_get_their_ranks_in_the_order_of_the_job() -> None:
    formation = form([member("amy", 1, workers=2), member("zoe", 2, workers=1)], NAMED)
    assert [(part.node, part.ranks) for part in formation.assignments] == [("zoe", (0,)), ("amy", (1, 2))]
    assert formation.master.node == "zoe"
    assert formation.world_size == 3


def test_counted_nodes_begin_with_the_coordinators_own() -> None:
    policy = dataclasses.replace(THREE, first="c")
    formation = form([A, B, C], policy)
    assert [part.node for part in formation.assignments] == ["c", "a", "b"]
    assert [part.ranks for part in formation.assignments] == [(0,), (1,), (2,)]


def test_more_than_the_maximum_are_left_out() -> None:
    formation = form([member(name, slot) for slot, name in enumerate("abcdef")], ELASTIC)
    assert [part.node for part in formation.assignments] == ["a", "b", "c", "d"]


def test_missing_names_who_did_not_come() -> None:
    assert missing([member("amy")], NAMED) == "zoe did not join"
    assert missing([], THREE) == "0 of 3 nodes joined"
