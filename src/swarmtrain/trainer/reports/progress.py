"""Rank 0's view of a training for a person: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys

from swarmtrain.trainer.reports import log
from swarmtrain.trainer.reports.step_report import StepReport
from swarmtrain.wire.clock import MACHINE, Clock

_BAR_INTERVAL = 0.1  # seconds
_LINE_INTERVAL = 5.0
_WIDTH = 24


class ProgressBar:
    """Shows steps on standard output; called by the reporter, on rank 0 alone."""

    def __init__(self, clock: Clock = MACHINE) -> None:
        self._clock = clock
        self._terminal = sys.stdout.isatty()
        self._interval = _BAR_INTERVAL if self._terminal else _LINE_INTERVAL
        self._next = self._clock.monotonic() + self._interval
        self._samples = 0
        self._seconds = 0.0

    def step(self, report: StepReport) -> None:
        self._samples += report.samples
        self._seconds += report.seconds
        if self._clock.monotonic() < self._next:
            return
        self._next = self._clock.monotonic() + self._interval
        rate = self._samples / self._seconds if self._seconds else 0.0
        loss = "" if (own := report.loss) is None else f"  loss {own:.4f}"
        facts = f"step {report.step}{loss}  {rate:.0f} samples/s"
        self._samples, self._seconds = 0, 0.0
        if self._terminal:
            full = int(_WIDTH * report.done)
            bar = "#" * full + "." * (_WIDTH - full)
            sys.stdout.write(f"\r\x1b[Kepoch {report.epoch} [{bar}] {report.done:4.0%}  {facts}")
            sys.stdout.flush()
        else:
            log.line(f"epoch {report.epoch}  {report.done:4.0%}  {facts}")

    def rest(self) -> None:
        """An epoch has ended, and that has been said: there is nothing to add for a moment."""
        self._next = self._clock.monotonic() + self._interval
