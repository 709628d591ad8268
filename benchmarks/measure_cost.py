"""What measuring costs a step: the same steps with and without it, in turns, in one process. Goal: under 1 %.

    python benchmarks/measure_cost.py [TURNS]     (200 turns)

Measured is all that a rank does for its series: the phases of steps, its lines in the file of metrics,
and a call of `report` at each step. Lines come as often as in the first ten seconds of a training, ten times a second:
later there are fewer. Two sizes of steps are tried, of about 2 ms and 50 ms. In turns of about 100 ms, in changing
order, one model is trained both ways, so that neither the machine nor the place of a model in memory makes a
difference; every few turns there is another one. What comes due by time does so by that of its own turns, as if the
others were not there. Compared is the training thread's processor time: nothing that is measured here waits. A turn in
which the thread had to wait for a processor is left out, as a line comes by the clock, and so after fewer steps.
Printed is the median of the ratios with its 95 % confidence interval, and the time of a step.
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
TURN = 0.1  # seconds of steps
SAMPLES = 32
TOGETHER = 5  # turns of the same model
TRIES = 4  # of each turn, at most, until it is not disturbed
UNDISTURBED = 1.1  # times the processor's time, at most


class NoPhases(StepPhases):
    """Measures nothing."""

    def __init__(self) -> None:
        self.data = self.forward = self.backward = self.optimizer = nullcontext()

    def watch_gradients(self, model: nn.Module) -> None:
        return

    def taken(self) -> dict[str, float]:
        return {}


class Training:
    """Trains a model, with measuring and without."""

    def __init__(self, width: int, reporters: dict[bool, Reporter]) -> None:
        self._width, self._reporters = width, reporters
        self._made = 0
        self._left = time.monotonic()
        self.begin_anew()

    def begin_anew(self) -> None:
        """Train another model, which lies elsewhere in memory."""
        torch.manual_seed(0)
        width, world = self._width, join_world()
        model = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self._reporters[True].phases.watch_gradients(model)
        optimizer = torch.optim.SGD(model.parameters(), 1e-3)
        precision = Precision("fp32", world.device)
        options = Options(batch_size=SAMPLES, clip_norm=1.0)
        self._steps = {
            measured: TrainStep(world, model, optimizer, nn.functional.mse_loss, precision, reporter, options)
            for measured, reporter in self._reporters.items()
        }
        self._batch = (torch.randn(SAMPLES, width), torch.randn(SAMPLES, width))
        for measured in (True, False):
            self.run(3, measured=measured)

    def run(self, steps: int, *, measured: bool) -> tuple[float, bool]:
        """Seconds of the processor for so many steps, and whether it was there all the time."""
        if measured:
            self._leave_out(time.monotonic() - self._left)
        came, began = time.monotonic(), time.thread_time()
        if measured:
            self._measured(steps)
        else:
            self._plain(steps)
        took, now = time.thread_time() - began, time.monotonic()
        if measured:
            self._left = now
        return took, now - came < UNDISTURBED * took

    def _plain(self, steps: int) -> None:
        for _ in range(steps):
            self._steps[False](self._step(), tell=False)

    def _measured(self, steps: int) -> None:
        reporter, mark = self._reporters[True], time.perf_counter()
        for _ in range(steps):
            stepped = self._steps[True](self._step(), tell=False)
            self._made += 1
            now = time.perf_counter()
            seconds, mark = now - mark, now
            reporter.step(
                StepReport(
                    step=self._made,
                    epoch=0,
                    loss_sum=stepped.loss_sum,
                    own_samples=stepped.samples,
                    learning_rate=1e-3,
                    seconds=seconds,
                    samples=SAMPLES,
                    done=0.5,
                )
            )
            report(loss=stepped.loss_sum, step=self._made)

    def _step(self) -> Step:
        return Step(SAMPLES, iter([LoadedPiece(self._batch, SAMPLES, last=True)]))

    def _leave_out(self, away: float) -> None:
        """Let nothing come due by the time in which others had their turn; and the training is always young."""
        reporter = self._reporters[True]
        reporter._next_line += away
        reporter._started = time.monotonic()
        assert isinstance(reporter.phases, CpuPhases), "no GPU takes part"
        reporter.phases._since += away
        if (lines := reports._lines) is not None:
            lines.due += away
            lines._started = time.monotonic()


def main() -> None:
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        reporters = _reporters(Path(directory))
        worst = max(_compare(goal, turns, reporters) for goal in (0.002, 0.05))
    sys.exit(1 if worst > GOAL else 0)


def _reporters(directory: Path) -> dict[bool, Reporter]:
    """What measures, and what does not."""
    plain = Reporter(join_world(), progress=False)
    plain.phases = NoPhases()
    os.environ[names.ENV_METRICS] = str(directory / "metrics")
    return {False: plain, True: Reporter(join_world(), progress=False)}


def _compare(goal: float, turns: int, reporters: dict[bool, Reporter]) -> float:
    """Print what measuring costs a step of about so many seconds; return the least that this may be."""
    training, ratios, plain = _training(goal, reporters), [], []
    steps = max(1, round(TURN / goal))
    for turn in range(TRIES * turns):
        if turn % TOGETHER == 0:
            training.begin_anew()
        order = random.sample([True, False], 2)
        took = {measured: training.run(steps, measured=measured) for measured in order}
        if all(undisturbed for _, undisturbed in took.values()):
            ratios.append(took[True][0] / took[False][0])
            plain.append(took[False][0] / steps)
        if len(ratios) == turns:
            break
    if not ratios:
        sys.exit("the machine is too busy: the thread had to wait for a processor in every turn")
    low, high = _interval(ratios)
    median, step = statistics.median(ratios) - 1, statistics.median(plain)
    print(
        f"a step of {step * 1000:.1f} ms: {median:+.2%} with measuring, {median * step * 1e6:.0f} us "
        f"(95 % confidence: {low - 1:+.2%} to {high - 1:+.2%}, {len(ratios)} turns)",
        flush=True,
    )
    return low


def _training(goal: float, reporters: dict[bool, Reporter]) -> Training:
    """One whose step takes about so many seconds here."""
    width = 64
    while True:
        training = Training(width, reporters)
        if training.run(5, measured=False)[0] / 5 >= goal or width >= 4096:
            return training
        width = round(width * 1.25)


def _interval(values: list[float]) -> tuple[float, float]:
    """Of the median, by the binomial distribution."""
    ordered, count = sorted(values), len(values)
    away = 0.98 * count**0.5
    return ordered[max(0, int(count / 2 - away))], ordered[min(count - 1, int(count / 2 + away))]


if __name__ == "__main__":
    main()
