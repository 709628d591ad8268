"""Ends that came from outside of the program: a person, a signal, chaos on purpose."""

from __future__ import annotations

import signal

from swarmtrain.diagnosis.case import Case
from swarmtrain.diagnosis.rule import Conclusion, Rule, logs_of, who
from swarmtrain.protocol.evidence.diagnosis import Observation, Remedy
from swarmtrain.protocol.facts import Failure
from swarmtrain.protocol.journal.events import StopAsked
from swarmtrain.protocol.journal.remarks import ChaosCaused
from swarmtrain.protocol.requests import KILLED

_CHAOS_SECONDS = 30.0  # between what chaos does and what becomes of it
_AGAIN = Remedy("Go on where it was.", "swarmtrain run --resume")


def _chaos(case: Case) -> Conclusion | None:
    failure = case.first
    if failure is None or failure.kind not in ("signal", "node", "memory"):
        return None
    near = [
        each
        for each in case.of_kind(ChaosCaused)
        if 0 <= failure.time - each.time + 1.0 <= _CHAOS_SECONDS and _concerns(each, failure)
    ]
    if not near:
        return None
    return Conclusion(
        verdict=f"{who(failure)}: {failure.summary}",
        cause="swarmtrain chaos has done this on purpose",
        sure="likely",
        failure=failure,
        seen=[Observation(each.text, time=each.time) for each in near],
    )


def _concerns(event: ChaosCaused, failure: Failure) -> bool:
    """Whether what chaos has done was done to whom it befell, as far as its words tell."""
    return (
        failure.rank is not None and f"rank {failure.rank}" in event.text
    ) or failure.node in event.text.replace(",", " ").split()


def _signalled(case: Case, *numbers: int) -> Failure | None:
    first = case.first
    return first if first is not None and first.signal in numbers and first.kind == "signal" else None


def _killed(case: Case) -> Conclusion | None:
    failure = _signalled(case, signal.SIGKILL)
    if failure is None:
        return None
    return Conclusion(
        verdict=f"{who(failure)} was killed (SIGKILL)",
        cause=f"somebody, or some program, on {failure.node} killed it; the kernel's count of kills for want of "
        "memory did not rise",
        sure="possible",
        failure=failure,
        remedies=[
            logs_of(case, failure),
            Remedy(
                "The machine's kernel log tells of kills by the kernel: `dmesg | grep -i -E 'killed "
                "process|oom'`."
            ),
            _AGAIN,
        ],
        unseen=["Who sent the signal: Linux does not tell."],
    )


def _terminated(case: Case) -> Conclusion | None:
    first = case.first
    failure = _signalled(case, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    if (
        failure is None
        and first is not None
        and first.kind == "exception"
        and first.summary.startswith("KeyboardInterrupt")
    ):
        failure = first
    if failure is None:
        return None
    name = signal.Signals(failure.signal).name if failure.signal else "SIGINT"
    return Conclusion(
        verdict=f"{who(failure)} was told to end ({name})",
        cause="a person or a program on that node sent it the signal that asks a process to end; swarmtrain "
        "itself did not",
        sure="likely",
        failure=failure,
        remedies=[_AGAIN, logs_of(case, failure)],
        unseen=["Who sent the signal: Linux does not tell."],
    )


def _stopped(case: Case) -> Conclusion | None:
    status = case.status
    if status.state != "stopped":
        return None
    asked = case.of_kind(StopAsked)
    was_killed = status.reason.startswith(KILLED)
    return Conclusion(
        verdict=f"{status.run} was {'killed' if was_killed else 'stopped'} by a person"
        if asked or was_killed
        else f"{status.run} stopped: {status.reason}",
        cause="a person asked for it" if asked or was_killed else status.reason,
        sure="certain",
        seen=[Observation(each.text, time=each.time) for each in asked[:1]],
        remedies=[_AGAIN],
        knows_who=False,
    )


RULES = (
    Rule(
        code="chaos",
        title="swarmtrain chaos broke it on purpose",
        about="`swarmtrain chaos` writes into the journal what it does. What befalls the same rank or node "
        "within half a minute is taken for its work.",
        look=_chaos,
        test="test_what_came_from_outside_is_told_apart",
    ),
    Rule(
        code="stopped-by-a-person",
        title="A person stopped the run",
        about="`swarmtrain stop`, Ctrl-C on an attached run of this machine, or `run --replace`. Snapshots "
        "and logs are whole.",
        look=_stopped,
        produced=("stopped_by_a_person",),
    ),
    Rule(
        code="killed",
        title="A worker was killed",
        about="SIGKILL cannot be caught, so the process tells nothing. The kernel sends it for want of "
        "memory, and counts that: the count did not rise here, so it was a person, `docker kill`, or a "
        "program that keeps order on the machine (systemd-oomd, earlyoom).",
        look=_killed,
        produced=("killed",),
    ),
    Rule(
        code="terminated",
        title="A worker was told to end",
        about="SIGTERM and SIGINT ask a process to end. swarmtrain sends SIGTERM when a run is stopped, and "
        "knows then that it was itself: this one came from elsewhere.",
        look=_terminated,
        produced=("terminated", "interrupted"),
    ),
)
