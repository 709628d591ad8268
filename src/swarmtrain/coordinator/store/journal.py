"""The journal: the append-only record of what happened to a run, from which every screen is drawn.

One event a line: its number, its time by the run's own clock, its kind, a sentence for people and what the kind needs.
Each is on disk, and has changed the run's state, before anybody is told of it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from swarmtrain.coordinator.core.state import RunState, replay
from swarmtrain.errors import ClusterError
from swarmtrain.protocol.facts import ClockOrigin
from swarmtrain.protocol.journal.event import E, Event
from swarmtrain.protocol.journal.events import VERSION
from swarmtrain.protocol.journal.lines import admit
from swarmtrain.wire.clock import MACHINE, Clock, RunClock
from swarmtrain.wire.disk.records import Record, Records


class NewerJournal(ClusterError):
    """A newer version has written it: nobody of this version goes on with the run, however often it is tried."""


class Journal:
    """The journal of one run, open for appending.

    Args:
        path: the file; what it already holds is read.
        clock: of this machine.
        on_event: called with every event that is appended.
        archive: nobody leads the run any more.

    Attributes:
        state: what the events amount to.
        clock: by which the whole run counts time.
        damage: what the disk has damaged, in a sentence; empty where nothing is.

    Raises:
        NewerJournal: it was written by a newer version.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock = MACHINE,
        on_event: Callable[[Event], None] = lambda event: None,
        *,
        archive: bool = False,
    ) -> None:
        self.path, self._on_event = path, on_event
        self.events: list[Event] = []
        self._records = Records(path, self._take)
        self.damage = self._records.damage
        try:
            _check_version(self.events)
        except NewerJournal:
            self.close()
            raise
        self.state: RunState = replay(self.events).abandoned() if archive else replay(self.events)
        kept = self.state.clock
        self.clock = RunClock.after(self.state.last, clock, boot=kept.boot, epoch=kept.epoch)

    def _take(self, record: Record, summed: bool) -> None:
        admit(self.events, record, summed=summed)

    def append(self, event: E) -> E:
        """Write an event; returned as it stands there, with its number and its time."""
        numbered = event.numbered(len(self.events) + 1, self.clock.now())
        self._records.append(numbered.dump(), sync=True)
        self.events.append(numbered)
        self.state = self.state.apply(numbered)
        self._on_event(numbered)
        return numbered

    def origin(self) -> ClockOrigin:
        """By what clock it is kept, for whoever goes on with it."""
        return ClockOrigin(self.clock.clock.boot(), self.clock.epoch)

    def last(self, kind: type[E]) -> E | None:
        """The newest event of a kind."""
        return next((event for event in reversed(self.events) if isinstance(event, kind)), None)

    def all(self, kind: type[E]) -> list[E]:
        """Every event of a kind, oldest first."""
        return [event for event in self.events if isinstance(event, kind)]

    def close(self) -> None:
        """Close the file."""
        self._records.close()


def _check_version(events: list[Event]) -> None:
    """As the first event says itself: one of a newer version may be none that this version can load."""
    version = events[0].dump().get("version", 0) if events else 0
    if not isinstance(version, int) or version > VERSION:
        raise NewerJournal(
            f"the journal of this run has format {version}, and this version of swarmtrain reads up to {VERSION}",
            "use the version that the run was started with, or a newer one",
        )
