"""What comes into the series: the lines of workers, as coordinator/store/metrics.py has them, and those of nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from pathlib import Path

from swarmtrain.coordinator.store.series.head import Batch, Reading
from swarmtrain.coordinator.store.series.store import SeriesStore
from swarmtrain.coordinator.store.series.training import step_of, values_of
from swarmtrain.wire.disk.records import Record, RecordsReader, parse
from swarmtrain.wire.metrics import as_heard, is_series

_FILES = (
    64  # of a node's measurements, of which it is known how much has come: older ones are gone there, too
)


class SeriesFeed:
    """Feeds one run's series.

    Args:
        metrics: the file with the lines of all ranks; the series are in a directory beside it.
        now: Unix time by the run's clock.
        archive: the series are opened when they are asked for, and brought up to those lines in memory alone.
    """

    def __init__(self, metrics: Path, now: Callable[[], float], *, archive: bool = False) -> None:
        self._metrics, self._now, self._archive = metrics, now, archive
        self._directory = metrics.parent / "series"
        self._store = None if archive else SeriesStore(self._directory)

    def store(self) -> SeriesStore:
        """The series."""
        if self._store is None:
            self._store = SeriesStore(self._directory, archive=self._archive)
            reader = RecordsReader(self._metrics)
            while lines := reader.read(1000):
                self.take(lines)
        return self._store

    def take(self, lines: Iterable[Record]) -> None:
        """Lines of workers, as they are kept: with where they come from. What is known already is left out."""
        if self._store is None:
            return
        for (generation, rank, node), group in groupby(
            lines, key=lambda line: (line["g"], line["r"], line["n"])
        ):
            source, labels = f"{generation}-{rank}", (("rank", str(rank)),)
            known = self._store.offsets.get(source, 0)
            its = [line for line in group if line["o"] > known]
            readings = [reading for line in its if (reading := _of_worker(line)) is not None]
            if readings:
                self._store.append(
                    Batch(source, its[-1]["o"], str(node), generation, labels, tuple(readings))
                )

    def append(self, node: str, number: int, offset: int, text: str, shift: float | None) -> int:
        """Take whole lines of a file of a node's measurements, from ``offset``; return how far it is known now.

        Args:
            number: of the file.
            shift: what to add to the node's Unix time to have the run's; None where that is not known.
        """
        store, source = self.store(), _source(node, number)
        known = store.offsets.get(source, 0)
        data = text.encode("utf-8", "surrogateescape")
        if offset > known or offset + len(data) <= known:
            return known
        readings = []
        for line in data[known - offset :].splitlines(keepends=True):
            record = parse(line)
            if record is not None and (reading := _of_node(record, shift, self._now())) is not None:
                readings.append(reading)
        known = offset + len(data)
        store.append(Batch(source, known, node, 0, (("node", node),), tuple(readings)))
        store.forget(
            lambda each: each.startswith(f"{node}#") and int(each.rpartition("#")[2]) <= number - _FILES
        )
        return known

    def known(self, node: str, number: int) -> int:
        """How far a file of a node's measurements is known."""
        return self.store().offsets.get(_source(node, number), 0)

    def offsets_of(self, node: str) -> dict[int, int]:
        """The same of all files of a node, by their numbers."""
        parts = [(source.rpartition("#"), offset) for source, offset in self.store().offsets.items()]
        return {int(number): offset for (name, mark, number), offset in parts if mark and name == node}

    def full(self) -> bool:
        """Whether the disk takes nothing more."""
        return self._store is not None and self._store.full()

    def close(self) -> None:
        """Close what is open."""
        if self._store is not None:
            self._store.close()


def _source(node: str, number: int) -> str:
    return f"{node}#{number}"


def _of_worker(line: Mapping[str, object]) -> Reading | None:
    values, step = values_of(line), step_of(line)
    when = as_heard(line.get("when")) or as_heard(line.get("at"))
    if not values or when is None:
        return None
    return Reading(when, step, values)


def _of_node(line: Record, shift: float | None, now: float) -> Reading | None:
    """One line of a node; its time is the node's own, and no point comes from the future."""
    when, told = as_heard(line.get("t")), line.get("v")
    if when is None or not isinstance(told, dict):
        return None
    values = {
        name: value
        for name, each in told.items()
        if is_series(name) and (value := as_heard(each)) is not None
    }
    moment = round(now if shift is None else min(when + shift, now), 1)
    return Reading(moment, None, values) if values else None
