"""What lies in a working directory, and which of it workers have open: bounded looks.

Sets are made of files, so no version tells of directories in which nothing had been written yet when their writers were
killed: `remove_hollow` is for these.
"""

from __future__ import annotations

import errno
import fnmatch
import itertools
import os
import posixpath
import re
import stat
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, NamedTuple

from swarmtrain.files.record import FileStamp
from swarmtrain.protocol.shared_files import MOST_OF_ONE, link_content

MOST_FILES = 5_000  # of all directories
MOST_BYTES = 64 << 30  # in one directory
_MOST_ENTRIES = 20_000  # of whatever kind, in one directory
MOST_DIRECTORIES = 1_000
_MOST_WAITING = 4_000  # directories that were found and not looked into yet
_DEPTH = 16
_RECENT = 30.0  # seconds before the end of their writers in which directories were made that go with them
_NUMBERED = re.compile(r"\d")
_NEVER = ("__pycache__", "lost+found")
# As tempfile and most others call what is written to be renamed.
_TEMPORARY = re.compile(r"\.?tmp[a-z0-9_]{8}|.*\.(tmp|temp|part|partial|incomplete|swp)|.*\.tmp[.-][^.]+|.*~")


def read_content(path: Path) -> BinaryIO:
    """Open a file for reading, which is nothing that would have its reader wait; of a link, what is shared of it.

    Raises OSError.
    """
    if path.is_symlink():
        text = os.fdopen(os.memfd_create("link"), "w+b")
        text.write(link_content(text_of(path)))
        text.seek(0)
        return text
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no file any more", str(path))
    return os.fdopen(descriptor, "rb")


def text_of(link: Path) -> str:
    """Where a link leads, seen from where it lies, also if a whole path says so. Raises OSError."""
    text = os.readlink(link)  # noqa: PTH115 - the very text
    return os.path.relpath(text, os.path.realpath(link.parent)) if text.startswith("/") else text


def stays_inside(path: str, text: str) -> bool:
    """Whether a link that lies at a path below the working directory leads to something else below it.

    By its text alone: one that goes up again from what it has named leads elsewhere where that is a link itself.
    """
    leads = posixpath.normpath(posixpath.join(posixpath.dirname(path), text))
    parts = [part for part in text.split("/") if part not in ("", ".")]
    goes_up_again = ".." in itertools.dropwhile(lambda part: part == "..", parts)
    is_below = leads != "." and leads.partition("/")[0] != ".."
    return bool(text) and not text.startswith("/") and is_below and not goes_up_again


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


class NotShared(NamedTuple):
    """Why a directory is not shared.

    Attributes:
        below: nor is what lies in the directories in it.
        passes: it may be otherwise at the next look.
    """

    why: str
    below: bool = True
    passes: bool = False


@dataclass
class Contents:
    """What was found.

    Attributes:
        files: by path below the working directory.
        left_out: directories that are not shared.
    """

    files: dict[str, FileStamp] = field(default_factory=dict)
    left_out: dict[str, NotShared] = field(default_factory=dict)


class _Listing(NamedTuple):
    """What lies directly in one directory.

    Attributes:
        files, directories: their paths below the working directory.
        is_whole: no entry was passed over because there were so many.
    """

    files: dict[str, FileStamp]
    directories: list[str]
    is_whole: bool


def walk(work: Path, rules: Rules, left_out: Mapping[str, NotShared] = MappingProxyType({})) -> Contents:
    """The files of a working directory, and the links that lead to something in it, as `last -> checkpoint-60` does.

    None is followed, and nothing else counts.

    Args:
        left_out: what an earlier look found: it is not looked into again, unless that passes.
    """
    found, kept, waiting, listed = Contents(), _Kept(), deque([("", 0)]), 0
    while waiting:
        directory, depth = waiting.popleft()
        known = left_out.get(directory)
        known = None if known is not None and known.passes else known
        if known is None and (listed == MOST_DIRECTORIES or depth > _DEPTH):
            known = NotShared("there are too many directories")
        listing = _Listing({}, [], True)
        if known is None or not known.below:
            listed += 1
            try:
                listing = _list(work, directory, rules, with_files=known is None)
            except (FileNotFoundError, NotADirectoryError) as error:
                if directory:
                    continue  # it has gone
                known = NotShared(f"it cannot be read: {error.strerror}", passes=True)
            except OSError as error:
                known = NotShared(f"it cannot be read: {error.strerror}", passes=True)
            else:
                known = _too_much(directory, listing, len(waiting)) or known
        if known is None:
            found.left_out |= kept.add(directory, listing)
        else:
            found.left_out[directory] = known
        if known is None or not known.below:
            waiting.extend((each, depth + 1) for each in listing.directories)
    found.files = kept.files()
    return found


class _Kept:
    """Directories with not more files in all than are shared: of more, the directory with the most files goes.

    What is many and small, as data are, is left out before checkpoints are, wherever they lie.
    """

    def __init__(self) -> None:
        self._listings: dict[str, _Listing] = {}
        self._count = 0

    def add(self, directory: str, listing: _Listing) -> dict[str, NotShared]:
        """Another directory; those that are left out for it."""
        self._listings[directory] = listing
        self._count += len(listing.files)
        left_out = {}
        while self._count > MOST_FILES:
            largest = max(self._listings, key=lambda each: len(self._listings[each].files))
            gone = self._listings.pop(largest)
            self._count -= len(gone.files)
            # Nothing is in it but files: it need not be looked into again.
            below = bool(largest) and not gone.directories
            left_out[largest] = NotShared(f"there are more than {MOST_FILES} files", below)
        return left_out

    def files(self) -> dict[str, FileStamp]:
        """All of their files, by path."""
        return {path: stamp for each in self._listings.values() for path, stamp in each.files.items()}


def _too_much(directory: str, listing: _Listing, waiting: int) -> NotShared | None:
    """Why a directory is not shared, for what is in it; the directories in the working directory itself may be.

    Args:
        waiting: directories that are still to be looked into.
    """
    if not listing.is_whole:
        return NotShared(f"it has more than {_MOST_ENTRIES} entries")
    if waiting + len(listing.directories) > _MOST_WAITING:
        return NotShared("there are too many directories")
    below = bool(directory)
    if len(listing.files) > MOST_OF_ONE:
        return NotShared(f"it has more than {MOST_OF_ONE} files", below)
    if sum(each.size for each in listing.files.values()) > MOST_BYTES:
        return NotShared(f"it has more than {MOST_BYTES >> 30} GB", below)
    return None


def _list(work: Path, directory: str, rules: Rules, *, with_files: bool) -> _Listing:
    """What lies in a directory; of its files, some more than are shared at most. Raises OSError."""
    files, directories = dict[str, FileStamp](), list[str]()
    with os.scandir(work / directory) as entries:
        for number, entry in enumerate(entries):
            if number == _MOST_ENTRIES:
                return _Listing(files, directories, False)
            path = f"{directory}/{entry.name}" if directory else entry.name
            if entry.name in _NEVER or ".swarmtrain" in entry.name or entry.name.endswith(".pyc"):
                continue
            try:
                path.encode()  # a name that is no text could not be told
                if entry.is_dir(follow_symlinks=False):
                    if not matches(path, rules.never):
                        directories.append(path)
                elif with_files and len(files) <= MOST_OF_ONE and rules.takes(path):
                    status = entry.stat(follow_symlinks=False)
                    is_ours = entry.is_symlink() and stays_inside(path, text_of(Path(entry.path)))
                    if is_ours or stat.S_ISREG(status.st_mode):
                        files[path] = FileStamp(status.st_size, status.st_mtime_ns, status.st_ino)
            except (FileNotFoundError, UnicodeEncodeError):
                continue  # it has gone
    return _Listing(files, sorted(directories), True)


def is_temporary(name: str) -> bool:
    """Whether a file is to be renamed when it is whole, by its name: until then its set is not finished."""
    return _TEMPORARY.fullmatch(name) is not None


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
        if base.count("/") >= _DEPTH:
            names.clear()  # each level is a call in a call
        paths = {name: name if base == "." else f"{base}/{name}" for name in names}
        names[:] = [
            name
            for name in names
            if not matches(paths[name], rules.never) and not (work / paths[name]).is_symlink()
        ]
        yield from (
            path for path in map(paths.__getitem__, names) if rules.takes(path) and _NUMBERED.search(path)
        )
