"""What a terminal would show of a line that is drawn more than once, as progress bars do. Pure; for bytes and for text.

A carriage return begins the line anew. So does a cursor that goes one line up just before a newline takes it down
again: bars below each other are drawn so (tqdm's ``position``), and each drawing would be a line otherwise.
"""

from __future__ import annotations

import re
from typing import AnyStr

_UP, _UP_BYTES = "\x1b[A", b"\x1b[A"
_DOWN = re.compile(rb"\r*\n")


def join(data: bytes) -> bytes:
    """The same without newlines that only undo a step upwards; in one pass, however many there are."""
    first, *rest = data.split(_UP_BYTES)
    behind = [bytearray(first)]  # what stands behind each step upwards that nothing has undone yet
    undoable = [False]  # whether these are carriage returns alone, so that a newline still undoes the step
    for part in rest:
        behind.append(bytearray())
        undoable.append(True)
        at = 0
        while undoable[-1] and (down := _DOWN.match(part, at)):
            at = down.end()
            behind.pop()
            undoable.pop()
            behind[-1] += b"\r"
        left = part[at:]
        behind[-1] += left
        undoable[-1] = undoable[-1] and not left.strip(b"\r")
    return _UP_BYTES.join(behind)


def last(line: AnyStr) -> AnyStr:
    """The last drawing of a whole line."""
    up, back = (_UP, "\r") if isinstance(line, str) else (_UP_BYTES, b"\r")
    end = len(line)
    while line.endswith((up, back), 0, end):
        end -= len(back if line.endswith(back, 0, end) else up)
    return line[:end].rpartition(back)[2]


def latest(line: bytes) -> bytes:
    """What counts of a part of a line: its last drawing, if that begins the line anew, and if the next one does."""
    drawn = line.rstrip(b"\r")
    _, again, drawing = drawn.rpartition(b"\r")
    return again + drawing + line[len(drawn) :][:1]


def whole_characters(data: bytes) -> int:
    """How many of these bytes there are without a character at the end whose last bytes are still to come (UTF-8)."""
    for back in range(1, min(4, len(data) + 1)):
        byte = data[-back]
        if byte & 0xC0 != 0x80:  # where a character begins
            length = 1 + (byte >= 0xC0) + (byte >= 0xE0) + (byte >= 0xF0)
            return len(data) - back if byte < 0xF8 and length > back else len(data)
    return len(data)
