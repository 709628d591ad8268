"""The output of all ranks of a run, kept in one file in the order it arrived.

Each record is a piece of one rank's output file: ``t`` (Unix time at which it came), ``g``, ``r``, ``n``
(node), ``o`` (offset in the rank's file) and ``d`` (text, possibly of many lines, as wire.frames.text makes it).
Offsets make delivery exactly-once: what was stored before is cut off, so agents may send again after a reconnect.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from swarmtrain.wire import frames
from swarmtrain.wire.records import Record, Records, parse

Line = tuple[float, int, int, str, str]  # time, generation, rank, node, text without its newline
Key = tuple[int, int]  # generation, rank

_TAIL_BLOCK = 1 << 20
_LONGEST = (
    1 << 19
)  # characters of a line; a longer one comes in pieces, as several would not fit into a frame
_SORT_LINES = 10_000
_SORT_BYTES = 64 << 20


class OutputStore:
    """Appends pieces of output and knows how far each rank's output has come."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offsets: dict[Key, int] = {}
        self._latest = 0.0
        self._records = Records(path, self._take)
        self.damage = self._records.damage

    def append(self, generation: int, rank: int, node: str, when: float, offset: int, text: str) -> int:
        """Store a piece; return the offset up to which this rank's output is known now.

        A piece that leaves a gap is not stored: the agent sends again from the returned offset.
        """
        known = self.offsets.get((generation, rank), 0)
        data = frames.raw(text)
        if offset > known or offset + len(data) <= known:
            return known
        text = frames.text(data[known - offset :])
        when = max(round(when, 3), self._latest)  # readers go by it: it never goes back
        record = {"t": when, "g": generation, "r": rank, "n": node, "o": known, "d": text}
        self._records.append(record)
        self._take(record)
        return offset + len(data)

    def close(self) -> None:
        """Close the file."""
        self._records.close()

    def _take(self, record: Record) -> None:
        self.offsets[record["g"], record["r"]] = record["o"] + len(frames.raw(record["d"]))
        self._latest = max(self._latest, float(record["t"]))


@dataclass(frozen=True)
class Filter:
    """Which lines a reader wants; empty means all."""

    ranks: frozenset[int] = frozenset()
    nodes: frozenset[str] = frozenset()
    regex: re.Pattern[str] | None = None
    since: float = 0.0

    def record(self, record: Record) -> bool:
        """Whether any line of a record may be wanted."""
        return (
            (not self.ranks or record["r"] in self.ranks)
            and (not self.nodes or record["n"] in self.nodes)
            and record["t"] >= self.since
        )

    def text(self, text: str) -> bool:
        """Whether a line's text is wanted."""
        return self.regex is None or self.regex.search(text) is not None


class Reader:
    """Reads whole lines from an output file that may still grow.

    Args:
        start: the byte of the file to begin at; in the middle of a record means at the next one.
    """

    def __init__(self, path: Path, wanted: Filter, start: int = 0) -> None:
        self._path = path
        self._wanted = wanted
        self._position = max(0, start - 1)
        self._skip = start > 0
        self._open: dict[Key, tuple[float, str, str]] = {}

    def lines(self) -> Iterator[Line]:
        """The whole lines that are there now and were not read before."""
        for record in self._fresh():
            if not self._wanted.record(record):
                continue
            key = (record["g"], record["r"])
            when, node, before = self._open.pop(key, (record["t"], record["n"], ""))
            *whole, rest = (before + record["d"]).split("\n")
            if len(rest) >= _LONGEST:
                whole.append(rest)
                rest = ""
            for text in whole:
                for start in range(0, len(text) or 1, _LONGEST):
                    piece = text[start : start + _LONGEST]
                    if self._wanted.text(piece):
                        yield (when, *key, node, piece)
                when = record["t"]
            if rest:
                self._open[key] = (when, node, rest)

    def rest(self) -> Iterator[Line]:
        """Last lines that never got their newline: for the end of the run."""
        for (generation, rank), (when, node, text) in sorted(self._open.items()):
            if self._wanted.text(text):
                yield (when, generation, rank, node, text)
        self._open.clear()

    def _fresh(self) -> Iterator[Record]:
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(self._position)
            if self._skip:
                self._position += len(file.readline())
                self._skip = False
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._position += len(line)
                record = parse(line)
                if record is not None:  # a disk that was full has torn this one
                    yield record


def in_order(lines: Iterator[Line], horizon: float = 5.0) -> Iterator[Line]:
    """Lines sorted by time, each rank's own order kept, with a bounded memory.

    Args:
        lines: in the order of their arrival.
        horizon: seconds by which an arrival may be late and still find its place.
    """
    waiting: list[Line] = []
    latest: dict[Key, float] = {}
    size, limit = 0, _SORT_LINES
    for when, generation, rank, node, text in lines:
        when = latest[generation, rank] = max(when, latest.get((generation, rank), 0.0))
        waiting.append((when, generation, rank, node, text))
        size += len(text)
        if len(waiting) < limit and size < _SORT_BYTES:
            continue
        waiting.sort(key=itemgetter(0))
        ready = bisect.bisect(waiting, waiting[-1][0] - horizon, key=itemgetter(0))
        if size >= _SORT_BYTES:
            ready = max(ready, len(waiting) // 2)
        yield from waiting[:ready]
        del waiting[:ready]
        size, limit = sum(len(line[4]) for line in waiting), 2 * len(waiting) + _SORT_LINES
    waiting.sort(key=itemgetter(0))
    yield from waiting


def tail(path: Path, wanted: Filter, count: int) -> list[Line]:
    """The last ``count`` wanted lines, reading no more of the file than that takes."""
    size = path.stat().st_size if path.exists() else 0
    block = _TAIL_BLOCK
    while True:
        start = max(0, size - block)
        reader = Reader(path, wanted, start)
        lines = [*reader.lines(), *reader.rest()]
        if start == 0 or len(lines) > 2 * count + 64:
            return list(in_order(iter(lines)))[-count:] if count else []
        block *= 4
