"""The restart policy, as tables of how generations failed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from swarmtrain.coordinator.core.restart_policy import Again, GiveUp, RestartPolicy, judge, left_out
from swarmtrain.protocol.facts import Attempt

HEAL = RestartPolicy()


def killed(ended: float = 100.0, **fields: object) -> Attempt:
    """A rank of node b was killed after some work."""
    base = Attempt(1, "signal", "killed by SIGKILL", "b", 1, began=0, step=700, seconds=70.0, ended=ended)
    return dataclasses.replace(base, **fields)  # type: ignore[arg-type]


def raised(ended: float = 100.0, **fields: object) -> Attempt:
    """The program raised an exception on node b."""
    return killed(ended, **{"kind": "exception", "signature": "ValueError: x", **fields})


def lost(ended: float = 100.0, **fields: object) -> Attempt:
    """Node b went away before anybody told of a step."""
    return killed(
        ended, **{"kind": "node", "rank": None, "began": None, "step": None, "seconds": 5.0, **fields}
    )


def hung(ended: float = 100.0, **fields: object) -> Attempt:
    """Rank 1 did not come to where the others waited."""
    return killed(ended, **{"kind": "hang", "signature": "no step for 60 s", **fields})


def idle(count: int, **fields: object) -> list[Attempt]:
    """So many nodes lost in a row, none after a step, the last one at 100."""
    return [lost(100.0 - count + n + 1, node=f"n{n}", **fields) for n in range(count)]


TWICE = "it failed at step 700 2 times in a row, each time on a fresh start; another would end so, too"
THRICE = TWICE.replace(" 2 ", " 3 ")

VERDICTS: dict[str, tuple[Sequence[Attempt], RestartPolicy, Again | GiveUp]] = {
    "restarts are off": ([killed()], RestartPolicy(enabled=False), GiveUp()),
    "workers cannot be started": ([killed(kind="start")], HEAL, GiveUp()),
    "the run cannot be placed": ([killed(), killed(kind="placement", node="")], HEAL, GiveUp()),
    "the program fails before it has begun": ([raised(step=None, seconds=3.0)], HEAL, GiveUp()),
    "the program exits before it has begun": ([raised(kind="exit", step=0, seconds=3.0)], HEAL, GiveUp()),
    "the program needs more memory than there is": (
        [raised(kind="memory", step=None, seconds=3.0)],
        HEAL,
        GiveUp(),
    ),
    "the program fails late, and nobody knows its steps": ([raised(step=None)], HEAL, Again(100.0)),
    "the program fails in its first minute after steps": ([raised(step=3, seconds=3.0)], HEAL, Again(100.0)),
    "it fails early, but had worked before": (
        [killed(50.0), raised(step=None, seconds=3.0)],
        HEAL,
        Again(100.0),
    ),
    "it resumes and fails before its first step": (
        [raised(50.0), raised(began=600, step=600, signature="RuntimeError: y")],
        HEAL,
        Again(100.0),
    ),
    "a signal before it has begun is chance": ([killed(step=None, seconds=3.0)], HEAL, Again(100.0)),
    "a node before it has begun is chance": ([lost()], HEAL, Again(100.0)),
    "the same exception at the same step": ([raised(50.0), raised(began=600)], HEAL, GiveUp(TWICE)),
    "the same exception at another step": ([raised(50.0), raised(began=600, step=701)], HEAL, Again(100.0)),
    "another exception at the same step": (
        [raised(50.0), raised(began=600, signature="KeyError: y")],
        HEAL,
        Again(100.0),
    ),
    "the same exception on another rank": (
        [raised(50.0), raised(began=600, rank=0, node="a")],
        HEAL,
        GiveUp(TWICE),
    ),
    "something else between the same": ([raised(50.0), lost(70.0), raised(began=600)], HEAL, Again(100.0)),
    "the same exception where steps are unknown": (
        [raised(50.0, step=None), raised(step=None)],
        HEAL,
        Again(100.0),
    ),
    "the same exception where steps are unknown, three times": (
        [raised(20.0, step=None), raised(50.0, step=None), raised(step=None)],
        HEAL,
        GiveUp(THRICE.replace("at step 700", "in the same way")),
    ),
    "the same exception, of which each came later by what was saved between": (
        [raised(20.0, step=None), raised(50.0, step=None, saved=True), raised(step=None, saved=True)],
        HEAL,
        Again(100.0),
    ),
    "the same exception three times since something was saved": (
        [raised(20.0, step=None, saved=True), raised(50.0, step=None), raised(step=None)],
        HEAL,
        GiveUp(THRICE.replace("at step 700", "in the same way")),
    ),
    "what is saved is no progress where steps are known": (
        [raised(50.0), raised(began=600, saved=True)],
        HEAL,
        GiveUp(TWICE),
    ),
    "what is saved before anything has begun": ([raised(step=None, seconds=3.0, saved=True)], HEAL, GiveUp()),
    "the same signal twice at the same step may be chance": (
        [killed(50.0), killed(began=600)],
        HEAL,
        Again(100.0),
    ),
    "the same signal three times at the same step is not": (
        [killed(20.0), killed(50.0, began=600), killed(began=600)],
        HEAL,
        GiveUp(THRICE),
    ),
    "the same signal on other ranks is chance": (
        [killed(20.0), killed(50.0, began=600, rank=0), killed(began=600)],
        HEAL,
        Again(100.0),
    ),
    "two hangs": ([hung(50.0), hung(began=600)], HEAL, Again(100.0)),
    "three hangs of the same rank at the same step": (
        [hung(20.0), hung(50.0, began=600), hung(began=600)],
        HEAL,
        GiveUp(THRICE),
    ),
    "three hangs of several ranks": (
        [hung(20.0), hung(50.0, began=600, rank=0), hung(began=600)],
        HEAL,
        Again(100.0),
    ),
    "the same node three times is never the program's fault": (
        [lost(20.0, step=700), lost(50.0, step=700), lost(step=700)],
        HEAL,
        Again(100.0),
    ),
    "as many failures as are healed": (
        [killed(float(n), step=n) for n in range(1, 11)],
        HEAL,
        Again(10.0),
    ),
    "one more": (
        [killed(float(n), step=n, node="ab"[n % 2]) for n in range(1, 12)],
        HEAL,
        GiveUp("it failed 11 times within 60 min, 6 of them on b; the limit is 10"),
    ),
    "one more, where no node is to blame": (
        [killed(float(n), step=n, node="") for n in range(1, 4)],
        RestartPolicy(limit=2, window=30.0),
        GiveUp("it failed 3 times within 30 s; the limit is 2"),
    ),
    "a limit of none": (
        [killed()],
        RestartPolicy(limit=0, window=7200.0),
        GiveUp("it failed once within 2 h, 1 of them on b; the limit is 0"),
    ),
    "failures before the window are forgotten": (
        [killed(float(n), step=n) for n in range(1, 11)] + [killed(3606.0)],
        HEAL,
        Again(3606.0),
    ),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_verdicts(case: str) -> None:
    history, policy, expected = VERDICTS[case]
    assert judge(history, policy, history[-1].ended + 0.5) == expected


@pytest.mark.parametrize(
    ("failures", "delay"),
    [(1, 0.0), (2, 1.0), (3, 2.0), (4, 4.0), (5, 8.0), (6, 15.0), (7, 30.0), (9, 30.0)],
)
def test_without_progress_each_restart_waits_longer(failures: int, delay: float) -> None:
    assert judge(idle(failures), HEAL, 100.0) == Again(100.0 + delay)


@pytest.mark.parametrize("progress", [killed(96.5), lost(96.5, seconds=60.0)], ids=["steps", "a minute"])
def test_progress_ends_the_waiting(progress: Attempt) -> None:
    assert judge([*idle(6), progress], HEAL, 100.0) == Again(96.5)
    assert judge([*idle(6), progress, lost()], HEAL, 100.0) == Again(100.0)
    assert judge([*idle(6), progress, lost(99.0), lost()], HEAL, 100.0) == Again(101.0)


def test_the_budget_is_healed_by_time() -> None:
    failures = [killed(float(n), step=n) for n in range(1, 12)]
    assert isinstance(judge(failures, HEAL, 20.0), GiveUp)
    assert isinstance(judge(failures, HEAL, 3601.0), Again)


BLAMED: dict[str, tuple[Sequence[Attempt], float, list[str]]] = {
    "nothing has failed": ([], 100.0, []),
    "two failures on a node": ([lost(10.0), lost(20.0)], 21.0, []),
    "three failures on a node": ([lost(10.0), lost(20.0), lost(30.0)], 31.0, ["b"]),
    "three failures that no node began": ([lost(float(n), node="") for n in (10, 20, 30)], 31.0, []),
    "three of six are not most of them": (
        [lost(float(n), node="abcdbb"[n]) for n in range(6)] + [lost(7.0, node="e")],
        8.0,
        [],
    ),
    "a minute later it is taken back": ([lost(10.0), lost(20.0), lost(30.0)], 90.0, []),
    "at the fourth failure it is left out for longer": (
        [lost(10.0), lost(20.0), lost(30.0), lost(100.0)],
        399.0,
        ["b"],
    ),
    "and taken back after that": ([lost(10.0), lost(20.0), lost(30.0), lost(100.0)], 400.0, []),
    "from the fifth on for a quarter of an hour": ([lost(float(n)) for n in range(9)], 907.0, ["b"]),
    "and no longer": ([lost(float(n)) for n in range(9)], 908.0, []),
    "what lies before the window is forgotten": ([lost(10.0), lost(20.0), lost(3630.0)], 3631.0, []),
}


@pytest.mark.parametrize("case", BLAMED)
def test_a_node_on_which_failures_begin_is_left_out_for_a_time(case: str) -> None:
    history, now, expected = BLAMED[case]
    assert sorted(left_out(history, HEAL, now)) == expected


def test_it_is_said_why_a_node_is_left_out() -> None:
    history = [lost(10.0), lost(20.0), lost(25.0, node="c"), lost(30.0)]
    assert left_out(history, HEAL, 31.0) == {"b": "3 of the last 4 failures began on b"}
