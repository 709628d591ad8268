"""The journal: the append-only record of what happened to a run, from which every screen is drawn.

One JSON object a line: ``seq`` (from 1), ``t`` (Unix time), ``kind``, ``text`` (a sentence for people) and what the
kind needs. Each line is on disk before anybody is told of it. A torn last line, from a power cut, is dropped.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Event = dict[str, Any]


class Journal:
    """The journal of one run, open for appending.

    Args:
        path: the file; what it already holds is read.
        on_event: called with every event that is appended.
    """

    def __init__(self, path: Path, on_event: Callable[[Event], None] = lambda event: None) -> None:
        self._on_event = on_event
        self.events = read(path)
        whole = sum(len(json.dumps(event)) + 1 for event in self.events)
        self._file = path.open("ab")
        if self._file.tell() != whole:
            self._file.truncate(whole)
        self._seq = self.events[-1]["seq"] if self.events else 0

    def append(self, kind: str, text: str, **fields: Any) -> Event:
        """Write an event and return it. Raises OSError when the disk refuses."""
        self._seq += 1
        event: Event = {"seq": self._seq, "t": time.time(), "kind": kind, "text": text, **fields}
        self._file.write(json.dumps(event).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.events.append(event)
        self._on_event(event)
        return event

    def last(self, kind: str) -> Event | None:
        """The newest event of a kind."""
        return next((event for event in reversed(self.events) if event["kind"] == kind), None)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read(path: Path) -> list[Event]:
    """The events in a journal, up to the first line that is not whole; none where there is no file."""
    events: list[Event] = []
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return events
    for line in lines[:-1]:
        try:
            events.append(json.loads(line))
        except ValueError:
            break
    return events
