"""What a month of a run's series takes, and how long it takes to read them: on the disk, and in a coordinator.

    python benchmarks/series.py [--nodes 20] [--days 30]

Each node measures itself every ten seconds, and has a rank that tells of its training every five, as ranks do after
hours. What comes is laid into heads, and is sealed and thinned from there as in a run. Then ranges of every length are
read, of single series and of one series on all nodes.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from swarmtrain.coordinator.store.series.columns import Columns
from swarmtrain.coordinator.store.series.query import Query
from swarmtrain.coordinator.store.series.segment import StreamKey
from swarmtrain.coordinator.store.series.store import SeriesLimits, SeriesStore
from swarmtrain.protocol.requests import SeriesRequest
from swarmtrain.protocol.series.table import NODE, TRAINING

_BEGIN, _DAY = 1_800_000_000.0, 86_400.0
_EVERY = 10.0  # seconds between two measurements of a node
_LINES = 5.0  # seconds between two lines of a rank, after hours: see wire/metrics.py
TRAINED = [each.name for each in TRAINING if each.name.startswith("train/") and "*" not in each.name]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--days", type=float, default=30.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory) / "series"
        store = SeriesStore(place, beside=lambda work: work())
        began = time.process_time()
        points = _fill(store, arguments.nodes, arguments.days)
        took = time.process_time() - began
        size = sum(path.stat().st_size for path in place.iterdir())
        print(
            f"{arguments.nodes} nodes, {arguments.days:g} days: {len(store.last())} series, {points:,} points"
        )
        print(
            f"sealed and thinned in {took:.0f} s of a processor: {took / (arguments.days * _DAY):.2%} of one"
        )
        print(f"on the disk: {size / 1e6:.1f} MB in {len(list(place.iterdir()))} files")
        _kept(store)
        began = time.perf_counter()
        again = SeriesStore(place, archive=True)
        print(f"opened in {(time.perf_counter() - began) * 1000:.0f} ms")
        now = _BEGIN + arguments.days * _DAY
        _read(again, now, arguments.days)


def _kept(store: SeriesStore) -> None:
    by_width: dict[int, list[tuple[float, float, int]]] = {}
    for each in store._kept.segments:
        blocks = each.blocks.values()
        span = (min(block.begin for block in blocks), max(block.end for block in blocks), each.size)
        by_width.setdefault(each.name.width, []).append(span)
    for width, spans in sorted(by_width.items()):
        hours = (max(end for _, end, _ in spans) - min(begin for begin, _, _ in spans)) / 3600
        size = sum(size for *_, size in spans)
        what = f"{width} s a point" if width else "as measured"
        print(f"  {what}: {hours:.1f} h in {len(spans)} files of {size / 1e6:.1f} MB")


def _read(store: SeriesStore, now: float, days: float) -> None:
    ranges = [(span, at) for span in (600.0, 3600.0, _DAY, 7 * _DAY, days * _DAY) for at in (0.0, 0.3, 0.9)]
    for title, names, nodes in (
        ("one series of a node", ("node/cpu_busy_ratio",), ("lab-3",)),
        ("one of a rank", ("train/loss",), ("lab-3",)),
        ("one on all nodes", ("node/cpu_busy_ratio",), ()),
    ):
        took = []
        for span, at in ranges:
            end = now - at * max(0.0, days * _DAY - span)
            request = SeriesRequest(names, nodes=nodes, start=end - span, end=end)
            took.append((_seconds(lambda asked=request: list(Query(store, asked, now).answers())), span))
        worst = max(took)
        median = statistics.median(each for each, _ in took)
        print(
            f"{title}: median {median * 1000:.0f} ms, worst {worst[0] * 1000:.0f} ms (of {worst[1] / 3600:g} h)"
        )


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _fill(store: SeriesStore, nodes: int, days: float) -> int:
    """Lay a month into heads, as if it had come line by line, and have them sealed; return how many points that is."""
    streams = list(_streams(nodes))
    per_second = sum(1 / each.every for each in streams)
    span = round(SeriesLimits().head / per_second / 60) * 60.0 or 60.0
    points, moment = 0, 0.0
    while moment < days * _DAY:
        head = store._head
        for each in streams:
            columns = each.columns(moment, span)
            head.streams[each.key] = columns
            head.points += len(columns)
        points += head.points
        head.points = max(head.points, SeriesLimits().head)
        store._tend()
        moment += span
    return points


class _Stream:
    """A series that moves for a day, and then moves so again, a little later."""

    def __init__(self, key: StreamKey, every: float, values: list[float], steps: float = 0.0) -> None:
        self.key, self.every = key, every
        self._values, self._steps = values, steps

    def columns(self, moment: float, span: float) -> Columns:
        count, first = round(span / self.every), round(moment / self.every)
        times = [round(_BEGIN + (first + at) * self.every + at % 3 * 0.1, 1) for at in range(count)]
        if not self._steps:
            steps = [-1] * count
        else:
            steps = [int((time - _BEGIN) * self._steps) for time in times]
        begin = (first + int(moment // _DAY) * 17) % (len(self._values) - count)
        return Columns(times, steps, self._values[begin : begin + count])


def _streams(nodes: int) -> Iterator[_Stream]:
    """Of what a node measures half moves all the time, a quarter now and then, the rest hardly ever."""
    chance = random.Random(0)
    names = [
        (each.name, ((each.labels[0], word),) if each.labels else ())
        for each in NODE
        for word in (("eth0", "lo") if each.labels == ("interface",) else ("0",))
    ]
    for rank in range(nodes):
        node = f"lab-{rank + 1}"
        for at, (name, labels) in enumerate(names):
            calm = (0.0, 0.0, 0.75, 0.99)[at * 4 // len(names)]
            values = list(_walk(chance, round(_DAY / _EVERY), calm))
            yield _Stream(StreamKey(name, (*labels, ("node", node)), node, 0), _EVERY, values)
        for name in TRAINED:
            values = [round(abs(0.05 + chance.gauss(0, 0.01)), 6) for _ in range(round(_DAY / _LINES))]
            if name in ("train/loss", "train/gradient_norm"):
                values = [each + chance.random() * 1e-6 for each in values]
            yield _Stream(StreamKey(name, (("rank", str(rank)),), node, 1), _LINES, values, steps=4.0)


def _walk(chance: random.Random, count: int, calm: float) -> Iterator[float]:
    value = chance.random() * 10.0 ** chance.randrange(0, 9)
    for _ in range(count):
        if chance.random() >= calm:
            value = float(f"{value * math.exp(chance.gauss(0, 0.05)):.4g}")
        yield value


if __name__ == "__main__":
    main()
