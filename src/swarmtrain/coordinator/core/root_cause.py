"""The root cause of a failed generation, as a pure function over everything that failed in it.

When one rank dies the others follow: their collectives break a moment later, and their tracebacks are longer and
louder than the one that matters. So a failure that only says "the peer is gone" ranks behind one that does not, and
among equals the earliest wins. Between the two is a rank that ended well too early: it breaks its peers, and nothing
about it looks like a failure. What is an echo, diagnosis/echoes.py knows by its words.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Sequence
from dataclasses import replace

from swarmtrain.diagnosis.echoes import is_consequence
from swarmtrain.protocol.facts import Failure
from swarmtrain.protocol.from_agent import WorkerEnd, WorkerReport
from swarmtrain.wire.plural import counted

_SUMMARY = 2_000
# Failures whose tracebacks and last lines the end of a run keeps, and their size.
_TOLD, _TOLD_BYTES = 8, 1 << 20
_LAST_WORDS = re.compile(
    r"terminate called|what\(\):|Fatal Python error|\(\): |corruption|assert", re.IGNORECASE
)
_ABORTED = re.compile(r"^\s*what\(\):\s*(.+)$")  # what libstdc++ prints of an exception that nobody caught


def worker_failure(report: WorkerReport, end: WorkerEnd, node: str, exit: str, clock: float) -> Failure:
    """The failure of a worker that an agent reports.

    Args:
        end: the report's, of a worker that has ended.
        exit: its wait status in words.
        clock: seconds to add to the agent's times.
    """
    kind = "exit" if end.signal is None else "signal"
    summary = " ".join(filter(None, [exit, end.why]))
    if end.memory:
        kind, summary = "memory", f"{exit}: out of memory ({end.memory})"
    elif end.error is not None:
        kind, summary = "exception", end.error.summary or exit
    return Failure(
        kind=kind,
        node=node,
        time=((end.error.time if end.error is not None else 0.0) or report.time) + clock,
        summary=summary,
        rank=report.rank,
        traceback=end.error.traceback if end.error is not None else "",
        code=end.code,
        signal=end.signal,
    )


def early_end(rank: int, node: str, time: float, steps: int | None) -> Failure:
    """A rank that ended well while the others, who need it, went on.

    Args:
        time: of its end, Unix time.
        steps: that it made; None where nobody counts them.
    """
    after = "" if steps is None else f" after {counted(steps, 'step')}"
    return Failure("exit", node, time, f"ended with 0{after} while the others went on", rank, code=0)


def root_cause(failures: Sequence[Failure]) -> list[Failure]:
    """All failures, the root cause first. The order of equals is that of time, then rank."""
    return sorted(failures, key=lambda f: (_distance(f), f.time, -1 if f.rank is None else f.rank))


def in_brief(causes: Sequence[Failure]) -> list[Failure]:
    """The same failures: the first few whole, the rest without tracebacks and last lines.

    When a rank dies all others do, and what each of a thousand has to say fits into no message.

    Args:
        causes: the root cause first.
    """
    told, left = list[Failure](), _TOLD_BYTES
    for number, failure in enumerate(causes):
        left -= len(json.dumps([failure.traceback, failure.log]))  # as it travels
        told.append(failure if number < _TOLD and left >= 0 else replace(failure, traceback="", log=[]))
    return told


def with_evidence(failure: Failure, log: list[str]) -> Failure:
    """A failure without a traceback, with its rank's last lines; an abort says in them what it was about."""
    told = replace(failure, log=log)
    if failure.signal != signal.SIGABRT:
        return told
    aborts = [match[1] for line in log if (match := _ABORTED.match(line))]
    return replace(told, summary=f"{failure.summary}: {aborts[-1]}"[:_SUMMARY]) if aborts else told


def _distance(failure: Failure) -> int:
    """How far a failure is from being a cause."""
    if failure.kind == "exit" and failure.code == 0:
        return 1
    if is_consequence(failure):
        return 2
    # An abort of which no last words are here may be either: torch's own ends often come from an echo.
    unheard = failure.signal == signal.SIGABRT and not any(_LAST_WORDS.search(line) for line in failure.log)
    return 1 if unheard else 0


def describe_exit(code: int | None, number: int | None) -> str:
    """A worker's wait status in words: ``exited with code 3``, ``killed by SIGSEGV``."""
    if number is not None:
        try:
            return f"killed by {signal.Signals(number).name}"
        except ValueError:
            return f"killed by signal {number}"
    return f"exited with code {code}"
