"""A run's events in a row, as coordinator and agents both keep them: numbered from 1, one a line of a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from swarmtrain.protocol.journal.event import Event
from swarmtrain.protocol.journal.events import load
from swarmtrain.protocol.journal.remarks import LineDamaged
from swarmtrain.protocol.schema import Document
from swarmtrain.wire.disk.records import as_line, is_summed, parse

# Events; a number that leaves out more is itself damaged, where no checksum says it is not.
_LONGEST_GAP = 100
_BATCH_BYTES = 1 << 20  # of events that go into one message, far below what a frame may hold


def admit(events: list[Event], record: Mapping[str, object], *, summed: bool = False) -> None:
    """Add an event to those before it. In the place of what is missing between them stands one that says so.

    Args:
        summed: it is as it was written, by its line's checksum: what is missing is, however much that is.

    Raises:
        KeyError, TypeError, ValueError: it is no event, or not one that can follow.
    """
    event = load(record)
    gap = event.seq - len(events) - 1
    if gap < 0 or (gap > _LONGEST_GAP and not summed):
        raise ValueError(f"event {event.seq} cannot follow {len(events)}")
    while len(events) < event.seq - 1:
        text = "what happened here is lost: the disk has damaged it"
        events.append(LineDamaged(text=text, seq=len(events) + 1, time=event.time))
    events.append(event)


def read_events(path: Path) -> list[Event]:
    """The events in a file, without what is damaged or torn. Raises OSError."""
    events: list[Event] = []
    with path.open("rb") as file:
        for line in file:
            try:
                admit(events, parse(line) or {}, summed=is_summed(line))
            except (KeyError, TypeError, ValueError):
                continue
    return events


def batches(events: Iterable[Event]) -> Iterator[list[Document]]:
    """Events in pieces that fit into messages; one that is too large for a message is alone in its piece."""
    batch: list[Document] = []
    size = 0
    for event in events:
        record = event.dump()
        length = len(as_line(record))
        if batch and size + length > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += length
    if batch:
        yield batch
