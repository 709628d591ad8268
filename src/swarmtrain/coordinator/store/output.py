"""The output of all ranks of a run, kept in one file in the order it arrived.

Each record is a piece of one rank's output file: ``t`` (Unix time at which it came), ``g``, ``r``, ``n``
(node), ``o`` (offset in the rank's file) and ``d`` (text, possibly of many lines, as wire.frames.text makes it).
Offsets make delivery exactly-once: what was stored before is cut off, so agents may send again after a reconnect, and
when a disk that was full has room.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from swarmtrain.coordinator.store import drawing
from swarmtrain.protocol.replies import Line
from swarmtrain.wire import frames
from swarmtrain.wire.disk.records import Record, Records, parse

Key = tuple[int, int]  # generation, rank

_TAIL_BLOCK = 1 << 20
# characters of a line; a longer one comes in pieces, as several would not fit into a frame
_LONGEST = 1 << 19
_HELD = 1 << 20  # bytes of a line that are held before they are stored, whole or not
_SORT_LINES = 10_000
_SORT_BYTES = 64 << 20


@dataclass
class _Open:
    """A line of a rank that goes on: all of its output that is not in the file yet.

    Attributes:
        end: how far it comes in the rank's file.
        data: the line, as `drawing.latest` makes it.
    """

    when: float
    node: str
    end: int
    data: bytes


class OutputStore:
    """Appends output, line by line, and knows how far each rank's output has come.

    Attributes:
        offsets: by rank, how much of its output is in the file.
        damage: what was set aside when the file was opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begun: dict[int, int] = {}  # by generation: the byte of the file at which it began
        self.offsets: dict[Key, int] = {}
        self._nodes: dict[Key, str] = {}  # on which each rank is
        self._open: dict[Key, _Open] = {}
        self._latest = 0.0
        self._records = Records(path, lambda record, _: self._take(record))
        self.damage = self._records.damage

    def append(self, key: Key, node: str, when: float, offset: int, text: str, *, last: bool = False) -> int:
        """Take a piece; return the offset up to which this rank's output is in the file now.

        A line that has not ended is held here, so that a progress bar costs the file one line and not one a drawing;
        its agent has it, too, until it is in the file. Of a piece that leaves a gap nothing is taken: the agent sends
        again from the returned offset.

        Args:
            last: nothing follows, so that the last line is whole without a newline.
        """
        stored = self.offsets.get(key, 0)
        line = self._open.get(key) or _Open(when, node, stored, b"")
        data = frames.raw(text)
        if offset > line.end or (offset + len(data) <= line.end and not last):
            return stored
        end, records = max(line.end, offset + len(data)), list[Record]()
        shown = drawing.join(line.data + data[line.end - offset :])
        whole, newline, rest = shown.rpartition(b"\n")
        if newline:
            lines = b"".join(drawing.latest(each) + b"\n" for each in whole.split(b"\n"))
            records.append(self._record(key, node, when, end - len(rest), lines))
        line = _Open(when, node, end, drawing.latest(rest))
        if last and end > self.offsets.get(key, 0):
            records.append(self._record(key, node, when, end, line.data, last=True))
        elif end - self.offsets.get(key, 0) > _HELD:
            cut = drawing.whole_characters(line.data)
            records.append(self._record(key, node, when, end - len(line.data) + cut, line.data[:cut]))
            line.data = line.data[cut:]
        if records:
            self._records.append(*records)  # in one go: a disk that is full takes all of a piece, or nothing
        self._open[key] = line
        if last or not line.data:
            del self._open[key]
        return self.offsets.get(key, 0)

    def offsets_of(self, node: str) -> dict[Key, int]:
        """Those of the ranks that a node has had."""
        return {key: offset for key, offset in self.offsets.items() if self._nodes[key] == node}

    def begin(self, generation: int) -> None:
        """A generation is formed: what those before it have begun is over, and all that it writes comes after that."""
        self.finish(before=generation)
        self._begun = {generation: Reader(self.path, Filter()).behind()}

    def began(self, generation: int) -> int:
        """The byte of the file before which nothing of a generation is; 0 where another coordinator has formed it."""
        return self._begun.get(generation, 0)

    def finish(self, before: int) -> None:
        """Nothing follows of what ranks of generations before this one have begun.

        What a full disk does not take of it stays with its agent.
        """
        for key in [key for key in self._open if key[0] < before]:
            line = self._open[key]
            if not self.full():
                self.append(key, line.node, line.when, line.end, "", last=True)

    def unfinished(self, wanted: Filter) -> list[Line]:
        """The lines that go on, as far as they have come; in the order of ranks."""
        found: list[Line] = []
        for key, line in sorted(self._open.items()):
            text = drawing.last(frames.text(line.data[: drawing.whole_characters(line.data)]))
            record = {"r": key[1], "n": line.node, "t": line.when}
            if text and wanted.record(record):
                found.append(Line(line.when, *key, line.node, text))
        return found

    def full(self) -> bool:
        """Whether the disk does not take what was appended: nothing more is to be, until it does."""
        return self._records.full()

    def close(self) -> None:
        """Close the file."""
        self._records.close()

    def _record(
        self, key: Key, node: str, when: float, end: int, data: bytes, *, last: bool = False
    ) -> Record:
        """Some of a rank's output as a record, which counts as stored from now on."""
        when = max(round(when, 3), self._latest)  # readers go by it: it never goes back
        record: Record = {"t": when, "g": key[0], "r": key[1], "n": node, "o": self.offsets.get(key, 0)}
        record |= {"e": end, "d": frames.text(data)} | ({"last": True} if last else {})
        self._take(record)
        return record

    def _take(self, record: Record) -> None:
        key = (record["g"], record["r"])
        self.offsets[key], self._nodes[key] = int(record["e"]), record["n"]
        self._latest = max(self._latest, float(record["t"]))


@dataclass(frozen=True)
class Filter:
    """Which lines a reader wants; empty means all."""

    ranks: frozenset[int] = frozenset()
    nodes: frozenset[str] = frozenset()
    since: float = 0.0

    def record(self, record: Record) -> bool:
        """Whether any line of a record may be wanted."""
        return (
            (not self.ranks or record["r"] in self.ranks)
            and (not self.nodes or record["n"] in self.nodes)
            and record["t"] >= self.since
        )


class Reader:
    """Reads whole lines from an output file that may still grow.

    Args:
        start: the byte of the file to begin at; in the middle of a record means at the next one.
        end: the byte to read to; None: to the end of the file.
    """

    def __init__(self, path: Path, wanted: Filter, start: int = 0, end: int | None = None) -> None:
        self._path = path
        self._end = end
        self._wanted = wanted
        self._position = max(0, start - 1)
        self._skip = start > 0
        self._open: dict[Key, tuple[float, str, str]] = {}

    def behind(self) -> int:
        """How many bytes of the file are still to be read."""
        try:
            return self._path.stat().st_size - self._position
        except OSError:
            return 0

    def lines(self) -> Iterator[Line]:
        """The whole lines that are there now and were not read before."""
        for record in self._fresh():
            if not self._wanted.record(record):
                continue
            key = (record["g"], record["r"])
            when, node, before = self._open.pop(key, (record["t"], record["n"], ""))
            *whole, rest = (before + record["d"]).split("\n")
            if len(rest) >= _LONGEST or (rest and record.get("last")):
                whole.append(rest)
                rest = ""
            for text in map(drawing.last, whole):
                for start in range(0, len(text) or 1, _LONGEST):
                    yield Line(when, *key, node, text[start : start + _LONGEST])
                when = record["t"]
            if rest:
                self._open[key] = (when, node, rest)

    def rest(self) -> Iterator[Line]:
        """Last lines that never got their newline: for the end of the run."""
        yield from self.going_on()
        self._open.clear()

    def going_on(self) -> list[Line]:
        """What has been read of lines that have no newline yet."""
        return [
            Line(when, generation, rank, node, drawing.last(text))
            for (generation, rank), (when, node, text) in sorted(self._open.items())
        ]

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
                if not line.endswith(b"\n") or (self._end is not None and self._position >= self._end):
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
        waiting.append(Line(when, generation, rank, node, text))
        size += len(text)
        if len(waiting) < limit and size < _SORT_BYTES:
            continue
        waiting.sort(key=itemgetter(0))
        ready = bisect.bisect(waiting, waiting[-1][0] - horizon, key=itemgetter(0))
        if size >= _SORT_BYTES:
            ready = max(ready, len(waiting) // 2)
        yield from waiting[:ready]
        del waiting[:ready]
        size, limit = sum(len(line.text) for line in waiting), 2 * len(waiting) + _SORT_LINES
    waiting.sort(key=itemgetter(0))
    yield from waiting


def tail(path: Path, wanted: Filter, count: int, end: int | None = None) -> list[Line]:
    """The last ``count`` wanted lines, reading no more of the file than that takes.

    Args:
        end: the byte of the file before which they end; None: the end of the file.
    """
    if end is None:
        end = path.stat().st_size if path.exists() else 0
    block = _TAIL_BLOCK
    while True:
        start = max(0, end - block)
        reader = Reader(path, wanted, start, end)
        lines = [*reader.lines(), *reader.rest()]
        if start == 0 or len(lines) > 2 * count + 64:
            return list(in_order(iter(lines)))[-count:] if count else []
        block *= 4
