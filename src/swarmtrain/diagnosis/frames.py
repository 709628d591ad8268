"""Lines of source in tracebacks and in dumps of stacks (``faulthandler``'s format, Python 3.10 to 3.14)."""

from __future__ import annotations

import re
from itertools import pairwise

from swarmtrain.protocol.schema import Struct

_THREAD = re.compile(r"^(?:Current thread|Thread) 0x[0-9a-f]+ .*\(most recent call first\):$")
_FRAME = re.compile(r'^  File "(?P<file>.*?)", line (?P<line>\d+|\?\?\?),? in (?P<function>.*)$')
# Code that the user has not written: torch and other packages, the standard library, and what started the worker.
_NOT_THE_USERS = re.compile(
    r"^<|/(?:site|dist)-packages/|/lib/python3\.\d+t?/|/swarmtrain/(?:worker|trainer|wire|inside\.py)"
)
MOST = 1 << 16  # letters of a traceback, or of a dump, that are looked at: its innermost lines are its last


class SourceLine(Struct):
    """Where a thread was.

    Attributes:
        line: 0 where a dump does not tell it.
        code: the line itself, where a traceback shows it.
    """

    file: str
    line: int
    function: str
    code: str = ""

    def __str__(self) -> str:
        return f"{self.file.rpartition('/')[2]}:{self.line} in {self.function}"

    @property
    def is_users(self) -> bool:
        """Whether it is the user's own code."""
        return not _NOT_THE_USERS.search(self.file)


def frames(text: str) -> list[SourceLine]:
    """The main thread's frames, innermost first, of a traceback or of a dump of all threads."""
    text = text[-MOST:]
    if dump := threads(text):
        return [each for each in dump[-1] if each.line]
    found = [
        _line(match, below.strip() if below.startswith("    ") else "")
        for line, below in pairwise([*text.splitlines(), ""])
        if (match := _FRAME.match(line))
    ]
    return found[::-1]


def threads(dump: str) -> list[list[SourceLine]]:
    """The frames of each thread in a dump, innermost first; the main thread is the last. None for a traceback."""
    found: list[list[SourceLine]] = []
    for line in dump.splitlines():
        if _THREAD.match(line):
            found.append([])
        elif found and (match := _FRAME.match(line)):
            found[-1].append(_line(match))
    return found


def own(text: str) -> SourceLine | None:
    """The innermost line of the user's own code; None where there is none."""
    return next((each for each in frames(text) if each.is_users), None)


def place(text: str) -> str:
    """The same in words, ``train.py:57 in step``; empty where there is none."""
    return str(own(text) or "")


def _line(match: re.Match[str], code: str = "") -> SourceLine:
    number = int(match["line"]) if match["line"].isdigit() else 0
    return SourceLine(match["file"], number, match["function"], code)
