"""The root cause of a failed generation, as a pure function over everything that failed in it.

When one rank dies the others follow: their collectives break a moment later, and their tracebacks are longer and
louder than the one that matters. So a failure that only says "the peer is gone" ranks behind one that does not,
and among equals the earliest wins.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from swarmtrain.wire.frames import Message

# What gloo, NCCL and the store say when somebody else has gone (torch 2.4 to 2.13).
_CONSEQUENCE = re.compile(
    r"Connection (closed|reset) by peer|connection was closed|Broken pipe|Socket (Timeout|closed)|recvValue failed"
    r"|sendBytes failed|failed to recv|Failed to recv|No(t)? (?:more )?data|NCCL error|ncclRemoteError|ncclSystemError"
    r"|DistBackendError|DistNetworkError|DistStoreError|Rank \d+ successfully reached monitoredBarrier"
    r"|Timed out waiting \d+ms for (recv|send) operation|gloo.*(EnforceNotMet|IoException)|Watchdog caught",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Failure:
    """One thing that went wrong in a generation."""

    kind: str  # exception, exit, signal, memory, node, start
    node: str
    time: float  # Unix time, on the coordinator's clock
    summary: str  # one line
    rank: int | None = None
    traceback: str = ""
    code: int | None = None
    signal: int | None = None
    log: list[str] = field(default_factory=list)  # the rank's last lines, when there is no traceback

    def sentence(self) -> str:
        """Where it happened, and what."""
        if not self.node:
            return self.summary
        if self.summary.startswith("was lost"):  # of a whole node
            return f"{self.node} {self.summary}"
        who = self.node if self.rank is None else f"rank {self.rank} on {self.node}"
        return f"{who}: {self.summary}"

    def dump(self) -> dict[str, Any]:
        """As it goes into the journal and the status document."""
        return asdict(self)


def worker_failure(state: Message, rank: int, node: str, exit: str, clock: float) -> Failure:
    """The failure of a worker that an agent reports.

    Args:
        state: the agent's words: ``code``, ``signal``, ``t``; where they are known, ``error``, ``memory`` and
            ``why``, which goes on after the exit.
        exit: its wait status in words.
        clock: seconds to add to the agent's times.
    """
    error = state.get("error") or {}
    number = state.get("signal")
    kind, summary = ("exit" if number is None else "signal"), " ".join(filter(None, [exit, state.get("why")]))
    if state.get("memory"):
        kind, summary = "memory", f"{exit}: out of memory ({state['memory']})"
    elif error:
        kind, summary = "exception", error.get("summary") or exit
    return Failure(
        kind=kind,
        node=node,
        time=float(error.get("time") or state["t"]) + clock,
        summary=summary,
        rank=rank,
        traceback=error.get("traceback", ""),
        code=state.get("code"),
        signal=number,
    )


def is_consequence(failure: Failure) -> bool:
    """Whether this failure only reports that another rank has gone."""
    words = failure.summary if failure.kind == "exception" else "\n".join(failure.log)
    if failure.signal == signal.SIGABRT or failure.kind in ("exception", "exit"):
        return bool(_CONSEQUENCE.search(words))
    return False


def root_cause(failures: Sequence[Failure]) -> list[Failure]:
    """All failures, the root cause first. The order of equals is that of time, then rank."""
    return sorted(
        failures,
        key=lambda f: (is_consequence(f), f.time, -1 if f.rank is None else f.rank),
    )


def describe_exit(code: int | None, number: int | None) -> str:
    """A worker's wait status in words: ``exited with code 3``, ``killed by SIGSEGV``."""
    if number is not None:
        try:
            return f"killed by {signal.Signals(number).name}"
        except ValueError:
            return f"killed by signal {number}"
    return f"exited with code {code}"
