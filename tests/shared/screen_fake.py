"""A terminal as far as these tests need one: what stands on its screen after everything that was written to it."""

from __future__ import annotations

import re

_PIECE = re.compile(r"\x1b\[(\d*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


class Screen:
    """Rows without end; a newline goes to the first column, as a terminal's driver has it."""

    def __init__(self) -> None:
        self.rows = [""]
        self._row, self._column = 0, 0

    def write(self, text: str) -> None:
        """What a program writes."""
        for match in _PIECE.finditer(text):
            count, letter, control, plain = match.groups()
            if letter == "A":
                self._row -= int(count or 1)
                assert self._row >= 0, "the cursor left the screen"
            elif letter == "J":
                self.rows[self._row] = self.rows[self._row][: self._column]
                del self.rows[self._row + 1 :]
            elif letter is not None:
                assert letter == "m", f"this terminal knows no {match[0]!r}"
            elif control == "\r":
                self._column = 0
            elif control == "\n":
                self._row, self._column = self._row + 1, 0
                self.rows += [""] * (self._row + 1 - len(self.rows))
            elif plain:
                row = self.rows[self._row].ljust(self._column)
                self.rows[self._row] = row[: self._column] + plain + row[self._column + len(plain) :]
                self._column += len(plain)

    def shown(self) -> list[str]:
        """The rows up to the last that has something on it."""
        rows = [row.rstrip() for row in self.rows]
        while rows and not rows[-1]:
            rows.pop()
        return rows
