"""What a month of a run's series takes, and how long it takes to read them: on the disk, and in a coordinator.

    python benchmarks/series.py [--nodes 20] [--days 30] [--directory DIRECTORY]

Each node measures itself every ten seconds, and has a rank that tells of its training every five, as ranks do after
hours. What comes is laid into heads, and is sealed and thinned from there as in a run. Then ranges of every length are
read, of each series of a node and of its rank, and of one series on all nodes. Goals: under 200 MB, and any range of
any series read in 100 ms. The exit code is 1 where one is missed. A directory that is named is kept, and what is in it
already is not made again.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from swarmtrain.coordinator.store.series.columns import Columns
from swarmtrain.coordinator.store.series.query import Query
from swarmtrain.coordinator.store.series.segment import StreamKey
from swarmtrain.coordinator.store.series.store import SeriesLimits, SeriesStore
from swarmtrain.protocol.requests import SeriesRequest
from swarmtrain.protocol.series.table import NODE, TRAINING
from swarmtrain.wire.metrics import called

SIZE, READ = 200e6, 0.1  # bytes of a month, seconds of a range
_BEGIN, _DAY = 1_800_000_000.0, 86_400.0
_EVERY = 10.0  # seconds between two measurements of a node
_LINES = 5.0  # seconds between two lines of a rank, after hours: see wire/metrics.py
_STEPS = 4.0  # of the training, in a second
TRAINED = [each.name for each in TRAINING if each.name.startswith("train/") and "*" not in each.name]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--days", type=float, default=30.0)
    parser.add_argument("--directory", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = arguments.directory or Path(temporary) / "series"
        size, slowest = _measure(place, arguments.nodes, arguments.days)
    sys.exit(1 if size > SIZE or slowest > READ else 0)


def _measure(place: Path, nodes: int, days: float) -> tuple[int, float]:
    """Print what there is to say; return the bytes on the disk, and the seconds of the slowest read."""
    for path in place.glob("*.points"):
        path.unlink()  # of a benchmark that was broken off: nothing that was sealed
    store = SeriesStore(place, beside=lambda work: work())
    points, made, took = _fill(store, nodes, days)
    size = sum(path.stat().st_size for path in place.iterdir())
    print(f"{nodes} nodes, {days:g} days: {len(store.last())} series")
    if made:
        print(
            f"{points:,} points sealed and thinned in {took:.0f} s of a processor: {took / made:.3%} of one"
        )
    print(f"on the disk: {size / 1e6:.1f} MB in {len(list(place.iterdir()))} files")
    _kept(store)
    began = time.perf_counter()
    again = SeriesStore(place, archive=True)
    print(f"opened in {(time.perf_counter() - began) * 1000:.0f} ms")
    return size, _read(again, _BEGIN + days * _DAY, days)


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


def _read(store: SeriesStore, now: float, days: float) -> float:
    """Read ranges of every length; return the seconds of the slowest of single series."""
    _ask(store, "one on all nodes", ["node/cpu_busy_ratio"], now, days)
    mine = sorted({called(key.name, key.labels) for key in store.last() if key.node == "lab-3"})
    return _ask(store, f"each of the {len(mine)} of a node", mine, now, days)


def _ask(store: SeriesStore, title: str, names: list[str], now: float, days: float) -> float:
    took: list[tuple[float, str, float]] = []
    for name in names:
        for span in sorted({600.0, 3600.0, _DAY, 7 * _DAY, days * _DAY}):
            for at in (0.0, 0.3, 0.9):
                end = now - at * max(0.0, days * _DAY - span)
                request = SeriesRequest((name,), start=end - span, end=end)
                took.append((_seconds(store, request, now), name, span))
    slowest, name, span = max(took)
    median = statistics.median(seconds for seconds, *_ in took)
    print(
        f"{title}: {len(took)} reads, median {median * 1000:.0f} ms, slowest {slowest * 1000:.0f} ms "
        f"({name}, {span / 3600:g} h)"
    )
    return slowest


def _seconds(store: SeriesStore, request: SeriesRequest, now: float) -> float:
    """What a read takes, the better of two times: of others who use the machine there is less in it."""
    took = []
    for _ in range(2):
        began = time.perf_counter()
        list(Query(store, request, now).answers())
        took.append(time.perf_counter() - began)
    return min(took)


def _fill(store: SeriesStore, nodes: int, days: float) -> tuple[int, float, float]:
    """Lay a month into heads, as if it had come line by line, and have them sealed.

    Returns:
        How many points that is, of how many seconds, and the seconds of a processor in which the store sealed and
        thinned them.
    """
    streams = list(_streams(nodes))
    per_second = sum(1 / each.every for each in streams)
    span = round(SeriesLimits().head / per_second / 60) * 60.0 or 60.0
    began = moment = max((each.name.last for each in store._kept.segments), default=0) * span
    points, took, told = 0, 0.0, moment // _DAY
    while moment < days * _DAY:
        head = store._head
        moments = {every: _Moments(moment, span, every) for every in (_EVERY, _LINES)}
        for each in streams:
            columns = each.columns(moments[each.every])
            head.streams[each.key] = columns
            head.points += len(columns)
        points += head.points
        head.points = max(head.points, SeriesLimits().head)
        mark = time.process_time()
        store._tend()
        took += time.process_time() - mark
        moment += span
        if moment // _DAY > told:
            told = moment // _DAY
            print(f"day {told:g}: {took:.0f} s of a processor", file=sys.stderr, flush=True)
    return points, moment - began, took


class _Moments:
    """At which some streams have their points: what is told in one line has one time."""

    def __init__(self, moment: float, span: float, every: float) -> None:
        self.moment, self.first = moment, round(moment / every)
        at = range(round(span / every))
        self.times = [round(_BEGIN + (self.first + each) * every + each % 3 * 0.1, 1) for each in at]
        self.no_steps = [-1] * len(at)
        self.steps = [int((time - _BEGIN) * _STEPS) for time in self.times]


class _Stream:
    """A series that moves for a day, and then moves so again, a little later."""

    def __init__(self, key: StreamKey, every: float, values: list[float], *, steps: bool = False) -> None:
        self.key, self.every = key, every
        self._values, self._steps = values, steps

    def columns(self, moments: _Moments) -> Columns:
        count = len(moments.times)
        begin = (moments.first + int(moments.moment // _DAY) * 17) % (len(self._values) - count)
        steps = moments.steps if self._steps else moments.no_steps
        return Columns(list(moments.times), list(steps), self._values[begin : begin + count])


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
            yield _Stream(StreamKey(name, (("rank", str(rank)),), node, 1), _LINES, values, steps=True)


def _walk(chance: random.Random, count: int, calm: float) -> Iterator[float]:
    value = chance.random() * 10.0 ** chance.randrange(0, 9)
    for _ in range(count):
        if chance.random() >= calm:
            value = float(f"{value * math.exp(chance.gauss(0, 0.05)):.4g}")
        yield value


if __name__ == "__main__":
    main()
