"""How a program ends, where its words say no more: exceptions, again and again, exit codes, crashes."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping

from swarmtrain.diagnosis.case import Case, last_words
from swarmtrain.diagnosis.frames import frames, place
from swarmtrain.diagnosis.rule import Conclusion, Rule, logs_of, seen_at, who
from swarmtrain.protocol.evidence.diagnosis import Observation, Remedy
from swarmtrain.protocol.facts import Failure
from swarmtrain.wire.plural import counted

# How coordinator/core/restart_policy.py says that another attempt would end as this one did.
_AGAIN = re.compile(
    r"it failed (?P<where>at step \d+|in the same way) (?P<times>\d+) times in a row, each time on"
)
_CRASHES = (
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGILL,
    signal.SIGFPE,
    signal.SIGABRT,
    signal.SIGSYS,
    signal.SIGTRAP,
)
_DONE: Mapping[int, str] = {
    signal.SIGSEGV: "code that is not Python (a library, an extension, a driver) used memory that is not its own",
    signal.SIGBUS: "memory that is a file could not be had: /dev/shm or a disk is full, or a mapped file was cut off",
    signal.SIGILL: "a library is built for a newer processor than this one",
    signal.SIGFPE: "code that is not Python divided by zero",
    signal.SIGABRT: "a library found that something is wrong, and ended the process itself",
}
# Where ranks meet: the innermost lines of a rank that lost another.
_MEETS = re.compile(r"/torch/(?:distributed|autograd|nn/parallel)/")
_FATAL = re.compile(
    r"Fatal Python error: (?P<what>.+)|^\s*what\(\):\s*(?P<why>.+)$|(?P<check>double free|corruption.*)", re.M
)


def again(case: Case) -> Observation | None:
    """That it failed so before, on fresh starts."""
    match = _AGAIN.search(case.status.reason)
    return (
        None if match is None else Observation(f"it failed {match['where']} {match['times']} times in a row")
    )


def _different(case: Case) -> Conclusion | None:
    """Ranks that failed by themselves, each of something else."""
    own = [each for each in case.own if each.kind == "exception" and each.rank is not None]
    if any(_MEETS.search(line.file) for each in own for line in frames(each.traceback)[:3]):
        return None  # what broke in a collective may be an echo, in words that nobody knows
    kinds = {re.sub(r"\d+", "#", each.summary) for each in own}
    if len(own) < 2 or len(kinds) < 2 or own[0] is not case.first:
        return None
    return Conclusion(
        verdict=f"{counted(len(own), 'rank')} failed by themselves, of different exceptions",
        cause="no rank's exception is the echo of another's: each has its own reason, and the first need not "
        "be that of the others",
        sure="likely",
        failure=case.first,
        seen=[seen_at(each, _line(each)) for each in own],
        remedies=[
            Remedy(
                "Compare them: do the nodes differ in files, versions or environment?",
                f"swarmtrain ls {case.status.run}",
            ),
            Remedy("Read all of them.", f"swarmtrain logs {case.status.run} --tail 100"),
        ],
        knows_who=False,
    )


def _deterministic(case: Case) -> Conclusion | None:
    failure, found = case.first, again(case)
    if failure is None or found is None or failure.kind not in ("exception", "exit", "memory", "signal"):
        return None
    return Conclusion(
        verdict=f"{who(failure)} fails again and again: {_line(failure)}",
        cause="it happens at the same place on each fresh start, so it is in the program or in its data, not "
        "in a machine",
        sure="certain" if failure.kind == "exception" else "possible",
        failure=failure,
        seen=[found],
        remedies=[
            Remedy("Mend it, then go on.", "swarmtrain run --resume"),
            Remedy("Read the data of that step on this machine, without the other ranks."),
        ],
    )


def _crash(case: Case) -> Conclusion | None:
    failure = case.first
    if failure is None or failure.kind != "signal" or failure.signal not in _CRASHES:
        return None
    name = signal.Signals(failure.signal).name
    lines = "\n".join(failure.log)
    match = _FATAL.search(lines)
    words = next(filter(None, match.groups()), "") if match else ""
    at = place(lines)
    seen = [Observation(f"its last lines say: {words}", failure.rank, failure.node)] if words else []
    if at:
        seen.append(Observation("Python was there", failure.rank, failure.node, place=at))
    remedies = [
        Remedy("Let Python say where it was.", "swarmtrain run -e PYTHONFAULTHANDLER=1 ..."),
        logs_of(case, failure),
    ]
    return Conclusion(
        verdict=f"{who(failure)} crashed in native code ({name})",
        cause=_DONE.get(failure.signal, _DONE[signal.SIGSEGV]),
        sure="likely",
        failure=failure,
        seen=seen,
        remedies=remedies[1:] if at else remedies,
        unseen=[]
        if at
        else ["Where it was: a crash leaves no traceback, unless Python was asked for one before."],
    )


def _words(case: Case) -> Conclusion | None:
    """``sys.exit("words")``: the script's own sentence."""
    failure = case.first
    if failure is None or failure.kind != "exception" or failure.traceback or failure.code != 1:
        return None
    return Conclusion(
        verdict=f"{who(failure)} ended itself: {_line(failure)}",
        cause="the script says so",
        sure="certain",
        failure=failure,
        remedies=[logs_of(case, failure)],
    )


def _exception(case: Case) -> Conclusion | None:
    failure = case.first
    if failure is None or failure.kind != "exception":
        return None
    at = place(failure.traceback)
    return Conclusion(
        verdict=f"{who(failure)} raised {_line(failure)}",
        cause=f"an exception that nobody caught{f', at {at}' if at else ''}",
        sure="certain",
        failure=failure,
        remedies=[
            logs_of(case, failure),
            Remedy("Mend it, then go on.", "swarmtrain run --resume"),
        ],
    )


def _exit(case: Case) -> Conclusion | None:
    failure = case.first
    if failure is None or failure.kind not in ("exit", "signal"):
        return None
    if (raised := last_words(failure)) and not failure.traceback:
        return Conclusion(
            verdict=f"{who(failure)} raised {raised}",
            cause="an exception that nobody caught, as its last line says",
            sure="likely",
            failure=failure,
            remedies=[logs_of(case, failure)],
        )
    said = [line for line in failure.log if line.strip()]
    seen = [Observation(f"its last line: {said[-1].strip()}", failure.rank, failure.node)] if said else []
    return Conclusion(
        verdict=f"{who(failure)} {failure.summary}",
        cause="it does not say why",
        sure="unknown",
        failure=failure,
        seen=seen,
        remedies=[logs_of(case, failure)],
        unseen=["Why it ended: it left no exception."],
    )


def _line(failure: Failure) -> str:
    return failure.summary.strip().splitlines()[0] if failure.summary.strip() else failure.kind


RULES = (
    Rule(
        code="different-exceptions",
        title="Several ranks failed, each of something else",
        about="Failures that only tell of another rank's end are left out: these ranks failed by themselves. "
        "Nodes that differ in files, versions or devices are the usual reason.",
        look=_different,
        produced=("different_exceptions",),
    ),
    Rule(
        code="deterministic",
        title="It fails again and again in the same way",
        about="The run was started again, from a snapshot or anew, and failed at the same place with the same "
        "words. Another start would not help, so none is made.",
        look=_deterministic,
        produced=("deterministic",),
    ),
    Rule(
        code="exit-words",
        title="A script ended itself, and says why",
        about='`sys.exit("words")` or `raise SystemExit("words")`: the sentence is the script\'s own.',
        look=_words,
        produced=("words",),
    ),
    Rule(
        code="native-crash",
        title="A crash in native code",
        about="SIGSEGV, SIGBUS, SIGILL, SIGFPE: code that is not Python did what the processor does not "
        "allow. SIGABRT: a library ended the process itself, and usually says why. With gloo, "
        "TORCH_DISTRIBUTED_DEBUG=DETAIL crashes the constructor of DistributedDataParallel (torch 2.12, 2.13).",
        look=_crash,
        produced=("segfault", "abort"),
    ),
    Rule(
        code="exception",
        title="An exception in the script",
        about="Nobody caught it. The traceback is the user's own, from the first line of the script.",
        look=_exception,
        produced=("exception",),
    ),
    Rule(
        code="exit-code",
        title="A worker ended, and does not say why",
        about="Its exit code, or the signal, is all that is known, and what it wrote last.",
        look=_exit,
        produced=("exit_code",),
    ),
)
