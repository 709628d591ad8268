"""What befell a run and how it went on: the attempts that decisions look back on, and one line a recovery for people.

Everything here is rebuilt from the journal when a coordinator starts again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from swarmtrain.coordinator.cause import Failure
from swarmtrain.coordinator.healing import Attempt
from swarmtrain.coordinator.journal import Event, Journal
from swarmtrain.wire.plural import counted

# What differs between two failures that are the same: addresses of objects and of machines, process ids, paths of
# temporary files, measured numbers and times. Small whole numbers stay: an index, a shape, a line tell failures apart.
_CHANGING = re.compile(
    r"0x[0-9a-fA-F]+"
    r"|(?<![\w.])\d+\.\d+\.\d+\.\d+(?:\]?:\d+)?"  # [10.0.1.3]:34538
    r"|\[[0-9a-fA-F:]*:[0-9a-fA-F:.]+(?:%\w+)?\](?::\d+)?"  # [fe80::1%eth0]:34538
    r"|(?<=port )\d+|(?<=port: )\d+|(?<=port=)\d+"
    r"|(?<=pid )\d+|(?<=pid: )\d+|(?<=pid=)\d+|(?<=pid\(s\) )[\d, ]+|(?<=process )\d+"
    r"|/(?:tmp|dev/shm|var/tmp|proc)/[^\s'\",:;)]+"
    r"|\b[0-9a-fA-F]{8}(?:-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}\b"  # of a run, a device, a file
    r"|(?<=tensor\()[^()]*"
    r"|\d{4}-\d\d-\d\d|\d+:\d\d:\d\d"
    r"|[-+]?\d+\.\d*(?:e[-+]?\d+)?|\d+e[-+]?\d+"
    r"|\d+(?= ?(?:ms|s|sec|seconds|milliseconds|min|minutes)\b)"
    r"|\d{5,}",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Incident:
    """A generation that ended before its work was done, and that another one goes on from.

    Attributes:
        since: Unix time from which the training stood still.
        what: the cause, as the beginning of a sentence.
        step: the last step that was made; None where steps are unknown.
        planned: the group changed with all work saved.
    """

    since: float
    what: str
    step: int | None
    nodes: int
    planned: bool


def signature(failure: Failure) -> str:
    """A failure in words that are the same when the same thing happens again."""
    return _CHANGING.sub("#", failure.summary)[:500]


def sentence(incident: Incident, nodes: int, step: int | None, seconds: float, saves: bool = True) -> str:
    """One recovery, for a person.

    Args:
        nodes: on how many the run went on.
        step: from which; None where nobody tells.
        seconds: between the last step before and the first one after.
        saves: the program takes snapshots.
    """
    at = f" at step {incident.step}" if incident.step is not None else ""
    where = f"on {counted(nodes, 'node')}"
    after = f"after {seconds:.1f} s"
    lost = _origin(step, saves) == 0 and incident.step
    steps = f"; {counted(lost, 'step')} lost" if lost else ""
    if step is None and not saves:
        own = " but for what it saves by itself" if steps else ""
        return f"{incident.what}{at}; begun anew {where} {after}: the script takes no snapshots{steps}{own}"
    if lost:
        return f"{incident.what}{at}; begun anew {where} {after}: no snapshot had been taken{steps}"
    origin = f" from step {step}" if step is not None else ""
    return f"{incident.what}{at}; continued {where}{origin} {after}"


def _origin(step: int | None, saves: bool) -> int | None:
    """The step that a generation went on from; None where that is not known."""
    return 0 if step is None and not saves else step


class Chronicle:
    """The incidents of one run, and what they cost.

    Attributes:
        history: how generations failed, in monotonic time.
        open: what the run has not gone on from yet.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.history: list[Attempt] = []
        self.open: Incident | None = None

    def load(self) -> None:
        """Read what the journal holds."""
        for event in self._journal.events:
            if event["kind"] == "regather":
                self.open = Incident(**event["incident"])
                if event.get("attempt"):
                    attempt = Attempt(**event["attempt"])
                    self.history.append(replace(attempt, ended=self._journal.clock.moment(attempt.ended)))
            elif event["kind"] == "recovered":
                self.open = None

    def waits(self, formed: Event) -> bool:
        """Whether the newest generation, of which ``formed`` is the event, is over and the next one not formed."""
        regathered = self._journal.last("regather")
        return regathered is not None and int(regathered["seq"]) > int(formed["seq"])

    def note(self, attempt: Attempt) -> None:
        """A generation failed."""
        if not self.history or self.history[-1].generation != attempt.generation:
            self.history.append(attempt)

    def begin(self, incident: Incident, text: str, wait: float = 0.0) -> None:
        """The run goes on from an incident; one that is not over yet began with the first.

        Args:
            wait: seconds before the next generation may form.
        """
        if self.open is not None:
            incident = Incident(
                self.open.since, incident.what, self.open.step, incident.nodes, incident.planned
            )
        self.open = incident
        last = self.history[-1] if self.history and not incident.planned else None
        self._journal.append(
            "regather",
            text,
            incident=asdict(incident),
            attempt=asdict(replace(last, ended=self._journal.clock.unix(last.ended))) if last else None,
            wait=round(wait, 3),
        )

    def end(self, begun: float, nodes: int, step: int | None, generation: int, saves: bool) -> None:
        """Every rank has made a step again.

        Args:
            begun: Unix time of that.
            nodes, step, saves: as in `sentence`.
        """
        if self.open is None:
            return
        seconds = max(0.0, begun - self.open.since)
        self._journal.append(
            "recovered",
            sentence(self.open, nodes, step, seconds, saves),
            seconds=round(seconds, 3),
            at_step=self.open.step,
            from_step=_origin(step, saves),
            nodes=nodes,
            planned=self.open.planned,
            generation=generation,
        )
        self.open = None

    def summary(self) -> dict[str, Any]:
        """For the status document: how often the run went on, and what that cost."""
        recovered = self._journal.all("recovered")
        lost = sum(event["seconds"] for event in recovered)
        if self.open is not None:
            last = self._journal.last("ended")
            lost += max(0.0, (last["t"] if last else self._journal.clock.now()) - self.open.since)
        return {
            "restarts": len([event for event in recovered if not event["planned"]]),
            "lost_seconds": round(lost, 3),
            "lost_steps": sum(_steps_lost(event) for event in recovered),
            "recoveries": [_line(event) for event in recovered],
            "healing": self.open.what if self.open is not None else None,
        }


def _steps_lost(event: Event) -> int:
    at, origin = event["at_step"], event["from_step"]
    return max(0, at - origin) if at is not None and origin is not None else 0


def _line(event: Event) -> Mapping[str, Any]:
    return {key: event[key] for key in ("t", "text", "seconds", "planned")}
