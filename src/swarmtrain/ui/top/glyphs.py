"""Bars and curves of one line, in the characters that a terminal has. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise


@dataclass(frozen=True)
class Glyphs:
    """Characters to draw with.

    Attributes:
        full, half, rest: of a bar: what is done, its last half of a column, and what is left.
        shades: for parts of one bar; told apart also where there is no colour.
        levels: of a curve, from low to high.
        dot: between words that stand side by side.
        dots: the terminal has braille.
    """

    full: str = "━"
    half: str = "╸"
    rest: str = "─"
    shades: str = "█▓▒░▚▞"
    levels: str = "▁▂▃▄▅▆▇█"
    dot: str = "·"
    dots: bool = True


UNICODE = Glyphs()
SOLID = replace(UNICODE, shades="█" * len(UNICODE.shades))  # where colours tell the parts of a bar apart
ASCII = Glyphs("#", "", "-", "#=+-:.", "_.-~=+*#", "|", dots=False)


def bar(share: float, width: int, glyphs: Glyphs) -> tuple[str, str]:
    """What is done and what is left of a bar, in so many columns together."""
    halves = round(min(1.0, max(0.0, share)) * width * 2)
    done = glyphs.full * (halves // 2) + (glyphs.half if halves % 2 else "")
    return done, glyphs.rest * (width - len(done))


def portions(values: Sequence[float], width: int) -> list[int]:
    """How many columns each part of a bar has: in all so many, as the values have it."""
    whole = sum(values)
    if whole <= 0.0:
        return [0] * len(values)
    edges = [round(sum(values[:count]) / whole * width) for count in range(len(values) + 1)]
    return [after - before for before, after in pairwise(edges)]


def sparkline(values: Sequence[float], width: int, glyphs: Glyphs) -> str:
    """A curve in one line, of at most so many columns, one a value; empty below two of them."""
    finite = [value for value in values if math.isfinite(value)][-max(0, width) :]
    if len(finite) < 2 or width < 2:
        return ""
    low, high = min(finite), max(finite)
    scale = (len(glyphs.levels) - 1) / (high - low) if high > low else 0.0
    return "".join(glyphs.levels[round((value - low) * scale)] for value in finite)
