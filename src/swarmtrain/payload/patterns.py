"""Patterns of files as ``.dockerignore`` has them: ``*``, ``?``, ``[a-z]``, ``**``, and ``!`` for exceptions.

The rules are those of github.com/moby/patternmatcher: patterns refer to the root of the tree, a directory that
matches takes everything below it along, and the last pattern that matches decides.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Pattern(NamedTuple):
    """One pattern."""

    text: str
    regex: re.Pattern[str]
    exception: bool = False
    path: str = ""  # the text, tidied

    def matches(self, path: str) -> bool:
        """Whether the file, or a directory that it lies in, is meant."""
        return any(self.regex.fullmatch(part) for part in with_parents(path))


def compile_pattern(text: str) -> Pattern:
    """One pattern, with or without ``!``.

    Raises:
        ValueError: its brackets do not close.
    """
    exception = text.startswith("!")
    cleaned = posixpath.normpath(text[exception:].strip()).lstrip("/")
    try:
        return Pattern(text, re.compile(_regex(cleaned), re.DOTALL), exception, cleaned)
    except re.error as error:
        raise ValueError(f"{text!r} is no pattern: {error}") from None


def is_plain(text: str) -> bool:
    """Whether a pattern is one path, written out."""
    return not any(character in text for character in "*?[\\")


def read_ignore_file(text: str) -> list[Pattern]:
    """The patterns of a ``.dockerignore``. Raises ValueError."""
    lines = (line.strip() for line in text.removeprefix("\ufeff").splitlines())
    return [compile_pattern(line) for line in lines if line and not line.startswith("#") and line != "!"]


def ignored(path: str, patterns: Iterable[Pattern]) -> bool:
    """Whether the patterns of a ``.dockerignore`` leave this file out."""
    result = False
    for pattern in patterns:
        if pattern.exception == result and pattern.matches(path):
            result = not pattern.exception
    return result


def with_parents(path: str) -> Iterator[str]:
    """``a/b/c`` as ``a/b/c``, ``a/b``, ``a``."""
    while path:
        yield path
        path = path.rpartition("/")[0]


def _regex(pattern: str) -> str:
    result, position = "", 0
    while position < len(pattern):
        rest = pattern[position:]
        if rest.startswith("**"):
            position += 2
            if pattern[position : position + 1] == "/":
                position += 1
            result += ".*" if position == len(pattern) else "(?:.*/)?"
            continue
        character = rest[0]
        position += 1
        if character == "*":
            result += "[^/]*"
        elif character == "?":
            result += "[^/]"
        elif character == "[":
            end = pattern.find("]", position + 1)
            if end < 0:
                raise re.error("a bracket does not close")
            result += f"[{pattern[position:end]}]"
            position = end + 1
        elif character == "\\" and position < len(pattern):
            result += re.escape(pattern[position])
            position += 1
        else:
            result += re.escape(character)
    return result
