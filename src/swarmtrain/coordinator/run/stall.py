"""A group that makes no steps although all of its members are there: what its workers do, and who is to blame."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from swarmtrain.coordinator.core.hang import Rank, Verdict, culprit
from swarmtrain.coordinator.core.stack_dumps import MainThread, place
from swarmtrain.coordinator.run.heartbeats import Heartbeat
from swarmtrain.coordinator.run.ranks import RankState
from swarmtrain.diagnosis.flight import analyse, with_places
from swarmtrain.protocol.evidence.seen import FlightFinding, FlightReport, StackReport
from swarmtrain.protocol.facts import Failure

Listener = Callable[[Mapping[int, StackReport]], None]

_RECENT = 25.0  # seconds in which an agent has looked for signs of life twice
_WAYS_OUT = "The process group's own timeout ends it, or `hang_timeout`, or `swarmtrain stop`"
_SAID = re.compile(r" \(it [^()]*\)$")  # what the rank itself says that it does
PATIENCE = 2.3  # seconds until every worker that can answer has


@dataclass(frozen=True)
class Finding:
    """Whom the others wait for, in words; the rank is None where it cannot be told."""

    text: str
    rank: int | None = None
    node: str = ""
    stack: str = ""

    def failure(self, seconds: float, time: float) -> Failure:
        """The failure of a generation that has stood still for so long.

        Args:
            time: of that, Unix time.
        """
        # the sentence of a failure begins with its rank's name
        what = self.text.replace(f"rank {self.rank} on {self.node} ", "it ", 1)
        text = f"no step for {seconds:.0f} s: {what}"
        return Failure("hang", self.node, time, text, rank=self.rank, traceback=self.stack)


def outlook(
    alive: tuple[float, int, str] | None, now: float, quiet: float, limit: float | None, sure: bool
) -> str:
    """What becomes of a group that makes no steps, as the end of a sentence; empty where the next word says it.

    Args:
        alive: its last sign of life: when, of which rank, and which.
        quiet: seconds since its last step.
        limit: seconds without any sign after which it hangs; None where a person has set for how long no step may be
            made.
        sure: it is begun anew then.
    """
    if limit is None:
        return ""
    if alive is not None and now - alive[0] < _RECENT:
        works = f"; rank {alive[1]} works ({alive[2]})"
        return works if quiet < limit else f"{works}, so it is left alone. {_WAYS_OUT}"
    if quiet < limit or sure:
        return ""
    why = "The script takes no snapshots, so it is not begun anew for that"
    return f"; no rank shows a sign of life. {why}. {_WAYS_OUT}"


def named(verdict: Verdict, recorded: FlightFinding | None, places: Mapping[int, MainThread]) -> Verdict:
    """The verdict of pulses and stacks with that of the flight records, which know the collective.

    A process that does not run is to blame whatever it has begun before. Of ranks that stacks name, records say what
    they are missing from; where stacks name others, or nobody, the records are believed: all ranks have part in them.
    """
    if recorded is None or recorded.kind not in ("missing", "mismatch", "circle"):
        return verdict
    if verdict.ranks and "does not run" in verdict.reason:
        return verdict
    at = places.get(recorded.ranks[0])
    where = ""
    if recorded.kind == "missing" and at is not None:
        where = f": {'they' if len(recorded.ranks) > 1 else 'it'} {at.of(len(recorded.ranks) > 1)}"
    said = _SAID.search(verdict.reason) if verdict.ranks == tuple(recorded.ranks) else None
    extract = str(at.user) if at is not None and at.user is not None else verdict.extract
    return Verdict(tuple(recorded.ranks), f"{recorded.text}{where}{said[0] if said else ''}", extract)


@dataclass
class Stall:
    """What is known of one stand-still.

    Attributes:
        captured: when the workers were last asked for their stacks, in monotonic time; None: not yet.
        heard: when the newest answer came, whoever has asked, in monotonic time.
        listeners: people who have asked, and are told of every answer.
    """

    captured: float | None = None
    heard: float | None = None
    listeners: list[Listener] = field(default_factory=list)
    _answers: dict[int, StackReport] = field(default_factory=dict)

    def hear(self, answers: Mapping[int, StackReport], now: float) -> None:
        """What a node's agent found out, by rank."""
        self.heard = now
        self._answers |= answers
        for listener in self.listeners:
            listener(answers)

    @property
    def stacks(self) -> Mapping[int, str]:
        """By rank, as far as its agent could get it."""
        return {rank: answer.stack for rank, answer in self._answers.items() if answer.stack}

    @property
    def flights(self) -> Mapping[int, FlightReport]:
        """By rank, the collectives that it has begun, as far as torch has recorded them."""
        return with_places(self._answers)

    def tells_of(self, waited: float, now: float) -> bool:
        """Whether it was asked what the workers did while one of them waited, until now, in vain."""
        return self.captured is not None or (self.heard is not None and self.heard >= now - waited)

    def halted(self) -> bool:
        """Whether a process is stopped by a signal, and will do nothing by itself."""
        return any(answer.halted for answer in self._answers.values())

    def over(self) -> None:
        """A step was made."""
        self.captured = self.heard = None
        self._answers.clear()

    def find(self, beats: Mapping[int, Heartbeat], workers: Mapping[int, RankState]) -> Finding:
        """Whom the others wait for, by their pulses, by what they answered, and by what torch has recorded of them."""
        group = [self._rank(rank, beat) for rank, beat in sorted(beats.items())]
        verdict = named(culprit(group), self._recorded(), self._places())
        first = verdict.ranks[0] if verdict.ranks else None
        if first is None:
            return Finding(verdict.reason)
        node, reason = workers[first].node, verdict.reason
        if verdict.ranks == (first,):
            reason = reason.replace(f"rank {first} ", f"rank {first} on {node} ", 1)
        answer = self._answers.get(first)
        return Finding(reason, first, node, answer.stack if answer is not None else "")

    def _recorded(self) -> FlightFinding | None:
        """What the flight records of all ranks say, if they lead to somebody."""
        return next((finding for finding in analyse(self.flights) if finding.ranks), None)

    def _places(self) -> dict[int, MainThread]:
        found = {rank: place(answer.stack) for rank, answer in self._answers.items()}
        return {rank: at for rank, at in found.items() if at is not None}

    def _rank(self, rank: int, beat: Heartbeat) -> Rank:
        answer = self._answers.get(rank)
        stopped, stack = (answer.stopped, answer.stack) if answer is not None else (None, "")
        return Rank(rank, beat.step, beat.mark, int(beat.activity), stopped, stack)
