"""Amounts in sentences, ``1 step``, ``2 steps``, ``3.14 MB``: for whatever says how many there are of something."""

from __future__ import annotations


def counted(number: float, one: str, many: str = "") -> str:
    """``1 rank``, ``3 ranks``; ``many`` where it is not ``one`` with an s."""
    return f"{number} {plural(number, one, many)}"


def plural(number: float, one: str, many: str = "") -> str:
    """The word that goes with a number: ``rank`` or ``ranks``, ``has`` or ``have``."""
    return one if number == 1 else many or f"{one}s"


def say_size(size: int) -> str:
    """Bytes for a person, in powers of 1000 as disks and links are sold: ``512 B``, ``3.14 MB``."""
    if size < 1000:
        return f"{size} B"
    value = float(size)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.5:
            return f"{value:.3g} {unit}"
    return f"{value / 1000:.3g} TB"
