"""Lines that have not ended, such as progress bars: drawn below everything that was written, and drawn anew in place.

Used by terminal.py, on a terminal only. Pipes and files get each line once, when it is whole.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from swarmtrain.control.views.clean import clean
from swarmtrain.wire.plural import counted, plural


class Below:
    """The lines at the bottom of a terminal."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._drawn = 0

    def replace(self, lines: Sequence[str], size: os.terminal_size) -> None:
        """Other lines; those that do not fit are cut, and those of too many left out with a word."""
        most = max(1, size.lines - 2)
        kept = [fitted(line, size.columns - 1) for line in lines]
        if len(kept) > most:
            more = len(kept) - most + 1
            kept = [*kept[: most - 1], f"({counted(more, 'more line')} that {plural(more, 'goes', 'go')} on)"]
        self._lines = kept

    def erase(self) -> str:
        """What takes them off the screen, so that something can be written there."""
        up = f"\x1b[{self._drawn - 1}A" if self._drawn > 1 else ""
        erasing = f"\r{up}\x1b[J" if self._drawn else ""
        self._drawn = 0
        return erasing

    def draw(self) -> str:
        """What puts them there again, below what has been written."""
        self._drawn = len(self._lines)
        return "\n".join(self._lines)


def fitted(line: str, columns: int) -> str:
    """A line that takes at most so many columns and moves no cursor."""
    from rich.cells import cell_len, set_cell_size

    plain = clean(line, colour=False).expandtabs(8)
    return plain if cell_len(plain) <= columns else set_cell_size(plain, columns).rstrip()
