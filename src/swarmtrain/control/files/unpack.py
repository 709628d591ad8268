"""A directory that came as a tar, brought to its place: unpacked aside, then moved; whole, or not at all.

`control.files.transfer` calls it. The checks are our own: what Python has for them (`tarfile`'s filters) is missing in
3.10 before 3.10.12 and in 3.11 before 3.11.4, and ends at the first link. Whoever controls a node controls the archive,
so nothing in it is believed: it makes plain files and directories below one that is new, and nothing else.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from swarmtrain.control.views import format
from swarmtrain.errors import ChannelError, RequestError

_OLDEST, _NEWEST = 0, 1 << 33  # times that every file system takes


def unpack(archive: Path, target: Path) -> list[str]:
    """Make ``target`` out of the one directory in a tar; what is in a directory of that name is kept or replaced.

    Returns:
        what was left out, and why, a sentence each.

    Raises:
        ChannelError: no such archive as an agent makes. RequestError: something else than a directory is in the way.
        OSError: the disk is full or broken. In all three cases everything is as it was.
    """
    base = target if target.is_dir() else target.parent  # on the same disk, so that moving copies nothing
    with tempfile.TemporaryDirectory(dir=base, prefix=".fetch-") as directory:
        aside = Path(directory) / "new"
        aside.mkdir()
        try:
            # never compressed: what it makes is no larger than it is
            with tarfile.open(archive, "r:") as tar:
                left_out = list(_extract(tar, aside))
        except (tarfile.TarError, EOFError, ValueError) as error:
            raise ChannelError(f"the directory that arrived cannot be unpacked: {error}") from error
        put(aside, target)
    return left_out


def put(aside: Path, target: Path) -> None:
    """Move a directory to its place; what is in a directory that is there is kept or replaced.

    Raises:
        RequestError: something else than a directory is in the way. OSError: the disk says no.
    """
    if not os.path.lexists(target):
        aside.rename(target)
    else:
        _merge(aside, target)


def _extract(tar: tarfile.TarFile, root: Path) -> Iterator[str]:
    """Write the members below ``root``; yield what is left out. Raises TarError for what no agent sends."""
    files: dict[PurePosixPath, Path] = {}
    for member in tar:
        path = _inside(member.name)
        place = root / path
        if member.isdir():
            _make_directory(place, member.name)
        elif member.issym():
            yield f"{format.name(path)}, a link to {format.name(member.linkname)}"
        elif member.islnk():
            source = files.get(_inside(member.linkname))
            if source is None:
                raise tarfile.ReadError(
                    f"{format.name(member.name)} is the same file as one that is not there"
                )
            files[path] = _write(source.open("rb"), place, member, source.stat().st_size)
        elif member.isreg() and not member.issparse():
            content = tar.extractfile(member)
            assert content is not None, "a regular file has content"
            files[path] = _write(content, place, member, member.size)
        else:
            yield f"{format.name(path)}, neither a file nor a directory"


def _inside(name: str) -> PurePosixPath:
    """A member's path below the one directory of the archive."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or not path.parts:
        raise tarfile.ReadError(f"{name!r} leads out of the directory")
    return PurePosixPath(*path.parts[1:])


def _make_directory(place: Path, name: str) -> None:
    try:
        place.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise tarfile.ReadError(f"{format.name(name)} is a file and a directory") from None


def _write(content: IO[bytes], place: Path, member: tarfile.TarInfo, size: int) -> Path:
    _make_directory(place.parent, member.name)
    mode = 0o777 if member.mode & 0o100 else 0o666
    try:
        handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except (FileExistsError, IsADirectoryError):
        raise tarfile.ReadError(f"{format.name(member.name)} comes twice") from None
    with content, open(handle, "wb") as file:
        shutil.copyfileobj(content, file, 1 << 20)
        if file.tell() != size:
            raise tarfile.ReadError(f"{format.name(member.name)} ends early")
    if _OLDEST <= member.mtime < _NEWEST:
        os.utime(place, (member.mtime, member.mtime))
    return place


def _merge(new: Path, target: Path) -> None:
    """Move what is below ``new`` into ``target``, file by file; what is only in ``target`` stays."""
    moves: list[tuple[Path, Path]] = []
    directories = [target]
    for directory, names, files in os.walk(new):
        there = target / Path(directory).relative_to(new)
        directories += [there / name for name in names]
        moves += [(Path(directory, name), there / name) for name in files]
    blocked = [each for each in directories if os.path.lexists(each) and not _is_directory(each, target)]
    blocked += [there for _, there in moves if there.is_dir() and not there.is_symlink()]
    if blocked:
        raise RequestError(
            f"{format.name(blocked[0])} is in the way", "move it away, or give another place with -o"
        )
    for each in directories:
        each.mkdir(exist_ok=True)
    for here, there in moves:
        here.replace(there)


def _is_directory(path: Path, target: Path) -> bool:
    """Whether files may go in: a link would lead them elsewhere, unless the user named it."""
    return path.is_dir() and (path == target or not path.is_symlink())
