"""What all events of a run's journal have in common; the kinds are in events.py and remarks.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, ClassVar, TypeVar

from swarmtrain.protocol import codec
from swarmtrain.protocol.schema import OMITTED, Struct, WireKey

HEAD = ("seq", "t", "kind", "text")

E = TypeVar("E", bound="Event")


class Event(Struct, kw_only=True):
    """Something that happened to a run.

    Attributes:
        text: a sentence for people.
        seq: its number, from 1 and without a gap; 0 before it is in the journal.
        time: Unix time, by the run's own clock.
        more: keys that this version does not know.
    """

    kind: ClassVar[str] = ""

    text: str
    seq: int = 0
    time: Annotated[float, WireKey("t")] = 0.0
    more: Annotated[Mapping[str, Any], OMITTED] = field(default_factory=dict)

    def numbered(self: E, seq: int, time: float) -> E:
        """The same as the journal takes it."""
        return dataclasses.replace(self, seq=seq, time=time)

    def dump(self) -> dict[str, object]:
        """As a line of the journal, and as clients and agents get it."""
        head = {"seq": self.seq, "t": self.time, "kind": self.kind, "text": self.text}
        body = codec.dump(self)
        return head | {key: body[key] for key in body if key not in (*HEAD, "more")} | dict(self.more)


class UnknownEvent(Event, kw_only=True):
    """An event of another version, as it was read.

    Attributes:
        is_a: its kind.
    """

    is_a: str

    @property
    def kind(self) -> str:  # type: ignore[override]
        return self.is_a

    def dump(self) -> dict[str, object]:
        """As it was read."""
        return {"seq": self.seq, "t": self.time, "kind": self.is_a, "text": self.text} | dict(self.more)
