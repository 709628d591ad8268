"""The decisions of a run, as a table of cases."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from swarmtrain.coordinator.core.decide import decide, form, shortage
from swarmtrain.coordinator.core.model import (
    Advance,
    Candidate,
    CaptureStacks,
    Decision,
    End,
    Form,
    Hang,
    MarkLost,
    Pause,
    Phase,
    Policy,
    Reform,
    Stop,
    Unpause,
    View,
    Wait,
)
from swarmtrain.coordinator.core.restart_policy import RestartPolicy
from swarmtrain.protocol.facts import Attempt, Outcome

THREE = Policy(nodes_min=3, nodes_max=3)
ELASTIC = Policy(nodes_min=2, nodes_max=4, last_call=3.0)
NAMED = Policy(nodes_min=2, nodes_max=2, names=("zoe", "amy"))


def member(node: str, slot: int = 0, *, workers: int = 1, **fields: object) -> Candidate:
    base = Candidate(node, slot, workers, f"10.0.0.{slot + 1}", 20_000 + slot, joined=10.0)
    return dataclasses.replace(base, **fields)  # type: ignore[arg-type]


Cases = dict[str, tuple[View, Policy, float, Decision | type]]
A, B, C = member("a", 1), member("b", 2), member("c", 3)


def gathering(*members: Candidate, **fields: object) -> View:
    return dataclasses.replace(View(Phase.GATHERING, members, deadline=100.0), **fields)  # type: ignore[arg-type]


def running(*members: Candidate, heard: float = 50.0, **fields: object) -> View:
    busy = tuple(
        dataclasses.replace(each, idle=False, drained=False, heard=heard if not each.heard else each.heard)
        for each in members
    )
    nodes = frozenset(each.node for each in members)
    view = View(Phase.RUNNING, busy, deadline=100.0, taking_part=nodes)
    return dataclasses.replace(view, **fields)  # type: ignore[arg-type]


def but(view: View, node: str, **fields: object) -> View:
    """The same with one member changed."""
    members = tuple(
        dataclasses.replace(each, **fields) if each.node == node else each  # type: ignore[arg-type]
        for each in view.members
    )
    return dataclasses.replace(view, members=members)


def stopping(*members: Candidate, **fields: Any) -> View:
    return running(*members, phase=Phase.STOPPING, stopping_until=60.0, **fields)


def failure(**fields: object) -> Attempt:
    base = Attempt(1, "signal", "killed by SIGKILL", "b", 1, began=0, step=90, seconds=45.0, ended=49.0)
    return dataclasses.replace(base, **fields)  # type: ignore[arg-type]


STEADY = Advance(stepped=49.9, usual=0.1, steps=500)
REPORTING = dataclasses.replace(STEADY, can_pause=True, reports_phases=True)
TRAINER = Advance(stepped=49.9, usual=0.1, steps=500, can_pause=True)
D = member("d", 4, joined=10.0)
ONCE = Policy(nodes_min=2, nodes_max=2, restart=RestartPolicy(enabled=False))
AGED = (failure(), failure(step=None, began=None, ended=49.0, kind="node"))

LEFT = Stop("every rank has left its last line of code, and not all of their processes end", 3.0, "term")

GATHER: Cases = {
    "one is back after so long that Swarm may replace it": (
        but(gathering(A, B, C, generation=1, deadline=900.0), "c", settles=57.0),
        THREE,
        50.0,
        Wait(57.0),
    ),
    "and was replaced by its new task": (
        gathering(A, B, dataclasses.replace(C, joined=50.0), generation=1),
        THREE,
        52.0,
        Form,
    ),
    "others do not wait for it": (
        but(gathering(A, B, C, generation=1), "c", settles=57.0),
        ELASTIC,
        50.0,
        Form,
    ),
    "nobody is there yet": (gathering(), THREE, 11.0, Wait(100.0)),
    "one is missing": (gathering(A, B), THREE, 11.0, Wait(100.0)),
    "all are there": (gathering(A, B, C), THREE, 11.0, Form),
    "one that still has old workers does not count": (
        but(gathering(A, B, C), "c", idle=False),
        THREE,
        11.0,
        Wait(100.0),
    ),
    "one that is gone does not count": (but(gathering(A, B, C), "c", gone=10.5), THREE, 11.0, Wait(100.0)),
    "one that is silent does not count": (but(gathering(A, B, C), "c", heard=12.0), THREE, 27.0, Wait(100.0)),
    "one that leaves does not count": (but(gathering(A, B, C), "c", leaving=True), THREE, 11.0, Wait(100.0)),
    "the deadline passes": (
        gathering(A, B),
        THREE,
        100.0,
        End(Outcome.FAILED, "2 of 3 nodes joined (a, b)"),
    ),
    "the deadline of a run that has begun passes": (
        gathering(A, B, generation=4),
        THREE,
        100.0,
        End(Outcome.FAILED, "2 of 3 nodes joined (a, b) within 900 s"),
    ),
    "the deadline of one that was submitted in part passes": (
        gathering(A, B, cut_off=True),
        THREE,
        100.0,
        End(
            Outcome.FAILED,
            "2 of 3 nodes joined (a, b): the client that submitted the run went before it had started all of it",
        ),
    ),
    "one that was submitted in part begins with what is enough for it": (
        gathering(A, B, cut_off=True),
        ELASTIC,
        13.0,
        Form,
    ),
    "the deadline passes with enough for an elastic run": (gathering(A, B), ELASTIC, 100.0, Form),
    "an elastic run waits a moment for more": (gathering(A, B), ELASTIC, 11.0, Wait(13.0)),
    "an elastic run starts with what came": (gathering(A, B), ELASTIC, 13.0, Form),
    "an elastic run that has begun goes on at once with what is there": (
        gathering(A, B, generation=1),
        ELASTIC,
        11.0,
        Form,
    ),
    "one that has just come may still say that it cannot do its part": (
        but(gathering(A, B, C, generation=1), "c", warm=False, joined=10.5),
        THREE,
        11.0,
        Wait(11.5),
    ),
    "a run that can grow without a loss goes on with those that can begin at once": (
        but(gathering(A, B, C, generation=1, saves=True), "c", warm=False),
        ELASTIC,
        11.0,
        Form(form([A, B], ELASTIC)),
    ),
    "one that cannot takes them all": (
        but(gathering(A, B, C, generation=1), "c", warm=False),
        ELASTIC,
        11.0,
        Form(form([A, B, dataclasses.replace(C, warm=False)], ELASTIC)),
    ),
    "nor are too few a group": (
        but(but(gathering(A, B, generation=1, saves=True), "a", warm=False), "b", warm=False),
        ELASTIC,
        11.0,
        Form,
    ),
    "a run of fixed size that has begun waits for its node": (
        gathering(A, B, generation=1),
        THREE,
        99.0,
        Wait(100.0),
    ),
    "a backoff is kept although all are there": (
        gathering(A, B, C, generation=3, not_before=20.0),
        THREE,
        11.0,
        Wait(20.0),
    ),
    "a backoff is over": (gathering(A, B, C, generation=3, not_before=20.0), THREE, 20.0, Form),
    "as many as a person wants are enough": (gathering(A, B, wanted=2), ELASTIC, 11.0, Form),
    "fewer than the job allows are never enough": (gathering(A, wanted=1), ELASTIC, 11.0, Wait(100.0)),
    "stopped before it began": (
        gathering(A, stop_asked=True),
        THREE,
        11.0,
        End(Outcome.STOPPED, "stopped before the training began"),
    ),
    "stopped while it waits again": (
        gathering(A, stop_asked=True, generation=2),
        THREE,
        11.0,
        End(Outcome.STOPPED, "stopped while it waited for its nodes"),
    ),
    "an agent cannot do its part": (gathering(A, failed=True), THREE, 11.0, End(Outcome.FAILED)),
}

WATCH: Cases = {
    "training goes on": (running(A, B, C), THREE, 50.0, Wait(65.0)),
    "a rank failed": (running(A, B, C, failed=True), THREE, 50.0, Stop("a rank failed", 0.15, "kill")),
    "a rank failed, and nothing comes after it": (
        running(A, B, failed=True),
        ONCE,
        50.0,
        Stop("a rank failed", 3.0, "term"),
    ),
    "a rank failed, and a person stops it": (
        running(A, B, C, failed=True, stop_asked=True),
        THREE,
        50.0,
        Stop("a rank failed", 3.0, "term"),
    ),
    "a person stops it": (
        running(A, B, C, stop_asked=True),
        dataclasses.replace(THREE, stop_grace=90.0),
        50.0,
        Stop("stopped by a person", 90.0, "term"),
    ),
    "a person stops what can save": (
        running(A, B, C, stop_asked=True, advance=TRAINER),
        THREE,
        50.0,
        Stop("stopped by a person", 60.0, "save"),
    ),
    "a person stops what has nothing left to do": (
        running(A, B, C, stop_asked=True, left=49.0, advance=TRAINER),
        THREE,
        50.0,
        LEFT,
    ),
    "a connection closed a moment ago": (but(running(A, B), "b", gone=49.0), ELASTIC, 50.0, Wait(53.0)),
    "a connection closed and nobody came back": (
        but(running(A, B, heard=52.9), "b", gone=49.0),
        ELASTIC,
        53.0,
        MarkLost(("b",)),
    ),
    "a connection closed, and steps are made": (
        but(running(A, B, advance=dataclasses.replace(STEADY, stepped=60.0), heard=60.0), "b", gone=49.0),
        ELASTIC,
        60.5,
        Wait(64.0),
    ),
    "a connection closed, and steps are long": (
        but(running(A, B, advance=dataclasses.replace(STEADY, usual=9.0), heard=59.9), "b", gone=49.0),
        ELASTIC,
        60.0,
        Wait(76.9),
    ),
    "a connection closed, and three long steps are over": (
        but(running(A, B, advance=dataclasses.replace(STEADY, usual=9.0), heard=76.8), "b", gone=49.0),
        ELASTIC,
        76.9,
        MarkLost(("b",)),
    ),
    "silent for a while, and no step is made": (
        but(running(A, B, advance=STEADY, heard=54.0), "b", heard=50.0),
        ELASTIC,
        54.0,
        MarkLost(("b",)),
    ),
    "silent for a while, but steps are made": (
        but(running(A, B, advance=dataclasses.replace(STEADY, stepped=58.9), heard=58.9), "b", heard=50.0),
        ELASTIC,
        59.0,
        Wait(62.9),
    ),
    "silent for a while where nobody tells of steps": (
        but(running(A, B, heard=54.0), "b", heard=50.0),
        ELASTIC,
        54.0,
        Wait(65.0),
    ),
    "silent for long where nobody tells of steps": (
        but(running(A, B, heard=65.0), "b", heard=50.0),
        ELASTIC,
        65.0,
        MarkLost(("b",)),
    ),
    "the only member closed its connection": (but(running(A), "a", gone=49.0), ELASTIC, 60.0, Wait(139.0)),
    "the only member never came back": (but(running(A), "a", gone=49.0), ELASTIC, 139.0, MarkLost(("a",))),
    "all are silent, so the coordinator is cut off": (
        running(A, B, advance=STEADY, heard=50.0),
        ELASTIC,
        60.0,
        Wait(954.0),
    ),
    "all fell silent, one a little earlier": (
        but(running(A, B, advance=STEADY, heard=50.4), "b", heard=50.0),
        ELASTIC,
        54.0,
        Wait(954.0),
    ),
    "all but one fell silent": (
        but(running(A, B, C, advance=STEADY, heard=50.0), "c", heard=53.5),
        ELASTIC,
        54.0,
        MarkLost(("a", "b")),
    ),
    "all connections closed, and the coordinator is cut off": (
        but(but(running(A, B, advance=STEADY, heard=50.0), "a", gone=50.0), "b", gone=50.1),
        ELASTIC,
        54.0,
        Wait(954.0),
    ),
    "one has done its part and is gone, while others still save": (
        but(running(A, B, advance=STEADY, heard=59.9), "b", idle=True, gone=50.0),
        ELASTIC,
        60.0,
        Wait(74.9),
    ),
    "all were silent for too long": (
        running(A, B, advance=STEADY, heard=50.0),
        ELASTIC,
        954.0,
        MarkLost(("a", "b")),
    ),
    "all are silent where nothing is healed": (
        running(A, B, advance=STEADY, heard=50.0),
        ONCE,
        54.0,
        MarkLost(("a", "b")),
    ),
    "a spectator going away is nobody's loss": (
        running(A, B, members=(*running(A, B).members, dataclasses.replace(C, gone=1.0))),
        THREE,
        50.0,
        Wait(65.0),
    ),
    "all ranks are done but their output is not here yet": (
        but(but(running(A, B, finished=True), "a", drained=False), "b", drained=False),
        THREE,
        50.0,
        Wait(None),
    ),
    "all ranks are done and the coordinator's disk takes nothing of their output": (
        but(running(A, B, finished=True, full=True), "b", drained=False),
        THREE,
        50.0,
        End(Outcome.SUCCEEDED),
    ),
    "all ranks are done": (
        running(A, B, finished=True, members=(A, B)),
        THREE,
        50.0,
        End(Outcome.SUCCEEDED),
    ),
    "all are done, and one that has just gone may come again with what it wrote": (
        but(running(A, B, finished=True, members=(A, B)), "b", drained=False, gone=45.0, heard=45.0),
        THREE,
        50.0,
        Wait(55.0),
    ),
    "all are done, and one that has gone is not waited for any longer": (
        but(running(A, B, finished=True, members=(A, B)), "b", drained=False, gone=40.0, heard=40.0),
        THREE,
        50.0,
        End(Outcome.SUCCEEDED),
    ),
    "all have paused but one still ends": (
        but(running(A, B, paused=True), "a", idle=True),
        ELASTIC,
        50.0,
        Wait(None),
    ),
    "all have paused": (running(A, B, paused=True, members=(A, B)), ELASTIC, 50.0, Reform()),
}

STILL = running(A, B, heard=1e9, advance=REPORTING, saves=True)
UNTOLD = running(A, B, heard=1e9, advance=STEADY, saves=True)
UNSAVED = running(A, B, heard=1e9, advance=STEADY)  # all would be lost for a suspicion


def alive(view: View, lived: float, **fields: Any) -> View:
    """A rank worked at that moment, though no step was made."""
    return dataclasses.replace(view, advance=dataclasses.replace(view.advance, lived=lived), **fields)


SLOW = dataclasses.replace(REPORTING, usual=5.0)
HANG: Cases = {
    "no step for a moment": (STILL, ELASTIC, 51.0, Wait(79.9)),
    "no step for half the time": (STILL, ELASTIC, 79.9, CaptureStacks()),
    "it was looked at already": (dataclasses.replace(STILL, captured=79.9), ELASTIC, 80.0, Wait(99.9)),
    "it is looked at again before the end": (
        dataclasses.replace(STILL, captured=79.9),
        ELASTIC,
        99.9,
        CaptureStacks(),
    ),
    "and then no more": (dataclasses.replace(STILL, captured=99.9), ELASTIC, 100.0, Wait(109.9)),
    "no step for a minute": (dataclasses.replace(STILL, captured=99.9), ELASTIC, 109.9, Hang(60.0)),
    "a script that may evaluate unseen is looked at as soon": (UNTOLD, ELASTIC, 79.9, CaptureStacks()),
    "and is given longer": (dataclasses.replace(UNTOLD, captured=79.9), ELASTIC, 300.0, Wait(339.9)),
    "but not for ever": (dataclasses.replace(UNTOLD, captured=340.0), ELASTIC, 349.9, Hang(300.0)),
    "twenty long steps are not over": (
        dataclasses.replace(STILL, advance=SLOW, captured=140.0),
        ELASTIC,
        149.0,
        Wait(149.9),
    ),
    "twenty long steps are over": (dataclasses.replace(STILL, advance=SLOW), ELASTIC, 149.9, Hang(100.0)),
    "ten long steps are not worth a look": (
        dataclasses.replace(STILL, advance=SLOW),
        ELASTIC,
        99.0,
        Wait(99.9),
    ),
    "not steady yet": (
        dataclasses.replace(STILL, advance=dataclasses.replace(STEADY, steps=4)),
        ELASTIC,
        5_000.0,
        Wait(1e9 + 15),
    ),
    "the first step is still to come": (
        dataclasses.replace(STILL, advance=Advance(steps=9, usual=0.1)),
        ELASTIC,
        5_000.0,
        Wait(1e9 + 15),
    ),
    "a rank is evaluating": (
        dataclasses.replace(STILL, advance=dataclasses.replace(STEADY, busy=True)),
        ELASTIC,
        5_000.0,
        Wait(1e9 + 15),
    ),
    "the workers are asked to pause": (
        dataclasses.replace(STILL, pausing_until=6_000.0),
        ELASTIC,
        5_000.0,
        Wait(6_000.0),
    ),
    "a limit of the job's own, half of it": (
        STILL,
        dataclasses.replace(ELASTIC, hang=10.0),
        54.9,
        CaptureStacks(),
    ),
    "a limit of the job's own": (STILL, dataclasses.replace(ELASTIC, hang=10.0), 59.9, Hang(10.0)),
    "nobody can tell whether steps are made: the coordinator is cut off": (
        running(A, B, heard=50.0, advance=STEADY),
        ELASTIC,
        500.0,
        Wait(954.0),
    ),
    "a rank works, so they do not hang": (
        alive(STILL, 105.0, captured=99.9),
        ELASTIC,
        109.9,
        CaptureStacks(),
    ),
    "which is told once": (alive(STILL, 105.0, captured=109.9), ELASTIC, 110.0, Wait(155.0)),
    "and for as long as it works": (alive(STILL, 7_000.0, captured=109.9), ELASTIC, 7_010.0, Wait(7_050.0)),
    "it works no more": (alive(STILL, 105.0, captured=155.0), ELASTIC, 165.0, Hang(60.0)),
    "a long evaluation on one rank": (alive(UNTOLD, 380.0, captured=349.9), ELASTIC, 390.0, Wait(670.0)),
    "a limit that a person has set counts steps alone": (
        alive(STILL, 59.0),
        dataclasses.replace(ELASTIC, hang=10.0),
        59.9,
        Hang(10.0),
    ),
    "without snapshots, nothing moves": (
        dataclasses.replace(UNSAVED, captured=79.9),
        ELASTIC,
        300.0,
        Wait(349.9),
    ),
    "without snapshots, nothing has moved for long, which is told": (
        dataclasses.replace(UNSAVED, captured=79.9),
        ELASTIC,
        349.9,
        CaptureStacks(),
    ),
    "and nothing is done about it": (
        dataclasses.replace(UNSAVED, captured=349.9),
        ELASTIC,
        90_000.0,
        Wait(1e9 + 15),
    ),
    "without snapshots, but with a limit that a person has set": (
        UNSAVED,
        dataclasses.replace(ELASTIC, hang=10.0),
        59.9,
        Hang(10.0),
    ),
    "without snapshots, but a process is stopped beyond doubt": (
        dataclasses.replace(UNSAVED, captured=340.0, halted=True),
        ELASTIC,
        349.9,
        Hang(300.0),
    ),
    "processes whose scripts have ended work on": (
        alive(dataclasses.replace(UNSAVED, left=60.0), 300.0, captured=99.0),
        dataclasses.replace(ELASTIC, hang_watched=True),
        360.0,
        CaptureStacks(),
    ),
    "processes whose scripts have ended do nothing any more": (
        alive(running(A, B, heard=1e9, left=60.0), 300.0),
        ELASTIC,
        600.0,
        LEFT,
    ),
    "they have ended just now": (running(A, B, heard=1e9, left=590.0), ELASTIC, 600.0, Wait(890.0)),
    "they may take what time they like": (
        running(A, B, heard=1e9, left=60.0),
        dataclasses.replace(ELASTIC, hang_watched=False),
        5_000.0,
        Wait(1e9 + 15),
    ),
    "hangs are not looked for": (
        STILL,
        dataclasses.replace(ELASTIC, hang_watched=False),
        5_000.0,
        Wait(1e9 + 15),
    ),
}

PAIR = running(A, B, heard=50.0, advance=TRAINER)
GROWN = dataclasses.replace(PAIR, members=(*PAIR.members, C))
CHANGE: Cases = {
    "a node is back after so long that Swarm may replace it": (
        but(GROWN, "c", settles=52.0),
        ELASTIC,
        50.0,
        Wait(52.0),
    ),
    "and has not been replaced": (but(GROWN, "c", settles=52.0), ELASTIC, 52.0, Pause("c has joined")),
    "a node is there, and there is room": (GROWN, ELASTIC, 50.0, Pause("c has joined")),
    "two nodes are there": (
        dataclasses.replace(GROWN, members=(*GROWN.members, D)),
        ELASTIC,
        50.0,
        Pause("c, d have joined"),
    ),
    "a node came this moment: another may follow": (
        but(GROWN, "c", joined=49.5),
        ELASTIC,
        50.0,
        Wait(50.5),
    ),
    "a node that has not imported torch yet": (but(GROWN, "c", warm=False), ELASTIC, 50.0, Wait(54.0)),
    "a node that still ends old workers": (but(GROWN, "c", idle=False), ELASTIC, 50.0, Wait(54.0)),
    "a node that leaves is not news": (but(GROWN, "c", leaving=True), ELASTIC, 50.0, Wait(54.0)),
    "there is no room": (GROWN, dataclasses.replace(ELASTIC, nodes_max=2), 50.0, Wait(54.0)),
    "nobody wants more": (dataclasses.replace(GROWN, wanted=2), ELASTIC, 50.0, Wait(54.0)),
    "a person wants more": (dataclasses.replace(GROWN, wanted=3), ELASTIC, 50.0, Pause("c has joined")),
    "a person wants fewer": (
        running(A, B, C, heard=50.0, advance=TRAINER, wanted=2),
        ELASTIC,
        50.0,
        Pause("2 nodes are wanted, not 3"),
    ),
    "a person wants fewer than the job allows": (
        dataclasses.replace(PAIR, wanted=1),
        ELASTIC,
        50.0,
        Wait(54.0),
    ),
    "a script that cannot pause does not change": (
        dataclasses.replace(GROWN, advance=STEADY),
        ELASTIC,
        50.0,
        Wait(54.0),
    ),
    "no step is made yet": (
        dataclasses.replace(GROWN, advance=Advance(can_pause=True)),
        ELASTIC,
        50.0,
        Wait(65.0),
    ),
    "not again so soon after it did not work": (
        dataclasses.replace(GROWN, no_pause_before=52.0),
        ELASTIC,
        50.0,
        Wait(52.0),
    ),
    "a node where the failures began is not taken back yet": (
        dataclasses.replace(
            GROWN, history=tuple(failure(node="c", ended=40.0 + n, signature=f"{n}") for n in range(3))
        ),
        ELASTIC,
        50.0,
        Wait(54.0),
    ),
    "a member was told to leave": (but(PAIR, "b", leaving=True), ELASTIC, 50.0, Pause("b was told to leave")),
    "members were told to leave": (
        but(but(PAIR, "a", leaving=True), "b", leaving=True),
        ELASTIC,
        50.0,
        Pause("a, b were told to leave"),
    ),
    "a member of a script that cannot pause was told to leave": (
        but(dataclasses.replace(PAIR, advance=STEADY), "b", leaving=True),
        ELASTIC,
        50.0,
        Stop("a node leaves", 60.0, "term"),
    ),
    "the workers are pausing": (
        dataclasses.replace(GROWN, pausing_until=51.0),
        ELASTIC,
        50.0,
        Wait(51.0),
    ),
    "the workers did not pause": (
        dataclasses.replace(GROWN, pausing_until=50.0),
        ELASTIC,
        50.0,
        Unpause(),
    ),
}

SETTLE: Cases = {
    "stopping takes its time": (
        but(stopping(A, B, failed=True), "a", drained=False),
        THREE,
        50.0,
        Wait(60.0),
    ),
    "stopping does not take for ever": (stopping(A, B, failed=True), THREE, 60.0, End(Outcome.FAILED)),
    "everybody has stopped": (stopping(A, B, failed=True, members=(A, B)), THREE, 50.0, End(Outcome.FAILED)),
    "everybody has stopped as a person wanted": (
        stopping(A, B, stop_asked=True, members=(A, B)),
        THREE,
        50.0,
        End(Outcome.STOPPED, "stopped by a person"),
    ),
    "a failure while a person stops it is not healed": (
        stopping(A, B, stop_asked=True, failed=True, history=(failure(),), members=(A, B)),
        THREE,
        50.0,
        End(Outcome.STOPPED, "stopped by a person"),
    ),
    "a member that was lost is not waited for": (
        but(stopping(A, B, failed=True, members=(A, dataclasses.replace(B, idle=False))), "b", gone=40.0),
        THREE,
        50.0,
        End(Outcome.FAILED),
    ),
    "it is tried again when all have stopped": (
        stopping(A, B, failed=True, history=(failure(),)),
        THREE,
        50.0,
        Wait(60.0),
    ),
    "it is tried again": (
        stopping(A, B, failed=True, history=(failure(),), members=(A, B)),
        THREE,
        50.0,
        Reform(49.0),
    ),
    "it is tried again without one that does not stop": (
        stopping(A, B, failed=True, history=(failure(),)),
        THREE,
        60.0,
        Reform(49.0),
    ),
    "it is tried again in a moment": (
        stopping(A, B, failed=True, history=(*AGED, *AGED[1:]), members=(A, B)),
        THREE,
        50.0,
        Reform(50.0),
    ),
    "it is not tried again where nothing is healed": (
        stopping(A, B, failed=True, history=(failure(),), members=(A, B)),
        ONCE,
        50.0,
        End(Outcome.FAILED),
    ),
    "all had left their last line of code": (
        stopping(A, B, failed=True, history=(failure(),), members=(A, B), left=40.0),
        THREE,
        50.0,
        End(Outcome.FAILED, "every rank had left its last line of code, so it is not begun anew"),
    ),
    "all have left their last line of code, and the processes are gone": (
        stopping(A, B, members=(A, B), left=40.0),
        THREE,
        50.0,
        End(Outcome.SUCCEEDED),
    ),
    "all have left their last line of code, and what they wrote is on its way": (
        but(stopping(A, B, members=(A, B), left=40.0), "a", drained=False),
        THREE,
        50.0,
        Wait(60.0),
    ),
    "a node has left": (stopping(A, B, members=(A, B)), THREE, 50.0, Reform()),
    "what has ended stays ended": (gathering(A, B, C, phase=Phase.ENDED), THREE, 500.0, Wait(None)),
}

CASES = GATHER | WATCH | HANG | CHANGE | SETTLE


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
    assert shortage([member("amy")], NAMED) == "zoe did not join"
    assert shortage([], THREE) == "0 of 3 nodes joined"
