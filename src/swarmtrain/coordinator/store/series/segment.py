"""A file of sealed points: a block for each stream, then where each block lies. Written once, never changed.

Its name tells which seals it holds and how far they were thinned (``00000012-00000019-60.series``): of two files that
hold the same seals, as a crash may leave them, the one with more of them counts.
"""

from __future__ import annotations

import json
import os
import re
import struct
import sys
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from swarmtrain.coordinator.store.series.columns import Columns
from swarmtrain.coordinator.store.series.packing import packed, unpacked
from swarmtrain.wire.metrics import Labels

_MAGIC = b"swseries"
_TAIL = struct.Struct("<QII8s")  # where the directory begins, its length and checksum
_NAME = re.compile(r"(\d{8})-(\d{8})-(\d+)\.series")


class StreamKey(NamedTuple):
    """What one source tells of one thing: in it, time and the training's steps only go on.

    Attributes:
        labels: of the series. Streams that differ in nothing but node and generation are of one series.
        generation: that told it; 0 for what a node measures of itself.
    """

    name: str
    labels: Labels
    node: str
    generation: int


class Block(NamedTuple):
    """Where the points of a stream lie, and what is known of them unread.

    Attributes:
        begin, end: the first and the last time.
        points: how many there are.
        first: the first step; -1 where there is none.
        last: the last step, and value.
    """

    offset: int
    length: int
    checksum: int
    points: int
    begin: float
    end: float
    first: int
    last: tuple[int, float]


class SegmentName(NamedTuple):
    """What the name of a segment tells.

    Attributes:
        first, last: numbers of the seals that it holds.
        width: seconds that were thinned to one point; 0 for points as they were measured.
    """

    first: int
    last: int
    width: int

    def __str__(self) -> str:
        return f"{self.first:08d}-{self.last:08d}-{self.width}.series"


class SeriesSegment:
    """A segment, open for reading; its file may be removed meanwhile.

    Args:
        blocks: that it holds, where they are known, as by who has just written it.

    Raises:
        OSError, ValueError: it cannot be read, or is not whole.
    """

    def __init__(self, path: Path, name: SegmentName, blocks: dict[StreamKey, Block] | None = None) -> None:
        self.path, self.name = path, name
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._descriptor).st_size
        self.blocks = self._listed() if blocks is None else blocks

    def _listed(self) -> dict[StreamKey, Block]:
        if self.size < _TAIL.size:
            raise ValueError(f"{self.path.name} is too short")
        begin, length, checksum, magic = _TAIL.unpack(self._at(self.size - _TAIL.size, _TAIL.size))
        listed = self._at(begin, length)
        if magic != _MAGIC or len(listed) != length or zlib.crc32(listed) != checksum:
            raise ValueError(f"{self.path.name} is not whole")
        return {
            StreamKey(name, tuple((key, value) for key, value in labels), node, generation): Block(*numbers)
            for (name, labels, node, generation), numbers in json.loads(zlib.decompress(listed))
        }

    def read(self, key: StreamKey) -> Columns:
        """The points of a stream; none where it has none here, or where they are damaged, which is said on stderr."""
        block = self.blocks.get(key)
        if block is None:
            return Columns()
        try:
            data = self._at(block.offset, block.length)
            if zlib.crc32(data) != block.checksum:
                raise ValueError("its checksum is another")
            return unpacked(data)
        except (OSError, ValueError, struct.error, zlib.error) as error:
            print(
                f"{self.path.name}: {block.points} points of {key.name}: {error}", file=sys.stderr, flush=True
            )
            return Columns()

    def __del__(self) -> None:
        """Close the file when nobody reads it any more, in whichever thread that was."""
        if (descriptor := getattr(self, "_descriptor", None)) is not None:
            os.close(descriptor)

    def _at(self, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, offset)


def write(
    directory: Path, name: SegmentName, streams: Iterable[tuple[StreamKey, Columns]]
) -> SeriesSegment | None:
    """Write a segment, which is there whole or not at all; None where there is no point to write.

    Raises:
        OSError: the disk does not take it.
    """
    path = directory / str(name)
    aside = path.with_suffix(".new")
    listed: list[tuple[StreamKey, Block]] = []
    try:
        with aside.open("wb") as file:
            for key, columns in streams:
                if columns.time:
                    listed.append((key, _block(columns, data := packed(columns), file.tell())))
                    file.write(data)
            directory_of = zlib.compress(json.dumps(listed, separators=(",", ":")).encode(), 6)
            begin = file.tell()
            file.write(directory_of)
            file.write(_TAIL.pack(begin, len(directory_of), zlib.crc32(directory_of), _MAGIC))
            file.flush()
            os.fsync(file.fileno())
        if not listed:
            return None
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return SeriesSegment(path, name, dict(listed))


def _block(columns: Columns, data: bytes, offset: int) -> Block:
    first = columns.step[0]
    if first < 0 and columns.step[-1] >= 0:
        first = next(step for step in columns.step if step >= 0)
    return Block(
        offset,
        len(data),
        zlib.crc32(data),
        len(columns),
        columns.time[0],
        columns.time[-1],
        first,
        (columns.step[-1], columns.mean[-1]),
    )


def opened(directory: Path, *, sweep: bool) -> list[SeriesSegment]:
    """The segments of a directory, the oldest first; one that cannot be read is passed over, with a word on stderr.

    Args:
        sweep: remove those whose seals another one holds, and what was not written to its end.
    """
    named = [(match, path) for path in sorted(directory.iterdir()) if (match := _NAME.fullmatch(path.name))]
    found: list[SeriesSegment] = []
    for match, path in named:
        try:
            found.append(SeriesSegment(path, SegmentName(*map(int, match.groups()))))
        except (OSError, ValueError, zlib.error, TypeError) as error:
            print(f"{path.name} is passed over: {error}", file=sys.stderr, flush=True)
    double = [each for each in found if any(_holds(other.name, each.name) for other in found)]
    if sweep:
        for path in [*(each.path for each in double), *directory.glob("*.new")]:
            path.unlink(missing_ok=True)
    return sorted((each for each in found if each not in double), key=lambda each: each.name)


def _holds(name: SegmentName, other: SegmentName) -> bool:
    """Whether one segment has all seals of another, which is not itself."""
    if name == other or not (name.first <= other.first and other.last <= name.last):
        return False
    return (name.last - name.first, name.width) > (other.last - other.first, other.width)
