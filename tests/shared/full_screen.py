"""A terminal as far as a program needs one that draws on all of it: what stands where, and in which mode it is left."""

from __future__ import annotations

import re

_PIECE = re.compile(r"\x1b\[(\?)?([\d;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


class FullScreen:
    """A page of so many rows and columns, and another one behind it.

    Attributes:
        rows: of the page that is seen.
        modes: that are on, by their DEC numbers.
        styled: whether any colour has come.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.count = columns, rows
        self.modes = {7, 25}  # lines go on in the next row by themselves; the cursor is seen
        self.styled = False
        self._pages = {False: [""] * rows, True: [""] * rows}
        self._row, self._column = 0, 0

    @property
    def rows(self) -> list[str]:
        return self._pages[1049 in self.modes]

    def write(self, text: str) -> None:
        """What a program writes, in whole sequences."""
        for match in _PIECE.finditer(text):
            mark, numbers, letter, control, plain = match.groups()
            if plain is not None:
                self._put(plain)
            elif control is not None:
                self._row = min(self.count - 1, self._row + (control == "\n"))
                self._column = 0
            elif mark:
                change = self.modes.add if letter == "h" else self.modes.discard
                for number in numbers.split(";"):
                    change(int(number))
            else:
                self._obey(letter, numbers)
        assert "\x1b" not in _PIECE.sub("", text), f"this terminal knows no {_PIECE.sub('', text)!r}"

    def _obey(self, letter: str, numbers: str) -> None:
        if letter == "H":
            row, _, column = (numbers or "1;1").partition(";")
            self._row, self._column = int(row) - 1, int(column or 1) - 1
            assert 0 <= self._row < self.count, "the cursor left the screen"
        elif letter == "K":
            self.rows[self._row] = self.rows[self._row][: self._column]
        elif letter == "J":
            self.rows[:] = [""] * self.count
        else:
            assert letter == "m", f"this terminal knows no sequence that ends with {letter}"
            self.styled = self.styled or numbers not in ("", "0")

    def _put(self, text: str) -> None:
        row = self.rows[self._row].ljust(self._column)
        self._column += len(text)
        self.rows[self._row] = row[: self._column - len(text)] + text + row[self._column :]
        assert len(self.rows[self._row].rstrip()) <= self.columns, f"wider than the screen: {text!r}"

    def resize(self, columns: int, rows: int) -> None:
        """Another size; what stood there may stand anywhere."""
        self.columns, self.count = columns, rows
        for page in self._pages.values():
            page[:] = [line[:columns] for line in page[:rows]] + [""] * (rows - len(page))

    def shown(self) -> str:
        """All of it as text."""
        return "\n".join(line.rstrip() for line in self.rows)
