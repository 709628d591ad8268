"""The archive of the files that were chosen: read piece by piece, so that no more than it is ever in memory.

`payload.code` calls it. Files whose content gives them away as keys are left out here, where they are read. Where all
nodes are on this machine, it has links to large files instead: they are used where they lie.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from swarmtrain.errors import RequestError
from swarmtrain.payload import credentials, tree, zips
from swarmtrain.payload.patterns import with_parents
from swarmtrain.payload.tree import Entry, LeftOut
from swarmtrain.wire.plural import say_size

MAX_RAW_BYTES = 200_000_000  # beyond this, nobody waits for the compression
# Where all nodes are on this machine: what is larger, or more, is used where it lies.
COPIED_FILE_BYTES = 16_000_000
COPIED_BYTES = 32_000_000

_PIECE_BYTES = 1 << 20


class Packed(NamedTuple):
    """The archive and what is in it, as `payload.code.Code` has it.

    Args:
        left_out: files that hold a key and nothing else.
        tokens: the names of sources with what looks like a key in them.
    """

    archive: bytes
    files: tuple[tuple[str, int], ...]
    directories: tuple[str, ...]
    in_place: tuple[tuple[str, int], ...]
    left_out: tuple[LeftOut, ...]
    tokens: tuple[str, ...]


def pack(chosen: Sequence[Entry], named: frozenset[str], limit: int | None, script: str | None) -> Packed:
    """The archive of files and directories.

    Args:
        named: paths that a person has written out, which are sent whatever is in them.
        limit: the most bytes that it may have; None where all nodes are on this machine.

    Raises:
        RequestError: it is too large, or a file cannot be read.
    """
    raw = sum(entry.size for entry in chosen)
    if limit is not None and raw > MAX_RAW_BYTES:
        raise _too_large(raw, limit, "", [(entry.size, entry.name) for entry in chosen])
    in_place = frozenset[str]() if limit is not None else _large(chosen, script)
    writer = zips.ZipWriter(deflate=limit is not None)
    files: list[tuple[str, int]] = []
    linked: list[tuple[str, int]] = []
    left_out: list[LeftOut] = []
    tokens: list[str] = []
    for entry in sorted(chosen):
        if entry.is_directory:
            continue
        _check_name(entry.name)
        if entry.name in in_place:
            writer.link(entry.name, str(entry.path.resolve()))
            linked.append((entry.name, entry.size))
            continue
        pieces = _pieces(entry)
        head = next(pieces, b"")
        if (
            entry.name not in named
            and entry.size <= credentials.HEAD_BYTES
            and credentials.is_key_content(entry.name, head)
        ):
            left_out.append(LeftOut(entry.name, tree.KEYS, entry.size))
            continue
        if credentials.is_source(entry.name) and credentials.holds_token(head[: credentials.HEAD_BYTES]):
            tokens.append(entry.name)
        size = writer.add(
            entry.name, chain([head], pieces), executable=_is_executable(entry), size=entry.size
        )
        files.append((entry.name, size))
    directories = _empty(chosen, [*files, *linked])
    for name in directories:
        writer.add(name, ())
    archive = writer.finish()
    if limit is not None and len(archive) > limit:
        sizes = [(size, name) for name, size in zips.compressed_sizes(archive).items()]
        raise _too_large(len(archive), limit, " compressed", sizes)
    return Packed(archive, tuple(files), directories, tuple(linked), tuple(left_out), tuple(tokens))


def _large(chosen: Iterable[Entry], script: str | None) -> frozenset[str]:
    """The files that are used where they lie: the largest; never the script, which has to find what lies beside it."""
    large, copied = set[str](), 0
    for entry in sorted(chosen, key=lambda entry: (entry.size, entry.name)):
        copied += entry.size
        if entry.name != script and (entry.size > COPIED_FILE_BYTES or copied > COPIED_BYTES):
            large.add(entry.name)
    return frozenset(large)


def _empty(chosen: Sequence[Entry], files: Iterable[tuple[str, int]]) -> tuple[str, ...]:
    """The directories that no file brings along, and no directory in them: a script may expect them."""
    names = [*(name for name, _ in files), *(entry.name for entry in chosen if entry.is_directory)]
    brought = {f"{parent}/" for name in names for parent in with_parents(posixpath.dirname(name.rstrip("/")))}
    return tuple(sorted(entry.name for entry in chosen if entry.is_directory and entry.name not in brought))


def _check_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise RequestError(f"{name!r} has a name that is not UTF-8", "rename it, or leave it out") from error


def _pieces(file: Entry) -> Iterator[bytes]:
    try:
        with file.path.open("rb") as opened:
            while piece := opened.read(_PIECE_BYTES):
                yield piece
    except OSError as error:
        raise _unreadable(file, error) from error


def _is_executable(file: Entry) -> bool:
    try:
        return bool(file.path.stat().st_mode & 0o111)
    except OSError as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Entry, error: OSError) -> RequestError:
    return RequestError(
        f"cannot read {file.path}: {error.strerror}", "leave it out by .dockerignore or files:"
    )


def _too_large(size: int, limit: int, how: str, sizes: list[tuple[int, str]]) -> RequestError:
    largest = sorted(sizes, reverse=True)[:5]
    listing = "".join(f"\n  {say_size(size):>9}  {name}" for size, name in largest)
    return RequestError(
        f"the code is too large to be sent: {say_size(size)}{how}, at most {say_size(limit)}; "
        f"the largest files are{listing}",
        "leave data out by .dockerignore, name what is needed under files:, or build an image that holds the code "
        "(files: []); data goes to every node as files go to machines (rsync, scp), and volumes: mounts it",
    )
