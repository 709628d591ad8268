"""Events of a run as coordinator and agents both keep them: numbered from 1, without a gap, one a line of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from swarmtrain.wire.records import parse

Event = dict[str, Any]

_LONGEST_GAP = 100  # events; a number that leaves out more is itself damaged


def admit(events: list[Event], event: Event) -> None:
    """Add an event to those before it. In the place of what is missing between them stands one that says so.

    Raises:
        KeyError, TypeError, ValueError: it is no event, or not one that can follow.
    """
    seq, moment = int(event["seq"]), float(event["t"])
    if not isinstance(event["kind"], str) or not isinstance(event["text"], str):
        raise TypeError("an event has a kind and a text")
    if not 0 <= seq - len(events) - 1 <= _LONGEST_GAP:
        raise ValueError(f"event {seq} cannot follow {len(events)}")
    while len(events) < seq - 1:
        text = "what happened here is lost: the disk has damaged it"
        events.append({"seq": len(events) + 1, "t": moment, "kind": "damaged", "text": text})
    events.append(event)


def read(path: Path) -> list[Event]:
    """The events in a file, without what is damaged or torn. Raises OSError."""
    events: list[Event] = []
    with path.open("rb") as file:
        for line in file:
            try:
                admit(events, parse(line) or {})
            except (KeyError, TypeError, ValueError):
                continue
    return events
