"""A node's own copy of the run's journal, so that it survives the machine that the coordinator ran on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from swarmtrain.wire.frames import Message

_BATCH = 50  # events in one message


class JournalCopy:
    """The copy, open for appending. A disk that is full costs the copy, not the training.

    Args:
        path: the file; what it already holds is read, up to the first line that is torn or out of order.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.events: list[Message] = []
        try:
            data = path.read_bytes()
            whole = 0
            for line in data.splitlines(keepends=True):
                event = _event(line, len(self.events) + 1)
                if event is None:
                    break
                self.events.append(event)
                whole += len(line)
            if whole < len(data):
                os.truncate(path, whole)
        except OSError:
            pass  # there is none yet, or the disk is broken

    def take(self, events: Sequence[Message]) -> None:
        """Add events; those that are here already, or for which an earlier one is missing, are left out.

        The first of all events begins the copy anew.
        """
        if self.events and events and events[0]["seq"] == 1:
            self.forget()
        fresh = []
        for event in events:
            if event["seq"] == len(self.events) + 1:
                self.events.append(event)
                fresh.append(json.dumps(event, separators=(",", ":")) + "\n")
        if not fresh:
            return
        try:
            with self._path.open("a", encoding="ascii") as file:
                file.write("".join(fresh))
        except OSError:
            pass  # in memory it lives as long as this agent

    def forget(self) -> None:
        """Begin anew: the coordinator goes on from another copy, which knew less or otherwise."""
        self.events.clear()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)
        except OSError:
            pass

    def batches(self) -> Iterator[list[Message]]:
        """The whole of it, in pieces that fit into messages."""
        for start in range(0, len(self.events), _BATCH):
            yield self.events[start : start + _BATCH]


def _event(line: bytes, seq: int) -> Message | None:
    """A whole line as the event of that number."""
    try:
        event = json.loads(line)
        return event if line.endswith(b"\n") and event["seq"] == seq else None
    except (ValueError, KeyError, TypeError):
        return None
