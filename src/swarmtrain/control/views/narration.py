"""What a person who watches a run is told of its events, and in which tone. Pure.

The journal has everything. A screen among the workers' lines has less: where a failure is healed, one line says what
failed, one that it is tried again, one what came of it; what failed in consequence stays in `swarmtrain events`. Where
a traceback follows at the end, or the cause when it is tried again, an exception is left to them; how the run ended is
said by the words after its last line (`view.summary`, `view.failure`).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from swarmtrain.control.views import ending, format, view
from swarmtrain.protocol.facts import Outcome
from swarmtrain.protocol.journal.event import Event
from swarmtrain.protocol.journal.events import Ended, GenerationFailed

Tone = Literal["plain", "good", "bad"]

_TONES: dict[str, Tone] = {
    "recovered": "good",
    "failure": "bad",
    "stall": "bad",
    "left_out": "bad",
    "snapshot_failed": "bad",
    "snapshot_skipped": "bad",
    "snapshot_again": "good",
    "warning": "bad",
    "alert": "bad",
    "alert_unsent": "bad",
}
_ENDS: dict[Outcome, Tone] = {Outcome.SUCCEEDED: "good", Outcome.FAILED: "bad"}
_MARKS: dict[Tone, str] = {"plain": " ", "good": "+", "bad": "!"}


class Said(NamedTuple):
    """A line for the person."""

    text: str
    tone: Tone


def tone(event: Event) -> Tone:
    """How an event strikes people; what ends a run badly is bad, and what ends it well is good."""
    if isinstance(event, Ended):
        return _ENDS.get(event.outcome, "plain")
    return _TONES.get(event.kind, "plain")


def entry(event: Event) -> str:
    """An event in a list of all: ``!`` where something goes wrong, ``+`` where it is well again, and its words."""
    return f"{_MARKS[tone(event)]} {view.event_text(event)}"


class Narration:
    """The events of one run as they are told while it is watched; give it every event, in order."""

    def __init__(self) -> None:
        self._failed = ""  # the failure that was told of this generation
        self._started = False

    def tell(self, event: Event) -> Said | None:
        """What to say of this event; None where it adds nothing to what was said."""
        kind, text = event.kind, view.event_text(event)
        if kind in ("ended", "alert_sent"):
            return None
        if kind == "generation":
            self._failed = ""
        elif kind == "failure":
            if self._failed:
                return None
            self._failed = text = _without_exception(event, text)
        elif kind == "stopping" and self._failed:
            return None
        elif kind == "started":
            if self._started:
                return None
            self._started = True
        elif kind == "regather" and self._failed and self._failed in text:
            text = text.rpartition("; ")[2]
        elif kind == "recovered":
            text = f"recovered: {text}"
        return Said(text, "plain" if kind == "failure" else tone(event))


def _without_exception(event: Event, text: str) -> str:
    """A failure less its exception, which is told whole later."""
    if not isinstance(event, GenerationFailed):
        return text
    failure = event.failure
    is_told = (
        failure.kind == "exception" and failure.traceback and text.endswith(format.one_line(failure.summary))
    )
    return f"{ending.who(failure)} failed" if is_told else text
