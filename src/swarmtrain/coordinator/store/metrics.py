"""How far the training has come, as its workers tell it; and the file that keeps every word of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from swarmtrain.coordinator.core.measure.goodput import TimeTold
from swarmtrain.coordinator.store.compaction import compact
from swarmtrain.coordinator.store.series.feed import SeriesFeed
from swarmtrain.protocol.journal.remarks import Remark, SnapshotFailed, SnapshotsAgain, SnapshotSkipped
from swarmtrain.protocol.schema import Struct
from swarmtrain.protocol.status import Resumed, SnapshotState
from swarmtrain.wire.disk.records import Record, Records, parse
from swarmtrain.wire.metrics import as_heard
from swarmtrain.wire.plural import counted

Metric = Record
_MOST_BYTES = 16 << 20  # of the file, after which it is written anew, in less than a second

T = TypeVar("T", int, str)


class TrainingPosition(Struct):
    """Where the training of a generation is; None is what rank 0 has not told."""

    step: int | None = None
    epoch: float | None = None
    loss: float | None = None
    lr: float | None = None
    step_seconds: float | None = None
    samples: float | None = None


class TrainingReport(Struct):
    """What of a run its workers report; see `protocol.status.Status`."""

    position: TrainingPosition
    eval: Mapping[str, Any] | None
    snapshot: SnapshotState | None
    resumed: Resumed | None
    weights: dict[int, str]
    snapshots_failing: dict[str, str]


class MetricsStore:
    """Metrics of all ranks: kept in a file as JSON lines, and summed up for the status document.

    A metric is what a worker wrote plus ``g`` (generation), ``r`` (rank), ``n`` (node), ``at`` (Unix time at which it
    came) and ``when`` (Unix time at which it was written), both by the run's clock. See wire/names.py,
    ENV_METRICS, and the Trainer for the kinds.

    Args:
        path: the file; what it already holds is read.
        now: Unix time by the run's clock.
        archive: nobody leads the run any more.
        on_trouble: called with a kind of event, a node and a sentence when a node's snapshots fail, and when they no
            longer do.
    """

    def __init__(
        self,
        path: Path,
        now: Callable[[], float],
        on_trouble: Callable[[type[Remark], str, str], None] = lambda *_: None,
        *,
        archive: bool = False,
    ) -> None:
        self._now, self._on_trouble = now, on_trouble
        self.listener: Callable[[Record], None] = lambda line: None  # is told of each line that comes
        self.series = SeriesFeed(path, now, archive=archive)
        self._failing: dict[str, str] = {}  # nodes whose last snapshot could not be written, and why
        self._skipped: dict[str, int] = {}  # those where the disk was too slow, and for which step
        # By node: the newest step that this generation could not save, and why.
        self._unsaved: dict[str, tuple[int, str]] = {}
        # Of the snapshot that the report names: generation, step, whether of rank 0.
        self._newest = (0, 0, False)
        self._generation = 0  # the newest one that anything was told of
        self.path = path  # all metrics are there, and in memory only what they come to: a run may take months
        self.offsets: dict[tuple[int, int], int] = {}
        self._nodes: dict[tuple[int, int], str] = {}  # on which each rank is
        self._position = TrainingPosition()
        self._eval: Mapping[str, Any] | None = None
        self._snapshot: SnapshotState | None = None
        self._resumed: Resumed | None = None
        self._weights: dict[int, str] = {}
        self._rank_steps: dict[int, int] = {}
        self.time_told = TimeTold()  # by rank 0
        self.saves = False  # snapshots that all ranks agree on have been taken
        self.stepped: float | None = None  # Unix time at which the newest step was heard of
        self._records = Records(path, lambda record, _: self._replay(record))
        self.damage = self._records.damage
        self._written = path.stat().st_size if path.exists() else 0

    def append(
        self, generation: int, rank: int, node: str, offset: int, text: str, shift: float | None = None
    ) -> int:
        """Take whole lines of a rank's metrics file from ``offset``; return how far it is known now.

        Args:
            shift: what to add to the node's Unix time to have the run's; None where that is not known.
        """
        known = self.offsets.get((generation, rank), 0)
        if offset > known:
            return known
        metrics = []
        for line in text.encode("utf-8", "surrogateescape")[known - offset :].splitlines(keepends=True):
            known += len(line)
            metric = parse(line)
            if metric is None:
                continue  # not a JSON object: a worker's own affair
            now, written = self._now(), as_heard(metric.get("t"))
            when = now if shift is None or written is None else min(written + shift, now)
            place = {"g": generation, "r": rank, "n": node, "o": known}
            metric.update(place, at=round(now, 3), when=round(when, 3))
            try:
                self._take(metric)
            except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
                continue  # nor is what makes no sense
            metrics.append(metric)
            self.listener(metric)
        self._records.append(*metrics)
        self.series.take(metrics)
        self._written += sum(map(len, text.splitlines()))
        if self._written > _MOST_BYTES:
            self._compact()
        self.offsets[generation, rank], self._nodes[generation, rank] = known, node
        return known

    def offsets_of(self, node: str) -> dict[tuple[int, int], int]:
        """Those of the ranks that a node has had."""
        return {key: offset for key, offset in self.offsets.items() if self._nodes[key] == node}

    def full(self) -> bool:
        """Whether the disk does not take what was appended: nothing more is to be, until it does."""
        return self._records.full() or self.series.full()

    def step_of(self, rank: int, generation: int) -> int | None:
        """The newest step of a rank in a generation."""
        return self._rank_steps.get(rank) if generation == self._generation else None

    def report(self, generation: int) -> TrainingReport:
        """The part of the status document that the workers report.

        Args:
            generation: the current one. How far one before it came says nothing of where the training is now.
        """
        return TrainingReport(
            self._position if generation == self._generation else TrainingPosition(),
            self._eval,
            self._snapshot,
            self._resumed,
            dict(self._weights),
            dict(self._failing),
        )

    def unsaved(self) -> str:
        """What no snapshot holds of a training that has ended, in a sentence; empty where the last one was written.

        A script that begins none at its end does so on purpose.
        """
        failed = max(self._unsaved.values(), default=None)
        generation, newest, _ = self._newest
        resumed = self._resumed.step if self._resumed else None
        saved = newest if generation == self._generation or resumed is None else resumed
        if failed is None or (saved >= failed[0] and generation):
            return ""
        last, why = failed
        text = f"no node could write the snapshot of step {last} ({why}): "
        if not generation and resumed is None:
            return text + "there is none of this training"
        lost = counted(max(last, self._position.step or 0) - saved, "step")
        return text + f"the newest there is of step {saved}, without the last {lost}"

    def _watch_snapshots(self, metric: Metric) -> None:
        """Say once when a node's disk takes no snapshots, and once when it does again."""
        node, kind, step = str(metric["n"]), metric.get("kind"), metric.get("step") or 0
        if kind in ("snapshot", "snapshot_failed", "snapshot_skipped") and not isinstance(step, int):
            raise TypeError(f"a snapshot of step {step!r}")
        if kind == "snapshot_failed" and metric.get("tier") == "disk":
            why = str(metric.get("error"))
            self._unsaved[node] = (step, f"{node}: {why}")
            if self._failing.get(node) != why:
                self._failing[node] = why
                self._on_trouble(
                    SnapshotFailed, node, f"{why}; training goes on, with the snapshots there are"
                )
        elif kind == "snapshot_skipped":
            self._skipped[node] = step
            self._unsaved[node] = (step, f"{node}: its disk is too slow")
            if node not in self._failing:
                self._failing[node] = f"the disk is too slow for that of step {step}"
                text = f"the snapshot of step {step} is left out, as the last one is still being written"
                self._on_trouble(SnapshotSkipped, node, f"{text}; training goes on")
        elif kind == "snapshot" and step > self._skipped.get(node, -1):
            self._skipped.pop(node, None)
            if self._failing.pop(node, None) is not None:
                self._on_trouble(SnapshotsAgain, node, "snapshots can be written again")

    def close(self) -> None:
        """Close the files."""
        self._records.close()
        self.series.close()

    def _compact(self) -> None:
        """Keep what the lines come to. On a disk that does not take that they stay, and it is tried again later."""
        self._written = 0
        if self._records.full():
            return
        try:
            compact(self.path)
        except OSError as error:
            print(f"{self.path.name} stays as long as it is: {error}", file=sys.stderr, flush=True)
            return
        self._records.close()
        self._records = Records(self.path, lambda *_: None)

    def _replay(self, metric: Metric) -> None:
        self._take(metric)
        self.series.take([metric])

    def _take(self, metric: Metric) -> None:
        kind, rank = metric.get("kind"), metric["r"]
        if rank == 0:
            self.time_told = self.time_told.and_line(metric)
        self.offsets[metric["g"], rank], self._nodes[metric["g"], rank] = metric["o"], metric["n"]
        if metric["g"] < self._generation:
            return  # it was on its way for long; others have gone on since
        if metric["g"] > self._generation:
            self._generation = metric["g"]
            for node in self._skipped:  # its steps may be made again, with more time for each
                self._failing.pop(node, None)
            self._skipped.clear()
            self._unsaved.clear()
            self._rank_steps.clear()
            self._position = TrainingPosition()
        if isinstance(metric.get("step"), int):
            self._rank_steps[rank] = metric["step"]
        if kind == "step":
            self.stepped = max(self.stepped or 0.0, float(metric["at"]))
        if kind == "end" and isinstance(metric.get("weights"), str):
            self._weights[rank] = metric["weights"]
        self.saves = self.saves or kind in ("snapshot", "memory_snapshot")
        self._watch_snapshots(metric)
        if kind == "snapshot" and (metric["g"], metric["step"], rank == 0) >= self._newest:
            self._newest = (metric["g"], metric["step"], rank == 0)
            self._snapshot = SnapshotState(
                step=_of(int, metric["step"]),
                epoch=_number(metric.get("epoch")),
                path=_of(str, metric.get("path")),
                bytes=_of(int, metric.get("bytes")),
                seconds=_number(metric.get("seconds")),
                node=metric["n"],
            )
        if rank != 0:
            return
        if kind in ("step", "end", "resume", "report"):
            said = metric.get("values") if kind == "report" else metric
            said = said if isinstance(said, dict) else {}
            told: dict[str, Any] = (
                {"step": _of(int, metric["step"])} if metric.get("step") is not None else {}
            )
            told |= {key: _number(said.get(key)) for key in ("epoch", "loss", "lr", "samples") if key in said}
            self._position = replace(
                self._position, **{key: each for key, each in told.items() if said.get(key, 0) is not None}
            )
        if kind == "step":
            self._position = replace(
                self._position, step_seconds=_number(metric.get("step_s_now", metric.get("step_s")))
            )
        if kind == "eval" or (kind == "end" and metric.get("metrics")):
            self._eval = metric["metrics"] if isinstance(metric.get("metrics"), dict) else None
        if kind == "resume":
            step, path = _of(int, metric.get("step")), _of(str, metric.get("path"))
            self._resumed = Resumed(step, _number(metric.get("epoch")), path)


# What workers report is their own affair, and may be anything; what is not of its type counts as not reported.


def _of(kind: type[T], value: object) -> T | None:
    return value if type(value) is kind else None


def _number(value: object) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
