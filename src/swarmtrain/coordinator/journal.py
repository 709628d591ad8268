"""The journal: the append-only record of what happened to a run, from which every screen is drawn.

One event a line: ``seq`` (from 1), ``t`` (Unix time, by the run's own clock), ``kind``, ``text`` (a sentence for
people) and what the kind needs. Each is on disk before anybody is told of it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from swarmtrain.wire.clock import Clock
from swarmtrain.wire.events import Event, admit
from swarmtrain.wire.records import Records

__all__ = ["Event", "Journal"]


class Journal:
    """The journal of one run, open for appending.

    Args:
        path: the file; what it already holds is read.
        on_event: called with every event that is appended.

    Attributes:
        clock: by which the whole run counts time.
        damage: what the disk has damaged, in a sentence; empty where nothing is.
    """

    def __init__(self, path: Path, on_event: Callable[[Event], None] = lambda event: None) -> None:
        self._on_event = on_event
        self.events: list[Event] = []
        self._records = Records(path, lambda event: admit(self.events, event))
        self.clock = Clock.of(self.events)
        self.damage = self._records.damage

    def append(self, kind: str, text: str, **fields: Any) -> Event:
        """Write an event and return it."""
        event: Event = {
            "seq": len(self.events) + 1,
            "t": self.clock.now(),
            "kind": kind,
            "text": text,
            **fields,
        }
        self._records.append(event, sync=True)
        self.events.append(event)
        self._on_event(event)
        return event

    def last(self, kind: str) -> Event | None:
        """The newest event of a kind."""
        return next((event for event in reversed(self.events) if event["kind"] == kind), None)

    def all(self, kind: str) -> list[Event]:
        """Every event of a kind, oldest first."""
        return [event for event in self.events if event["kind"] == kind]

    def close(self) -> None:
        """Close the file."""
        self._records.close()
