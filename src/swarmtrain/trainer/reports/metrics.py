"""What a training tells others while it runs: lines for the agent, TensorBoard, and a person's terminal.

The agent reads a file named by SWARMTRAIN_METRICS, one JSON object a line: see docs/trainer.md for their fields.
Every rank appends to a file of its own. Steps come as often as wire/metrics.py says, the last one always.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from swarmtrain.errors import TrainerError
from swarmtrain.trainer.distributed import World
from swarmtrain.trainer.reports import log
from swarmtrain.trainer.reports.phases import phases_on
from swarmtrain.trainer.reports.progress import ProgressBar
from swarmtrain.trainer.reports.pulse_writer import PulseWriter
from swarmtrain.trainer.reports.step_report import StepReport
from swarmtrain.wire import names
from swarmtrain.wire.clock import MACHINE, Clock
from swarmtrain.wire.metrics import as_told, line_interval
from swarmtrain.wire.plural import counted

_STRICT = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


class Reporter:
    """Takes what happens in a training, and passes it on to whoever listens; one on every rank."""

    def __init__(
        self,
        world: World,
        tensorboard: Path | str | None = None,
        pulse_writer: PulseWriter | None = None,
        *,
        progress: bool = True,
        started: bool = True,
        clock: Clock = MACHINE,
    ) -> None:
        self._world, self._clock = world, clock
        self.pulse_writer = pulse_writer or PulseWriter()
        self.phases = phases_on(world.device)
        path = os.environ.get(names.ENV_METRICS)
        # Unbuffered and appended: a line is there, whole, as soon as it is written.
        self._file = open(path, "ab", buffering=0) if path else None  # noqa: SIM115
        self._board = _tensorboard(tensorboard) if tensorboard is not None and world.leads else None
        self._progress = ProgressBar(clock) if world.leads and progress else None
        log.speak()
        self._waiting: StepReport | None = None  # the newest step, if its line is not written yet
        self._made_at = 0.0  # when it was made
        self._steps, self._seconds, self._samples = 0, 0.0, 0  # since the last line
        self._started = self._next_line = self._clock.monotonic()
        if started:  # else it is told by whoever else watches this script
            self._write("start", rank=world.rank, world=world.size, device=str(world.device))

    def goal(self, step: int, total_steps: int) -> None:
        """Tell how far the training is to go in all, so that whoever looks can say how long that takes."""
        if self._world.leads:
            self._write("goal", step=step, total_steps=total_steps)

    def step(self, report: StepReport) -> None:
        self._steps += 1
        self._seconds += report.seconds
        self._samples += report.samples
        self._waiting, self._made_at = report, self._clock.monotonic()
        if self._made_at >= self._next_line:
            self._write_step()
        if self._progress is not None:
            self._progress.step(report)

    def epoch(self, epoch: int, loss: float, metrics: Mapping[str, float]) -> None:
        evaluated = "".join(f"  {name} {value:.4f}" for name, value in metrics.items())
        self.say(f"epoch {epoch}  done  train loss {loss:.4f}{'  evaluated:' + evaluated if metrics else ''}")
        if self._progress is not None:
            self._progress.rest()

    def evaluation(self, step: int, epoch: int, metrics: Mapping[str, float]) -> None:
        self._write("eval", step=step, epoch=epoch, metrics=dict(metrics))
        self._scalars("eval", metrics, step)

    def snapshot(
        self, step: int, epoch: int, path: Path, size: int, seconds: float, tier: str = "disk"
    ) -> None:
        kind = "snapshot" if tier == "disk" else "memory_snapshot"
        self._write(kind, step=step, epoch=epoch, path=str(path), bytes=size, seconds=round(seconds, 6))

    def snapshot_failed(self, tier: str, step: int, node: str, error: str) -> None:
        self._write("snapshot_failed", step=step, node=node, tier=tier, error=error)

    def snapshot_skipped(self, step: int, node: str) -> None:
        self._write("snapshot_skipped", step=step, node=node)

    def resume(self, step: int, epoch: int, path: Path) -> None:
        self._write("resume", step=step, epoch=epoch, path=str(path))
        self.say(f"Resuming from {path} at epoch {epoch}, step {step}")

    def end(self, step: int, epoch: int, weights: str, metrics: Mapping[str, float]) -> None:
        self._write("end", step=step, epoch=epoch, weights=weights, metrics=dict(metrics))
        listed = "".join(f", {name} {value:.4f}" for name, value in metrics.items())
        self.say(
            f"Training is done: {counted(epoch, 'epoch')}, {counted(step, 'step')}{listed}, weights {weights[:12]}"
        )

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Say that no steps are made inside, and why."""
        self._write("phase", name=name, on=True)
        began = self._clock.monotonic()
        try:
            with self.pulse_writer.doing(name):
                yield
        finally:
            self._write("phase", name=name, on=False, seconds=round(self._clock.monotonic() - began, 6))

    def say(self, line: str) -> None:
        """A line for a person, on rank 0."""
        if self._world.leads:
            log.LOG.info(line)

    def close(self) -> None:
        self._write_step()
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._board is not None:
            self._board.close()
            self._board = None

    def _write_step(self) -> None:
        if (report := self._waiting) is None:
            return
        steps, seconds, samples = self._steps, self._seconds, self._samples
        self._waiting, self._steps, self._seconds, self._samples = None, 0, 0.0, 0
        now = self._clock.monotonic()
        self._next_line = now + line_interval(now - self._started)
        if self._file is None and self._board is None:
            return  # nobody listens: do not make a GPU wait for its loss
        loss = report.loss
        rate = float(report.learning_rate)
        phases = {f"{name}_s": round(each, 6) for name, each in self.phases.taken().items()}
        norm = {} if report.gradient_norm is None else {"grad_norm": float(report.gradient_norm)}
        self._append(
            "step",
            t=round(self._clock.unix() - (now - self._made_at), 3),
            step=report.step,
            steps=steps,
            epoch=report.epoch,
            loss=loss,
            lr=rate,
            step_s=round(seconds / steps, 6),
            samples=report.samples,
            samples_s=round(samples / seconds, 3) if seconds else None,
            seen=report.seen,
            **phases,
            **norm,
        )
        scalars = {"lr": rate, "step_s": seconds / steps}
        self._scalars("train", scalars if loss is None else {"loss": loss, **scalars}, report.step)

    def _write(self, kind: str, **fields: Any) -> None:
        self._write_step()  # in the order in which things happened
        self._append(kind, **fields)

    def _append(self, kind: str, **fields: Any) -> None:
        if self._file is not None:
            told = {"kind": kind, "t": round(self._clock.unix(), 3), **fields}
            with suppress(OSError):  # a disk that is full costs the line, not the training
                self._file.write(_line(told).encode() + b"\n")

    def _scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{group}/{name}", value, step)


def _line(told: dict[str, Any]) -> str:
    try:
        return _STRICT.encode(told)
    except ValueError:  # some number is none that JSON can write
        return _STRICT.encode(_in_words(told))


def _in_words(value: Any) -> Any:
    """``value`` with words for numbers that JSON cannot write: NaN and the infinities."""
    if isinstance(value, float):
        return as_told(value)
    if isinstance(value, dict):
        return {key: _in_words(each) for key, each in value.items()}
    return value


def _tensorboard(directory: Path | str) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise TrainerError(
            f"Options(tensorboard={str(directory)!r}) needs the package tensorboard",
            "pip install tensorboard",
        ) from None
    return SummaryWriter(str(directory))
