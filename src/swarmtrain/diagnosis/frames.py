"""Lines of source in tracebacks and in dumps of stacks (``faulthandler``'s format, Python 3.10 to 3.14)."""

from __future__ import annotations

import re
from itertools import pairwise

from swarmtrain.protocol.schema import Struct

_THREAD = re.compile(r"^(?:Current thread|Thread) 0x[0-9a-f]+ .*\(most recent call first\):$")
_FRAME = re.compile(r'^  File "(?P<file>.*?)", line (?P<line>\d+),? in (?P<function>.*)$')
# Code that the user has not written: torch and other packages, the standard library, and what started the worker.
_NOT_THE_USERS = re.compile(
    r"^<|/(?:site|dist)-packages/|/lib/python3\.\d+t?/|/swarmtrain/(?:worker|trainer|wire|inside\.py)"
)


MOST = 1 << 16  # letters of a traceback, or of a dump, that are looked at: its innermost lines are its last


class SourceLine(Struct):
    """Where a thread was.

    Attributes:
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
    found: list[SourceLine] = []
    is_dump = False
    for line, below in pairwise([*text[-MOST:].splitlines(), ""]):
        if _THREAD.match(line):
            found, is_dump = [], True  # the main thread is the last
        elif match := _FRAME.match(line):
            code = below.strip() if below.startswith("    ") else ""
            found.append(SourceLine(match["file"], int(match["line"]), match["function"], code))
    return found if is_dump else found[::-1]


def own(text: str) -> SourceLine | None:
    """The innermost line of the user's own code; None where there is none."""
    return next((each for each in frames(text) if each.is_users), None)


def place(text: str) -> str:
    """The same in words, ``train.py:57 in step``; empty where there is none."""
    return str(own(text) or "")
