"""The newest points of a run: in memory, and in a log of their own until they are sealed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, cast

from swarmtrain.coordinator.store.series.columns import NO_STEP, Columns
from swarmtrain.coordinator.store.series.segment import StreamKey
from swarmtrain.wire.disk.records import Record, Records, RecordsReader
from swarmtrain.wire.metrics import Labels, as_heard, as_told, parsed

_STEPS = 1 << 53  # above which a number of a step makes no sense


class Reading(NamedTuple):
    """What was measured at one moment.

    Attributes:
        time: Unix time by the run's clock.
        step: of the training; None where it has none.
        values: by series, as `wire.metrics.called` writes them.
    """

    time: float
    step: int | None
    values: Mapping[str, float]


class Batch(NamedTuple):
    """Some readings of one source.

    Attributes:
        source: the file that they come from, in one word.
        offset: how far that file is known with them.
        labels: of all its series, beside their own.
    """

    source: str
    offset: int
    node: str
    generation: int
    labels: Labels
    readings: tuple[Reading, ...]


class Head:
    """Points that no segment holds yet.

    Args:
        path: of the log; what it holds is read.
        offsets: how far each source is known before it; the log tells where there is one already.
        archive: nothing is written.

    Attributes:
        streams: the points.
        points: how many they are.
    """

    def __init__(self, path: Path, offsets: Mapping[str, int], *, archive: bool = False) -> None:
        self.path, self.offsets = path, dict(offsets)
        self.streams: dict[StreamKey, Columns] = {}
        self.points = 0
        self._columns: dict[_Source, dict[str, Columns]] = {}  # the same by what a batch calls them
        self._log: Records | None = None
        if archive:
            reader = RecordsReader(path)
            while path.exists() and (records := reader.read(1000)):
                for record in records:
                    self._replay(record)
        else:
            is_new = not path.exists()
            self._log = Records(path, lambda record, _: self._replay(record))
            if is_new:
                self._log.append({"offsets": self.offsets}, sync=bool(self.offsets))

    def append(self, batch: Batch) -> None:
        """Add what is not known yet."""
        if batch.offset <= self.offsets.get(batch.source, 0):
            return
        if self._log is not None:
            self._log.append(_record(batch))
        self._take(batch)

    def full(self) -> bool:
        """Whether the disk does not take what was added."""
        return self._log is not None and self._log.full()

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()

    def _replay(self, record: Record) -> None:
        if "offsets" in record:
            self.offsets |= record["offsets"]
        else:
            self._take(_batch(record))

    def _take(self, batch: Batch) -> None:
        self.offsets[batch.source] = batch.offset
        its = self._columns.setdefault((batch.node, batch.generation, batch.labels), {})
        for reading in batch.readings:
            time, step = round(reading.time, 3), reading.step
            at = step if step is not None and 0 <= step < _STEPS else NO_STEP
            for text, value in reading.values.items():
                columns = its.get(text)
                if columns is None:
                    columns = its[text] = self.streams.setdefault(_key(text, batch), Columns())
                columns.append(time, at, value)
            self.points += len(reading.values)


_Source = tuple[str, int, Labels]


def _key(text: str, batch: Batch) -> StreamKey:
    """The stream of a series in a batch."""
    name, labels = parsed(text)
    return StreamKey(name, tuple(sorted({*labels, *batch.labels})), batch.node, batch.generation)


def _record(batch: Batch) -> Record:
    points = [
        [each.time, each.step, {name: as_told(value) for name, value in each.values.items()}]
        for each in batch.readings
    ]
    return {**batch._asdict(), "readings": points}


def _batch(record: Record) -> Batch:
    readings = tuple(
        Reading(time, step, _values(values))
        for time, step, values in cast("list[tuple[float, int | None, Record]]", record["readings"])
    )
    labels = tuple((str(key), str(value)) for key, value in record["labels"])
    return Batch(record["source"], record["offset"], record["node"], record["generation"], labels, readings)


def _values(told: Record) -> dict[str, float]:
    heard = {name: as_heard(value) for name, value in told.items()}
    return {name: math.nan if value is None else value for name, value in heard.items()}


def logs(directory: Path) -> Iterable[tuple[int, Path]]:
    """The logs that are there, with the number of the seal that each is for, the oldest first."""
    return sorted((int(path.stem), path) for path in directory.glob("*.points") if path.stem.isdecimal())


def log_path(directory: Path, number: int) -> Path:
    """The log of the points that a seal is to hold."""
    return directory / f"{number:08d}.points"
