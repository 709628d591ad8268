"""The series of a run: what training and nodes tell, bounded, and readable at any time over any range.

The newest points are in memory and in a log (head.py). When they are many they are sealed into a file (segment.py).
Where the files of one resolution take more than their share of the disk, the older half of them is thinned to the next
one: so each moment is kept once, the newer ones finer. Sealing and thinning happen in a thread, on files and heads that
nobody changes any more. A crash leaves a log that is read again, or two files of which one counts.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from swarmtrain.coordinator.store.series import segment
from swarmtrain.coordinator.store.series.columns import NO_STEP, Columns, joined, stretches, thinned
from swarmtrain.coordinator.store.series.head import Batch, Head, log_path, logs
from swarmtrain.coordinator.store.series.segment import SegmentName, SeriesSegment, StreamKey

_MIB = 1 << 20
COUNTED = "train/samples"  # which only a training tells of that counts its steps from its very beginning
_SHARES = {0: 40 * _MIB, 60: 40 * _MIB, 600: 64 * _MIB, 3600: 16 * _MIB, 21600: 8 * _MIB}
_BREATH = 0.002  # seconds between two streams that are thinned, in which others have the processor


@dataclass(frozen=True)
class SeriesLimits:
    """How much is kept.

    Attributes:
        head: points in memory, above which they are sealed.
        shares: bytes on the disk by resolution, in seconds a point, the finest first; 0 is as it was measured.
    """

    head: int = 150_000
    shares: Mapping[int, int] = field(default_factory=lambda: dict(_SHARES))

    def after(self, width: int) -> int | None:
        """The next coarser resolution; None after the last."""
        return min((each for each in self.shares if each > width), default=None)


@dataclass(frozen=True)
class _KeptSeries:
    """What there is at one moment; never changed, so that any thread may read it.

    Attributes:
        heads: the oldest first; only the last of them grows.
        found: in which segments a stream is.
    """

    segments: tuple[SeriesSegment, ...] = ()
    heads: tuple[Head, ...] = ()
    found: Mapping[StreamKey, tuple[SeriesSegment, ...]] = field(default_factory=dict)


def in_thread(work: Callable[[], None]) -> None:
    """Do it beside what else happens."""
    threading.Thread(target=work, name="series", daemon=True).start()


class SeriesStore:
    """All series of one run.

    Args:
        directory: where they are; made where it is not.
        archive: it is only read, also where a coordinator writes to it.
        beside: does work that takes long.
    """

    def __init__(
        self,
        directory: Path,
        *,
        archive: bool = False,
        limits: SeriesLimits | None = None,
        beside: Callable[[Callable[[], None]], None] = in_thread,
    ) -> None:
        self._directory, self._archive = directory, archive
        self._limits, self._beside = limits or SeriesLimits(), beside
        self._lock, self._busy = threading.Lock(), False
        if not archive:
            directory.mkdir(parents=True, exist_ok=True)
        segments = segment.opened(directory, sweep=not archive) if directory.is_dir() else []
        sealed = max((each.name.last for each in segments), default=0)
        heads: list[Head] = []
        for number, path in logs(directory):
            if number > sealed:
                heads.append(Head(path, heads[-1].offsets if heads else {}, archive=archive))
            elif not archive:
                path.unlink()  # of a coordinator that died when it had sealed it
        self._number = max((int(each.path.stem) for each in heads), default=sealed + 1)
        if not heads:
            heads = [Head(log_path(directory, self._number), {}, archive=archive)]
        self._kept = _KeptSeries(tuple(segments), tuple(heads), _found(segments))
        if len(heads) > 1:
            self._tend()

    @property
    def offsets(self) -> Mapping[str, int]:
        """How far each source is known."""
        return self._head.offsets

    @property
    def _head(self) -> Head:
        return self._kept.heads[-1]

    def append(self, batch: Batch) -> None:
        """Take what a source tells; what is known of it already is left out."""
        head = self._head
        if batch.offset <= head.offsets.get(batch.source, 0):
            return
        head.append(batch)
        if head.points >= self._limits.head and not self._archive:
            self._tend()

    def full(self) -> bool:
        """Whether the disk takes nothing more."""
        return self._head.full()

    def forget(self, sources: Callable[[str], bool]) -> None:
        """Forget how far such sources are known: they are no more."""
        for source in [each for each in self._head.offsets if sources(each)]:
            del self._head.offsets[source]

    def last(self) -> dict[StreamKey, tuple[float, int, float]]:
        """The newest time, step and value of each stream."""
        kept = self._kept
        last: dict[StreamKey, tuple[float, int, float]] = {}
        for key, segments in kept.found.items():
            block = segments[-1].blocks[key]
            last[key] = (block.end, *block.last)
        for head in kept.heads:
            for key, columns in list(head.streams.items()):
                if at := len(columns.mean):
                    last[key] = (columns.time[at - 1], columns.step[at - 1], columns.mean[at - 1])
        return last

    def starts(self) -> dict[int, int]:
        """The first step of each generation, where its training knows that."""
        starts: dict[int, int] = {}
        for key in self.last():
            if key.name == COUNTED and (first := self.first_step(key)) is not None:
                starts[key.generation] = min(first, starts.get(key.generation, first))
        return starts

    def read(self, key: StreamKey, begin: float = 0.0, end: float = float("inf")) -> Columns:
        """The points of a stream in the order of time; also from another thread.

        Args:
            begin, end: Unix times outside of which no block is read: some points of those at the edge are.
        """
        kept = self._kept
        parts = [
            each.read(key)
            for each in kept.found.get(key, ())
            if (block := each.blocks[key]).end >= begin and block.begin <= end
        ]
        for head in kept.heads:
            if (columns := head.streams.get(key)) is not None:
                # It may grow meanwhile; of a point the value is added last.
                parts.append(columns.part(0, len(columns.mean)))
        return joined(parts)

    def first_step(self, key: StreamKey) -> int | None:
        """The first step that a stream told of."""
        kept = self._kept
        steps = [each.blocks[key].first for each in kept.found.get(key, ())[:1]]
        steps += [columns.step[0] for head in kept.heads if (columns := head.streams.get(key)) is not None]
        return next((step for step in steps if step != NO_STEP), None)

    def close(self) -> None:
        """Seal what there is, and close the log."""
        with self._lock:
            self._busy = True  # what is begun in the thread is left to whoever opens this again
        if not self._archive and self._head.points:
            self._seal(self._freeze())
        for head in self._kept.heads:
            head.close()

    # ---- what happens beside ---------------------------------------------------------------------------------

    def _tend(self) -> None:
        """Seal what is in memory, and thin what is too much on the disk, unless that is being done."""
        with self._lock:
            if self._busy:
                return
            self._busy = True
        if self._head.points >= self._limits.head:
            self._freeze()
        self._beside(self._work)

    def _freeze(self) -> Head:
        """Begin a new head; the one before takes no more points."""
        frozen = self._head
        self._number += 1
        head = Head(log_path(self._directory, self._number), frozen.offsets)
        self._change(lambda kept: replace(kept, heads=(*kept.heads, head)))
        return frozen

    def _work(self) -> None:
        try:
            for head in self._kept.heads[:-1]:
                self._seal(head)
            while self._thin():
                pass
        except OSError as error:  # the log is still there, and so are the segments: it is tried again later
            print(f"series could not be sealed: {error}", file=sys.stderr, flush=True)
        finally:
            self._busy = False

    def _seal(self, head: Head) -> None:
        number = int(head.path.stem)
        name = SegmentName(number, number, 0)
        made = segment.write(self._directory, name, list(head.streams.items()))

        def sealed(kept: _KeptSeries) -> _KeptSeries:
            heads = tuple(each for each in kept.heads if each is not head)
            if made is None:
                return replace(kept, heads=heads)
            found = {**kept.found, **{key: (*kept.found.get(key, ()), made) for key in made.blocks}}
            return _KeptSeries((*kept.segments, made), heads, found)

        self._change(sealed)
        head.close()
        head.path.unlink(missing_ok=True)

    def _thin(self) -> bool:
        """Thin the older part of a resolution that takes more than its share; whether there was one."""
        for width, share in self._limits.shares.items():
            mine = [each for each in self._kept.segments if each.name.width == width]
            if sum(each.size for each in mine) <= share:
                continue
            older, size = [mine[0]], mine[0].size
            for each in mine[1:-1]:
                if size >= share / 2:
                    break
                older.append(each)
                size += each.size
            coarser = self._limits.after(width)
            self._replace(older, None if coarser is None else self._merged(older, coarser))
            return True
        return False

    def _merged(self, older: list[SeriesSegment], width: int) -> SeriesSegment | None:
        name = SegmentName(older[0].name.first, older[-1].name.last, width)

        def streams() -> Iterator[tuple[StreamKey, Columns]]:
            times, begins = list[float](), list[int]()
            for key in dict.fromkeys(key for each in older for key in each.blocks):
                columns = joined([each.read(key) for each in older])
                if columns.time != times:  # streams of one source have the same
                    times, begins = columns.time, stretches(columns.time, width)
                yield key, thinned(columns, begins)
                if self._beside is in_thread:
                    time.sleep(_BREATH)

        return segment.write(self._directory, name, streams())

    def _replace(self, older: list[SeriesSegment], made: SeriesSegment | None) -> None:
        def replaced(kept: _KeptSeries) -> _KeptSeries:
            rest = [each for each in kept.segments if each not in older]
            segments = tuple(sorted([*rest, *([made] if made else [])], key=lambda each: each.name))
            return _KeptSeries(segments, kept.heads, _found(segments))

        self._change(replaced)
        for each in older:
            each.path.unlink(missing_ok=True)

    def _change(self, change: Callable[[_KeptSeries], _KeptSeries]) -> None:
        with self._lock:
            self._kept = change(self._kept)


def _found(segments: Sequence[SeriesSegment]) -> dict[StreamKey, tuple[SeriesSegment, ...]]:
    found: dict[StreamKey, list[SeriesSegment]] = {}
    for each in segments:
        for key in each.blocks:
            found.setdefault(key, []).append(each)
    return {key: tuple(them) for key, them in found.items()}
