"""What a terminal would show of a line that is drawn more than once, as progress bars do. Pure; for bytes and for text.

A carriage return begins the line anew. So does a cursor that goes one line up just before a newline takes it down
again: bars below each other are drawn so (tqdm's ``position``), and each drawing would be a line otherwise.
"""

from __future__ import annotations

import re
from typing import AnyStr

_UP = "\x1b[A"
_AGAIN = re.compile(r"\x1b\[A\r*\n")
_AGAIN_BYTES = re.compile(_AGAIN.pattern.encode())


def join(text: AnyStr) -> AnyStr:
    """The same without newlines that only undo a step upwards."""
    if isinstance(text, str):
        while _UP in text and (joined := _AGAIN.sub("\r", text)) != text:
            text = joined
    else:
        while _UP.encode() in text and (joined := _AGAIN_BYTES.sub(b"\r", text)) != text:
            text = joined
    return text


def last(line: AnyStr) -> AnyStr:
    """The last drawing of a whole line."""
    up, back = (_UP, "\r") if isinstance(line, str) else (_UP.encode(), b"\r")
    while line.endswith((up, back)):
        line = line.removesuffix(up).rstrip(back)
    return line.rpartition(back)[2]


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
