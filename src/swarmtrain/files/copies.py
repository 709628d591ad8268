"""What a node's record of shared files tells of them: which copies of other nodes' files it keeps, and hashes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from swarmtrain.files.record import InPlace, KnownSet, Record, path_of
from swarmtrain.protocol.shared_files import LINK, link_text

SHARED = "shared"  # beside a working directory
RECORD = "record.json"  # in that
CONTENTS = "contents"  # and this, by their hashes


class Copy(NamedTuple):
    """A file of another node, ready to be put in its place.

    Args:
        at: where it lies, below the directory in which the working directory is.
        link: where it leads, if it is a link.
    """

    size: int
    sha256: str
    mtime: float
    at: str
    link: str = ""


class Known(NamedTuple):
    """What a record says, by the paths of files."""

    kept: dict[str, Copy]
    hashes: dict[str, InPlace]


def read(work: Path) -> Known:
    """What the record beside a working directory says; nothing where there is none that can be read."""
    shared, known = work.parent / SHARED, Known({}, {})
    for directory, each in Record.read(shared / RECORD).sets.items():
        known.hashes.update({path_of(directory, name): file for name, file in each.in_place.items()})
        known.kept.update(_kept(each, shared))
    return known


def _kept(known: KnownSet, shared: Path) -> Iterator[tuple[str, Copy]]:
    """The copies of one set, by path: of files that its newest version has, too; the others were deleted."""
    if known.whole is None or known.newest is None:
        return
    names = {file.name for file in known.newest.files}
    for file in known.whole.files:
        content = shared / CONTENTS / file.sha256
        if file.name not in names or not content.is_file():
            continue
        try:
            link = link_text(content.read_bytes()) if file.mode == LINK else ""
        except FileNotFoundError:
            continue
        size = len(os.fsencode(link)) if link else file.size
        at = f"{SHARED}/{CONTENTS}/{file.sha256}"
        yield path_of(known.whole.path, file.name), Copy(size, file.sha256, file.mtime, at, link)
