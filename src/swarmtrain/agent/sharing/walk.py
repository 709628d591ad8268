"""What lies in a working directory, and which of it workers have open: bounded looks.

Sets are made of files, so no version tells of directories in which nothing had been written yet when their writers were
killed: `remove_hollow` is for these.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

MOST_FILES = 5_000  # of all directories
MOST_OF_ONE = 1_000  # files in one directory
MOST_BYTES = 64 << 30  # in one directory
MOST_DIRECTORIES = 1_000
_DEPTH = 16
_RECENT = 30.0  # seconds before the end of their writers in which directories were made that go with them
_NUMBERED = re.compile(r"\d")
_NEVER = ("__pycache__", "lost+found")
# What is written to be renamed when it is whole, as tempfile and most others call it.
_TEMPORARY = re.compile(r"\.?tmp[a-z0-9_]{8}|.*\.(tmp|temp|part|partial|incomplete|swp)|.*\.tmp[.-][^.]+|.*~")


class FileStamp(NamedTuple):
    """By what a file that was not touched is known again."""

    size: int
    changed: int  # mtime in nanoseconds
    inode: int


def stamp_of(path: Path) -> FileStamp | None:
    """That of a file; None where there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return FileStamp(status.st_size, status.st_mtime_ns, status.st_ino)


@dataclass(frozen=True)
class Rules:
    """Which files are shared.

    Attributes:
        only: patterns of those that are; empty: all.
        never: patterns of those that stay where they are.
    """

    only: tuple[str, ...] = ()
    never: tuple[str, ...] = ()

    def takes(self, path: str) -> bool:
        """Whether a file is shared, by its path below the working directory."""
        return (not self.only or matches(path, self.only)) and not matches(path, self.never)


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether a path, one of the directories that it lies in, or its name alone is meant by a pattern."""
    parts = path.split("/")
    named = [path, parts[-1], *("/".join(parts[:length]) for length in range(1, len(parts)))]
    return any(fnmatch.fnmatchcase(name, pattern.rstrip("/")) for pattern in patterns for name in named)


@dataclass
class Contents:
    """What was found.

    Attributes:
        files: by path below the working directory.
        left_out: directories that are not shared, and why.
    """

    files: dict[str, FileStamp] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def walk(work: Path, rules: Rules, known_large: Iterable[str] = ()) -> Contents:
    """The files of a working directory. Links are not followed, and what is neither file nor directory does not count.

    Args:
        known_large: directories that an earlier look found too large: they are not looked into again.
    """
    found, large = Contents(), set(known_large)
    waiting, directories = [("", 0)], 0
    while waiting:
        directory, depth = waiting.pop(0)
        directories += 1
        if directory in large:
            continue
        if directories > MOST_DIRECTORIES or depth > _DEPTH:
            found.left_out[directory] = "there are too many directories"
            continue
        mine: dict[str, FileStamp] = {}
        try:
            below = _list(work, directory, mine, rules)
        except OSError as error:
            if not directory or not isinstance(error, FileNotFoundError):
                found.left_out[directory] = f"it cannot be read: {error.strerror}"
            continue
        why = ""
        if len(mine) > MOST_OF_ONE or len(found.files) + len(mine) > MOST_FILES:
            why = f"it has more than {MOST_OF_ONE} files"
            if len(mine) <= MOST_OF_ONE:
                why = f"there are more than {MOST_FILES} files"
        elif sum(each.size for each in mine.values()) > MOST_BYTES:
            why = f"it has more than {MOST_BYTES >> 30} GB"
        if why:
            found.left_out[directory] = why
        else:
            found.files |= mine
        waiting += [(each, depth + 1) for each in below]
    return found


def _list(work: Path, directory: str, mine: dict[str, FileStamp], rules: Rules) -> list[str]:
    """Put a directory's files where they belong, some more than are shared at most; its directories. Raises OSError."""
    below: list[str] = []
    with os.scandir(work / directory) as entries:
        for entry in entries:
            path = f"{directory}/{entry.name}" if directory else entry.name
            if entry.name in _NEVER or ".swarmtrain" in entry.name or entry.name.endswith(".pyc"):
                continue
            if _TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                continue
            try:
                status = entry.stat(follow_symlinks=False)
                path.encode()  # a name that is no text could not be told
            except (OSError, UnicodeEncodeError):
                continue  # it has gone
            if stat.S_ISDIR(status.st_mode):
                if not matches(path, rules.never) and len(below) <= MOST_DIRECTORIES:
                    below.append(path)
            elif stat.S_ISREG(status.st_mode) and rules.takes(path):
                mine[path] = FileStamp(status.st_size, status.st_mtime_ns, status.st_ino)
                if len(mine) > MOST_OF_ONE:
                    break
    return sorted(below)


class OpenFile(NamedTuple):
    """A file that some process has open for writing."""

    path: str
    appends: bool


def open_for_writing(work: Path, pids: Sequence[int]) -> Iterator[OpenFile]:
    """The files below the working directory that processes have open for writing, or have mapped so."""
    base = f"{os.path.realpath(work)}/"
    for pid in pids:
        descriptors = f"/proc/{pid}/fd"
        try:
            numbers = os.listdir(descriptors)  # noqa: PTH208 - names are all that is wanted
        except OSError:
            continue  # it has gone
        for number in numbers:
            try:
                target = os.readlink(f"{descriptors}/{number}")  # noqa: PTH115 - as above
                if not target.startswith(base):
                    continue
                flags = _flags(pid, number)
            except (OSError, ValueError):
                continue
            if flags & os.O_ACCMODE != os.O_RDONLY:
                yield OpenFile(target[len(base) :], bool(flags & os.O_APPEND))
        yield from (
            OpenFile(target[len(base) :], False) for target in _mapped(pid) if target.startswith(base)
        )


def _flags(pid: int, number: str) -> int:
    for line in Path(f"/proc/{pid}/fdinfo/{number}").read_text().splitlines():
        if line.startswith("flags:"):
            return int(line.split()[1], 8)
    raise ValueError(number)


def _mapped(pid: int) -> Iterator[str]:
    """Files that a process writes by mapping them, as numpy.memmap does."""
    try:
        with open(f"/proc/{pid}/maps", errors="replace") as lines:
            for line in lines:
                if " rw-s " in line:
                    fields = line.rstrip("\n").split(None, 5)
                    if len(fields) == 6:
                        yield fields[5]
    except OSError:
        return


def remove_hollow(work: Path, rules: Rules, ended: float) -> list[str]:
    """Remove directories in which killed writers had written nothing yet, the least half of a checkpoint; their paths.

    A script that goes on from the newest `checkpoint-*` would take one for that. They go where they are numbered, as
    those of checkpoints are, and were made only just before: one that is made at the start, and filled later, stays.

    Args:
        ended: Unix time of their writers' end.
    """
    removed = []
    for path in reversed(list(_numbered(work, rules))):  # what lies in one before it
        directory = work / path
        try:
            if directory.stat().st_mtime > ended - _RECENT:
                directory.rmdir()
                removed.append(path)
        except OSError:
            continue  # something is in it
    return sorted(removed)


def _numbered(work: Path, rules: Rules) -> Iterator[str]:
    """Directories that are shared and have a number in their path, each after the one that it lies in."""
    for looked, (where, names, _) in enumerate(os.walk(work)):
        if looked >= MOST_DIRECTORIES:
            return
        base = os.path.relpath(where, work)
        paths = {name: name if base == "." else f"{base}/{name}" for name in names}
        names[:] = [
            name
            for name in names
            if not matches(paths[name], rules.never) and not (work / paths[name]).is_symlink()
        ]
        yield from (
            path for path in map(paths.__getitem__, names) if rules.takes(path) and _NUMBERED.search(path)
        )
