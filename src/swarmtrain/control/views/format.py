"""Single values as people say them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swarmtrain.control.views.clean import clean
from swarmtrain.wire.plural import say_size

NOTHING = "-"


def duration(seconds: float | None) -> str:
    """Seconds as people say them: ``0.4 s``, ``12 s``, ``3 min 5 s``, ``2 h 10 min``, ``4 d 3 h``."""
    if seconds is None:
        return NOTHING
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    for unit, name, below, below_name in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= unit:
            rest = whole % unit // below
            return f"{whole // unit} {name}" + (f" {rest} {below_name}" if rest else "")
    return f"{whole} s"


def age(seconds: float) -> str:
    """Whole seconds, as people say how old something is: ``4 s``, ``3 min 5 s``."""
    return f"{max(round(seconds), 0)} s" if seconds < 10 else duration(seconds)


def step_time(seconds: float | None) -> str:
    """The time of one step: ``8.1 ms``, ``0.54 s``."""
    if seconds is None:
        return NOTHING
    return f"{seconds * 1000:.3g} ms" if seconds < 0.1 else f"{seconds:.3g} s"


def size(count: int | None) -> str:
    """Bytes as people say them: ``512 B``, ``3.1 MB``."""
    return NOTHING if count is None else say_size(count)


def name(value: object) -> str:
    """A file or a node, as a node names it: it may have put anything into that, also what a terminal obeys."""
    text = str(value)
    return text if text.isprintable() else ascii(text)


def number(value: Any) -> str:
    """A metric: up to five significant digits."""
    if isinstance(value, float):
        return f"{value:.5g}"
    return NOTHING if value is None else str(value)


def ranks(values: Sequence[int]) -> str:
    """Ranks in short: ``0-2,5``."""
    parts: list[str] = []
    ordered = sorted(values)
    for index, rank in enumerate(ordered):
        if index and rank == ordered[index - 1] + 1:
            first = parts.pop().split("-")[0]
            parts.append(f"{first}-{rank}")
        else:
            parts.append(str(rank))
    return ",".join(parts) or NOTHING


def one_line(text: str) -> str:
    """Text of several lines, such as an exception's, as one; it drives no terminal."""
    return " / ".join(clean(part, colour=False) for part in map(str.strip, text.splitlines()) if part)
