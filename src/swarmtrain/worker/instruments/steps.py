"""The steps of a script that knows nothing of us, as the watched parts of torch tell them: see watch.py.

Kept in the worker's pulse and in its file of metrics. No torch here: what happens comes in as calls, on the script's
own thread, several a step, so they are short; and whoever calls them hands what they raise to ``give_up``.
"""

from __future__ import annotations

import json
import os
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from swarmtrain.wire import names
from swarmtrain.wire.metrics import line_interval
from swarmtrain.wire.pulse import Activity, Pulse, Source, opened

# steps of other optimizers, or forward passes, after which the counted optimizer counts no more
_SILENCE = 32

_LABEL = {"source": "ddp"}  # tells these lines from the Trainer's
_PHASES = ("data", "forward", "backward", "optimizer")
_BETWEEN = {  # two events, and what lies between them; between all others lies the backward pass
    ("steps", "enters"): "data",
    ("enters", "leaves"): "forward",
    ("updates", "steps"): "optimizer",
}
_PLACE = (("RANK", "0"), ("WORLD_SIZE", "1"))


class Steps:
    """Counts steps, and times them, from forward passes and optimizer steps.

    A step is a step of the first optimizer that steps after a forward pass: the two optimizers of a GAN make one step
    together. Where none ever does, because the loop is by hand or compiled, a forward pass that is followed by a
    synchronised backward pass counts.

    All times are nanoseconds on a clock that stands still during evaluation and compilation.
    """

    def __init__(
        self, pulse: Pulse | None, metrics: Path | None, now: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.on = True
        self.steps = 0
        self.first: weakref.ref[object] | None = None  # the module of the first forward pass in training
        self._pulse = pulse
        self._path = metrics
        self._file: BinaryIO | None = None
        self._now = now
        # The clock.
        self._phase = Activity.NONE  # why it stands still, if it does
        self._before = Activity.NONE  # what the pulse said when it was stopped
        self._stopped = 0
        self._left_out = 0
        # Where the script is.
        self._inside: object = None  # the outermost module whose forward pass runs
        self._in_step = False  # that pass ends in a synchronised backward pass
        self._entered = 0
        # Own work: from the end of a step to the end of the forward pass, less what is waited at its start.
        self._work_since: int | None = None
        self._waited = 0
        self._busy = 0
        self._times_work = False
        # Where the time of a step goes, on the CPU: by what has happened last, and since when.
        self._phases = dict.fromkeys(_PHASES, 0)
        self._last_event, self._since = "", 0
        # Whose steps are counted.
        self._optimizer: weakref.ref[object] | None = None
        self._silence = 0
        self._before_these = 0  # steps of the whole training, by the optimizer's own count
        # Since the last line.
        self._last_step = 0
        self._profiles: Callable[[int], bool] | None = None  # what is told of each step while it is profiled
        self._unreported = (0, 0)  # steps, and the nanoseconds that they took
        self._line_due = self._started = now()

    def enters(self, module: object, step: bool, evaluation: bool, device: str) -> None:
        """A forward pass begins.

        Args:
            module: what runs; passes of others within it are part of it.
            step: all ranks make this pass, and meet in its backward pass.
            evaluation: the module is in evaluation mode, and no gradient is asked for.
            device: where it runs.
        """
        if self._inside is not None and self._inside is not module:
            return
        if self._can_pause():
            return
        self._inside, self._in_step = module, step  # also anew, when its last pass has ended in an exception
        if evaluation:
            self._evaluates(module)
            return
        if self._phase:
            self._resume(Activity.EVALUATION)
        if self.first is None:
            self._begin(module, device)
        self._entered = self._now() - self._left_out
        self._comes("enters", self._entered)
        if step:
            if self._optimizer is None:
                self._pass_in_place_of_a_step(module)
            if self._work_since is None:
                self._work_since, self._waited = self._entered, 0
            if self._pulse is not None:
                self._pulse.passed()

    def computes(self, module: object) -> None:
        """The forward pass has met the others, as far as it does, and computes."""
        if module is self._inside:
            self._waited += self._clock() - self._entered

    def leaves(self, module: object) -> None:
        """The forward pass has come to its end."""
        if module is not self._inside:
            return
        self._inside = None
        self._comes("leaves", self._clock())
        if self._in_step:
            self._in_step = False
            if self._pulse is not None:
                if self._work_since is not None and self._times_work:
                    self._busy += self._clock() - self._work_since - self._waited
                    self._pulse.busy_ns = self._busy
                self._pulse.passed()
            self._work_since = None

    def steps_begin(self) -> None:
        """An optimizer is about to make a step."""
        if self._last_event == "leaves":
            self._comes("updates", self._clock())

    def steps_made(self, optimizer: object) -> None:
        """An optimizer has made a step."""
        self._inside = None
        if self._optimizer is None or optimizer is not self._optimizer():
            self._silence += 1
            if self._optimizer is not None and self._silence <= _SILENCE:
                return
            self._optimizer = weakref.ref(optimizer)
        self._silence = 0
        if self._phase:
            self._resume(Activity.EVALUATION)
        self._step()
        self._work_since, self._waited = self._last_step, 0

    def begins_epoch(self, epoch: int) -> None:
        """The script tells a sampler which epoch it begins. That of its first step counts: a test may have its own."""
        if self._pulse is not None and not self.steps and isinstance(epoch, int):
            self._pulse.epoch = epoch + 1

    def counts(self, steps: int) -> None:
        """An optimizer is about to tell of the first step here: by its own count, how many the whole training has."""
        self._before_these = max(0, steps - 1)
        if self._pulse is not None:
            self._pulse.counted = steps

    def switches(self, module: object, training: bool) -> None:
        """A module is put in training mode, or in evaluation mode."""
        if self.steps == 0 or self.first is None or module is not self.first() or self._can_pause():
            return
        if training:
            self._resume(Activity.EVALUATION)
        else:
            self._pause(Activity.EVALUATION)

    def compiles(self, begins: bool) -> None:
        """The compiler begins or ends."""
        if self._can_pause():
            return
        if begins:
            self._pause(Activity.COMPILE)
        else:
            self._resume(Activity.COMPILE)

    def finish(self) -> None:
        """The script has ended: tell the last steps."""
        if self._unreported[0] and not self._can_pause():
            self._write_step()
        if self._file is not None:
            self._file.close()
            self._file = None

    def give_up(self, error: Exception) -> None:
        """Watch no longer, and say why."""
        self.on = False
        complain(f"steps are no longer counted: {type(error).__name__}: {error}")

    def stop(self) -> None:
        """In a child of the worker: it shares the pulse and the file, and must not write to them."""
        self.on = False

    def _evaluates(self, module: object) -> None:
        if self.first is None or module is self.first():
            self._pause(Activity.EVALUATION)
        self._entered = self._clock()

    def _begin(self, module: object, device: str) -> None:
        self.first = weakref.ref(module)
        self._last_step = self._now() - self._left_out
        # On an accelerator this thread runs ahead, and where it then waits, it also waits for the others.
        self._times_work = device == "cpu"
        if self._pulse is not None:
            self._pulse.source = Source.WATCHED
        if self._path is not None:
            # Unbuffered and appended: a line is there, whole, as soon as it is written.
            self._file = self._path.open("ab", buffering=0)
            rank, world = (int(os.environ.get(name, default)) for name, default in _PLACE)
            self._write("start", rank=rank, world=world, device=device)

    def _can_pause(self) -> bool:
        """Whether the script keeps its pulse itself: then it is not watched any more."""
        if self._pulse is not None and self._pulse.source >= Source.CAN_PAUSE:
            self.on = False
        return not self.on

    def _pass_in_place_of_a_step(self, module: object) -> None:
        """Count the pass before this one, once it seems that no optimizer is there to count by."""
        if self.first is None or module is not self.first():
            return
        self._silence += 1
        if self._silence > _SILENCE:
            self.steps = self._silence - 2  # also those that were not counted when they were made
            self._step()
            self._work_since = None

    def _step(self) -> None:
        self.steps += 1
        now = self._clock()
        if self._pulse is not None:
            self._pulse.stepped(self.steps)
            if self.steps == 1 or self._silence == _SILENCE + 1:
                self._pulse.activity = Activity.NONE
            if self._pulse.profile or self._profiles is not None:
                self._profile(self._pulse)
        steps, taken = self._unreported
        self._unreported = (steps + 1, taken + now - self._last_step)
        self._comes("steps", now)
        self._last_step = now
        if now >= self._line_due:
            self._line_due = now + round(1e9 * line_interval((now - self._started) / 1e9))
            self._write_step()

    def _profile(self, pulse: Pulse) -> None:
        """A step is made that somebody may want recorded."""
        if self._profiles is None:
            # Imported here: it needs torch, and most scripts are never asked.
            from swarmtrain.trainer.reports.profiling import serving

            self._profiles = serving(pulse)
        if self._profiles is not None and not self._profiles(self.steps):
            self._profiles = None

    def _write_step(self) -> None:
        steps, taken = self._unreported
        self._unreported = (0, 0)
        told = {f"{name}_s": round(each / steps / 1e9, 6) for name, each in self._shares(steps).items()}
        if self._before_these:
            told["whole_step"] = self.steps + self._before_these
        step_s = round(taken / steps / 1e9, 6)
        self._write("step", t=round(time.time(), 3), step=self.steps, steps=steps, step_s=step_s, **told)

    def _comes(self, event: str, now: int) -> None:
        """Something happens: the time since the last event went into what lies between the two."""
        if self._times_work and self._last_event:
            self._phases[_BETWEEN.get((self._last_event, event), "backward")] += now - self._since
        self._last_event, self._since = event, now

    def _shares(self, steps: int) -> dict[str, float]:
        """Nanoseconds of each phase since the last line, where they are known."""
        phases: dict[str, float] = dict(self._phases)
        self._phases = dict.fromkeys(_PHASES, 0)
        if not self._times_work:
            return {}
        if (waited := self._exposed()) is not None:
            phases["communication"] = min(waited * steps, phases["backward"])
            phases["backward"] -= phases["communication"]
        return phases

    def _exposed(self) -> float | None:
        """Nanoseconds in which a step's gradients travel and nothing is computed, as DDP itself has sampled it last."""
        log = getattr(self.first() if self.first is not None else None, "_get_ddp_logging_data", None)
        told = log() if callable(log) else {}
        travel, beside = told.get("backward_comm_time"), told.get("backward_compute_comm_overlap_time")
        return max(0, travel - beside) if travel and beside is not None else None

    def _write(self, kind: str, **fields: object) -> None:
        if self._file is not None:
            line = json.dumps({"kind": kind, **fields, **_LABEL}, separators=(",", ":"))
            with suppress(OSError):  # a disk that is full costs the line; the pulse goes on
                self._file.write(line.encode() + b"\n")

    def _clock(self) -> int:
        return (self._stopped if self._phase else self._now()) - self._left_out

    def _pause(self, phase: Activity) -> None:
        """Stop the clock, unless another phase has."""
        if self._phase:
            return
        self._phase, self._stopped = phase, self._now()
        if self._pulse is not None:
            self._before = Activity(self._pulse.activity)
            self._pulse.activity = phase

    def _resume(self, phase: Activity) -> None:
        """Let the clock go on, if it was this phase that has stopped it."""
        if self._phase != phase:
            return
        self._left_out += self._now() - self._stopped
        self._phase = Activity.NONE
        if self._pulse is not None:
            self._pulse.activity = self._before


def of_this_worker() -> Steps | None:
    """What this worker's environment asks for; None where nobody would read it."""
    pulse, metrics = opened(), os.environ.get(names.ENV_METRICS)
    return Steps(pulse, Path(metrics) if metrics else None) if pulse is not None or metrics else None


def complain(line: str) -> None:
    """A line in the worker's output, where the user looks."""
    with suppress(OSError):
        os.write(2, f"swarmtrain: {line}\n".encode(errors="backslashreplace"))
