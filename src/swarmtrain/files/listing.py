"""What a node has, in its directories and beside them: the replies to `list`.

Beside its working directory, a node keeps copies of files that other nodes' workers have written (`agent.sharing`).
They are listed under the paths that they would have, for they may be all that is left of another node.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from swarmtrain.errors import RequestError
from swarmtrain.files import copies
from swarmtrain.files.fetch import locate
from swarmtrain.files.record import InPlace, stamp_of
from swarmtrain.protocol.replies import DirectoryEntry, Done, NodeReply
from swarmtrain.protocol.to_agent import ListOrder
from swarmtrain.wire.disk import in_place
from swarmtrain.wire.disk.storage import Storage

_MOST = 50_000
_BATCH = 1000  # entries of one reply
# What is read for its hash, so that the same file on two nodes is known to be the same: the smallest.
_HASHED_FILE, _HASHED_IN_ALL = 1 << 22, 1 << 26


def listing(storage: Storage, lineage: str, node: str, order: ListOrder) -> Iterator[NodeReply]:
    """The replies to `list`.

    Raises:
        RequestError: there is no such file, it lies elsewhere, or there is too much. OSError: it cannot be read.
    """
    work = storage.work(lineage, node)
    known = copies.read(work)
    kept = _below(known.kept, order, node)
    try:
        root = locate(storage, lineage, node, order.path)
    except RequestError:
        if not kept:
            raise
        found: list[DirectoryEntry] = []
    else:
        found = list(itertools.islice(_walk(root, node, recursive=order.recursive), _MOST + 1))
        if len(found) > _MOST:
            raise RequestError(
                f"{order.path} holds more than {_MOST:,} files on {node}", "name a directory in it"
            )
        found = _with_hashes(found, root, work, known.hashes)
    entries = sorted([*found, *kept], key=lambda each: (each.path != ".", each.path))
    if entries[0].path != ".":  # a directory of which there are copies alone
        entries.insert(0, DirectoryEntry(node, ".", 0, True, max(each.mtime for each in kept)))
    for start in range(0, len(entries), _BATCH):
        yield NodeReply(entries=entries[start : start + _BATCH])
    yield NodeReply(done=Done())


def _walk(root: Path, node: str, *, recursive: bool) -> Iterator[DirectoryEntry]:
    """A file or a directory, and what lies in it. Raises OSError."""
    yield _entry(root, node, ".", follow=True)
    waiting = [""] if root.is_dir() else []
    # Not by calls in calls: a script may have made a thousand directories, each in the one before.
    while waiting:
        below = waiting.pop()
        for entry in _inside(root / below, node, below):
            yield entry
            if recursive and entry.directory:
                waiting.append(f"{entry.path}/")


def _inside(directory: Path, node: str, prefix: str) -> Iterator[DirectoryEntry]:
    """What lies directly in a directory, less what has gone: a run may be at work here."""
    try:
        found = sorted(directory.iterdir())
    except FileNotFoundError:
        return
    for path in found:
        if path.name == in_place.RECORD:
            continue
        try:
            yield _entry(path, node, prefix + path.name)
        except FileNotFoundError:
            continue


def _entry(path: Path, node: str, name: str, *, follow: bool = False) -> DirectoryEntry:
    status = path.stat() if follow else path.lstat()
    link = os.readlink(path) if path.is_symlink() and not follow else ""  # noqa: PTH115 - the very text
    return DirectoryEntry(node, name, status.st_size, not link and path.is_dir(), status.st_mtime, link)


def _below(kept: Mapping[str, copies.Copy], order: ListOrder, node: str) -> list[DirectoryEntry]:
    """The entries of the copies that are what was asked for, or lie in it."""
    asked = posixpath.normpath(order.path)
    prefix = "" if asked == "." else f"{asked}/"
    found: dict[str, DirectoryEntry] = {}
    for path, copy in kept.items():
        below = "." if path == asked else path.removeprefix(prefix)
        if below == path and prefix:
            continue
        head, slash, _ = below.partition("/")
        if slash and not order.recursive:
            found.setdefault(head, DirectoryEntry(node, head, 0, True, copy.mtime, at=copy.at))
        else:
            entry = DirectoryEntry(node, below, copy.size, False, copy.mtime, copy.link)
            found[below] = replace(entry, sha256="" if copy.link else copy.sha256, at=copy.at)
    return list(found.values())


def _with_hashes(
    found: Iterable[DirectoryEntry], root: Path, work: Path, known: Mapping[str, InPlace]
) -> list[DirectoryEntry]:
    """The same entries, with the hashes that are known, and those of files that are small enough to be read."""
    left = _HASHED_IN_ALL
    hashes: dict[str, str] = {}
    for each in sorted(found, key=lambda each: (each.bytes, each.path)):
        if each.directory or each.link:
            continue
        path = root if each.path == "." else root / each.path
        noted = known.get(os.path.relpath(path, work))
        if noted is not None and noted.stamp == stamp_of(path):
            hashes[each.path] = noted.sha256
        elif each.bytes <= min(_HASHED_FILE, left):
            left -= each.bytes
            hashes[each.path] = _sha256(path)
    return [replace(each, sha256=hashes.get(each.path, "")) for each in found]


def _sha256(path: Path) -> str:
    """Of a file's content; empty where it cannot be read, or is none."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    except OSError:
        return ""
