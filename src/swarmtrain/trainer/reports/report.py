"""`report`: one call by which any script tells how its training goes. It is public as `swarmtrain.trainer.report`.

Values wait here until a line is due, by wire/metrics.py; the newest of each name is what the line has. A tensor is read
when its line is written, so that a GPU is not waited for at every call.
"""

from __future__ import annotations

import atexit
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import SupportsFloat

from swarmtrain.trainer.reports.log import LOG
from swarmtrain.wire import names
from swarmtrain.wire.metrics import as_told, line_interval
from swarmtrain.wire.pulse import Source, opened


class ReportLines:
    """What a script reports, on its way into this rank's file of metrics."""

    def __init__(self, path: Path) -> None:
        self._path, self._pulse = path, opened()
        self._refused: set[str] = set()
        self._started = time.monotonic()
        self.values: dict[str, SupportsFloat] = {}
        self.step: int | None = None
        self.due = 0.0

    def write(self) -> None:
        """Write what waits; the next line is due later."""
        now = time.monotonic()
        self.due = now + line_interval(now - self._started)
        values, self.values = self.values, {}
        told = {
            name: as_told(each)
            for name, value in values.items()
            if (each := self._number(name, value)) is not None
        }
        if not told:
            return
        step = self.step if self.step is not None else self._counted()
        line = json.dumps({"kind": "report", "t": round(time.time(), 3), "step": step, "values": told})
        # Opened for each line, as these are few: whole at once, among those of others who write here.
        with suppress(OSError), self._path.open("ab", buffering=0) as file:
            file.write(line.encode() + b"\n")

    def _counted(self) -> int | None:
        """The step as swarmtrain has counted it; None where that may be another than the training's own."""
        pulse = self._pulse
        if pulse is None:
            return None
        if pulse.source != Source.WATCHED:
            return pulse.step
        if pulse.counted:  # by the optimizer, of the whole training, as this process made its first step
            return pulse.step + pulse.counted - 1
        return pulse.step if os.environ.get(names.ENV_GENERATION, "1") == "1" else None

    def _number(self, name: str, value: SupportsFloat) -> float | None:
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            if name not in self._refused:
                self._refused.add(name)
                LOG.warning(f"report({name}=...) is left out, as it is no number: {error}")
            return None


_lines: ReportLines | None = None
_is_open = False


def report(*, step: int | None = None, loss: SupportsFloat | None = None, **values: SupportsFloat) -> None:
    """Tell how the training goes: for `swarmtrain status`, `metrics` and all that plots.

    To be called as often as one likes, at each step for example: lines are written ten times a second at first, and
    every five seconds after hours, and hold the newest value of each name. Outside of a run it does nothing.

    Args:
        step: of the training; by default the optimizer's steps that swarmtrain has counted.
        loss: a number, or a tensor of one element.
        values: others, by the names that they get as series: ``accuracy`` becomes ``train/accuracy``, and ``lr``
            ``train/learning_rate``. ``total_steps``, or ``total_epochs`` with ``epoch``, is how far the training is
            to go: `swarmtrain top` then says how long the rest takes. One that ends with a base unit has it:
            ``tokens_per_second``, ``wait_seconds``.
    """
    lines = _lines if _is_open else _opened()
    if lines is None:
        return
    if loss is not None:
        values["loss"] = loss
    for name, value in values.items():
        if getattr(value, "requires_grad", False) and hasattr(value, "detach"):
            values[name] = value.detach()  # or it would keep what it was computed from
    lines.values.update(values)
    lines.step = step
    if time.monotonic() >= lines.due:
        lines.write()


def _opened() -> ReportLines | None:
    """Those of this rank; None outside of a run."""
    global _lines, _is_open
    path = os.environ.get(names.ENV_METRICS)
    _lines, _is_open = ReportLines(Path(path)) if path else None, True
    if _lines is not None:
        atexit.register(_finish)
        os.register_at_fork(after_in_child=_forget)
    return _lines


def _finish() -> None:
    """The script ends: tell the last values."""
    if _lines is not None and _lines.values:
        _lines.write()


def _forget() -> None:
    """In a child of the worker, such as one that loads data, which is no rank."""
    global _lines
    _lines = None
