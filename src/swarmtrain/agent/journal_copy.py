"""A node's own copy of the run's journal, so that it survives the machine that the coordinator ran on."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from swarmtrain.protocol.journal.event import Event
from swarmtrain.protocol.journal.lines import admit, read_events
from swarmtrain.protocol.schema import Document
from swarmtrain.wire.disk.records import as_line


class JournalCopy:
    """The copy, open for appending. A disk that is full costs the copy, not the training.

    Args:
        path: the file; what it already holds is read, but for what is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._taken: float | None = None  # monotonic time at which the newest event came
        self.events: list[Event] = []
        try:
            self.events = read_events(path)
            data = path.read_bytes()
            if not data.endswith(b"\n"):
                os.truncate(path, data.rfind(b"\n") + 1)
        except OSError:
            pass  # there is none yet, or the disk is broken

    @property
    def age(self) -> float | None:
        """Seconds since the newest event came; None for a copy that an agent before this one has left."""
        return None if self._taken is None else time.monotonic() - self._taken

    def take(self, fresh: Sequence[Document]) -> None:
        """Add events; those that are here already, or for which an earlier one is missing, are left out.

        The first of all events begins the copy anew.
        """
        if self.events and fresh and fresh[0]["seq"] == 1:
            self.forget()
        lines = []
        for record in fresh:
            if record["seq"] == len(self.events) + 1:
                admit(self.events, record)
                lines.append(as_line(record))
        if not lines:
            return
        self._taken = time.monotonic()
        try:
            with self._path.open("ab") as file:
                file.write(b"".join(lines))
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
