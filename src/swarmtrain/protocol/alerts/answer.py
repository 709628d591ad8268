"""What became of telling somebody; by itself, as every client's replies may hold it."""

from __future__ import annotations

from swarmtrain.protocol.schema import Struct


class AlertAnswer(Struct, kw_only=True):
    """What became of one attempt.

    Attributes:
        target: its name.
        delivered: it was taken.
        said: what was answered, or why nothing was, without the address.
        final: to try again would change nothing.
        after: seconds that it asks to wait before it is tried again; 0 where it asks nothing.
    """

    target: str
    delivered: bool
    said: str
    final: bool = False
    after: float = 0.0
