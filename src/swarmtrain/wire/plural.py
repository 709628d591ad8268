"""Counted things in sentences, ``1 step`` and ``2 steps``: for whatever says how many there are of something."""

from __future__ import annotations


def counted(number: float, one: str, many: str = "") -> str:
    """``1 rank``, ``3 ranks``; ``many`` where it is not ``one`` with an s."""
    return f"{number} {plural(number, one, many)}"


def plural(number: float, one: str, many: str = "") -> str:
    """The word that goes with a number: ``rank`` or ``ranks``, ``has`` or ``have``."""
    return one if number == 1 else many or f"{one}s"
