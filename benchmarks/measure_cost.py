"""What measuring costs a step: the same steps with and without it, in turns, in one process. Goal: under 1 %.

    python benchmarks/measure_cost.py [TURNS]     (200 turns)

Measured is what a rank does for its series: the phases of each step, its lines in the file of metrics, and a call of
`report` at each step. Two sizes of steps are tried, of about 2 ms and 50 ms. A turn takes about 50 ms for each of both
ways, in changing order, so what slows the machine down for longer slows both, and every few turns both get new models.
What comes due by time, such as a line, does so by that of one's own turns, as if the others were not there.
Compared is the training thread's processor time, which others who use the machine hardly change: nothing that is
measured here waits. Printed is the median of the ratios with its 95 % confidence interval, and the time of a step.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn

from swarmtrain.trainer import Options, report
from swarmtrain.trainer.data import LoadedPiece, Step
from swarmtrain.trainer.distributed import join_world
from swarmtrain.trainer.precision import Precision
from swarmtrain.trainer.reports import report as reports
from swarmtrain.trainer.reports.metrics import Reporter
from swarmtrain.trainer.reports.phases import CpuPhases, StepPhases
from swarmtrain.trainer.reports.step_report import StepReport
from swarmtrain.trainer.step import TrainStep
from swarmtrain.wire import names

GOAL = 1.01
TURN = 0.05  # seconds of steps
SAMPLES = 32
# Turns of the same two models: where in memory one lies makes it faster or slower than the other.
TOGETHER = 5


class NoPhases(StepPhases):
    """Measures nothing."""

    def __init__(self) -> None:
        self.data = self.forward = self.backward = self.optimizer = nullcontext()

    def watch_gradients(self, model: nn.Module) -> None:
        return

    def taken(self) -> dict[str, float]:
        return {}


class Rival:
    """Trains models, measured or not."""

    def __init__(self, width: int, *, measured: bool) -> None:
        self._width, self._measured, self._made = width, measured, 0
        self._world = join_world()
        path = os.environ.pop(names.ENV_METRICS, None) if not measured else None
        self._reporter = Reporter(self._world, progress=False)
        if path is not None:
            os.environ[names.ENV_METRICS] = path
        if not measured:
            self._reporter.phases = NoPhases()
        self._left = time.monotonic()
        self.begin_anew()

    def begin_anew(self) -> None:
        """Train another model, which lies elsewhere in memory."""
        torch.manual_seed(0)
        width = self._width
        model = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        if self._measured:
            self._reporter.phases.watch_gradients(model)
        optimizer = torch.optim.SGD(model.parameters(), 1e-3)
        precision = Precision("fp32", self._world.device)
        options = Options(batch_size=SAMPLES, clip_norm=1.0)
        self._step = TrainStep(
            self._world, model, optimizer, nn.functional.mse_loss, precision, self._reporter, options
        )
        self._batch = (torch.randn(SAMPLES, width), torch.randn(SAMPLES, width))

    def run(self, steps: int) -> float:
        """Seconds of the processor for so many steps."""
        self._leave_out(time.monotonic() - self._left)
        began, mark = time.thread_time(), time.perf_counter()
        for _ in range(steps):
            stepped = self._step(
                Step(SAMPLES, iter([LoadedPiece(self._batch, SAMPLES, last=True)])), tell=False
            )
            self._made += 1
            now, loss = time.perf_counter(), stepped.loss
            told = StepReport(self._made, 0, loss, 1e-3, now - mark, SAMPLES, 0.5)
            mark = now
            self._reporter.step(told)
            if self._measured:
                report(loss=loss, step=self._made)
        took = time.thread_time() - began
        self._left = time.monotonic()
        return took

    def _leave_out(self, away: float) -> None:
        """Let nothing come due by the time in which others had their turn."""
        if not self._measured:
            return
        self._reporter._next_line += away
        self._reporter._started += away
        assert isinstance(self._reporter.phases, CpuPhases), "no GPU takes part"
        self._reporter.phases._since += away
        if (lines := reports._lines) is not None:
            lines.due += away
            lines._started += away


def main() -> None:
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    torch.set_num_threads(1)
    worst = 0.0
    with tempfile.TemporaryDirectory() as directory:
        os.environ[names.ENV_METRICS] = str(Path(directory) / "metrics")
        for goal in (0.002, 0.05):
            width = _width(goal)
            steps = max(1, round(TURN / goal))
            rivals = {measured: Rival(width, measured=measured) for measured in (True, False)}
            ratios, plain = [], []
            for turn in range(turns):
                if turn % TOGETHER == 0:
                    for measured in random.sample([True, False], 2):
                        rivals[measured].begin_anew()
                        rivals[measured].run(3)
                order = random.sample([True, False], 2)
                took = {measured: rivals[measured].run(steps) for measured in order}
                ratios.append(took[True] / took[False])
                plain.append(took[False] / steps)
            low, high = _interval(ratios)
            median = statistics.median(ratios)
            worst = max(worst, low)
            print(
                f"a step of {statistics.median(plain) * 1000:.1f} ms: {(median - 1):+.2%} with measuring "
                f"(95 % confidence: {low - 1:+.2%} to {high - 1:+.2%}, {turns} turns)"
            )
    sys.exit(1 if worst > GOAL else 0)


def _width(goal: float) -> int:
    """Of a model whose step takes about so long here."""
    width = 64
    while True:
        rival = Rival(width, measured=False)
        rival.run(3)
        if rival.run(5) / 5 >= goal or width >= 4096:
            return width
        width = round(width * 1.25)


def _interval(values: list[float]) -> tuple[float, float]:
    """Of the median, by the binomial distribution."""
    ordered, count = sorted(values), len(values)
    away = 0.98 * count**0.5
    return ordered[max(0, int(count / 2 - away))], ordered[min(count - 1, int(count / 2 + away))]


if __name__ == "__main__":
    main()
