"""What this rank lets its agent feel of it: the pulse of ``wire.pulse``, kept up by the trainer.

Without an agent there is nobody to feel it, and all of this does nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from swarmtrain.wire.pulse import Activity, Pulse, Source, opened

_ACTIVITIES = {
    "resume": Activity.RESUME,
    "compile": Activity.COMPILE,
    "evaluation": Activity.EVALUATION,
    "snapshot": Activity.SNAPSHOT,
}


class PulseWriter:
    """A rank's signs of life; called on the thread that trains."""

    def __init__(self, pulse: Pulse | None = None, source: Source = Source.CAN_PAUSE) -> None:
        self._pulse = pulse
        self._free_since = time.monotonic_ns()  # when this rank began to work on its own
        self._profiles: Callable[[int], bool] | None = None  # what is told of each step while it is profiled
        if pulse is not None:
            pulse.source = source

    @classmethod
    def of_this_worker(cls, source: Source = Source.CAN_PAUSE) -> PulseWriter:
        return cls(opened(), source)

    @property
    def felt(self) -> bool:
        """Whether there is an agent that may ask for a pause."""
        return self._pulse is not None

    @property
    def asked_to_pause(self) -> bool:
        return self._pulse is not None and self._pulse.pause != 0

    def resumed(self, step: int) -> None:
        """The training goes on from ``step``."""
        if self._pulse is not None:
            self._pulse.resumed = self._pulse.step = step

    def passed(self) -> None:
        """A point that all ranks pass in the same order, as often as each other."""
        if self._pulse is not None:
            self._pulse.passed()

    def met(self) -> None:
        """The rank's own work of this step ends here: what follows may wait for other ranks."""
        if self._pulse is not None:
            self._pulse.busy_ns += time.monotonic_ns() - self._free_since

    def stepped(self, step: int) -> None:
        """An optimizer step is done."""
        if self._pulse is not None:
            self._pulse.stepped(step)
            self._pulse.activity = Activity.NONE
            if self._pulse.profile or self._profiles is not None:
                self._profile(self._pulse, step)
        self.work()

    def _profile(self, pulse: Pulse, step: int) -> None:
        """A step is done that somebody may want recorded."""
        if self._profiles is None:
            # Imported here: torch's profiler is for those alone who are asked for it.
            from swarmtrain.trainer.reports.profiling import serving

            self._profiles = serving(pulse)
        if self._profiles is not None and not self._profiles(step):
            self._profiles = None

    def work(self) -> None:
        """From here on the rank works on its own."""
        self._free_since = time.monotonic_ns()

    @contextmanager
    def doing(self, name: str) -> Iterator[None]:
        """Inside, no steps are made, and this is why: "resume", "compile", "evaluation" or "snapshot"."""
        if self._pulse is None:
            yield
            return
        before = self._pulse.activity
        self._pulse.activity = _ACTIVITIES[name]
        try:
            yield
        finally:
            self._pulse.activity = before
            self.work()

    def begins_with(self, name: str) -> None:
        """Say what the worker does until its first step."""
        if self._pulse is not None:
            self._pulse.activity = _ACTIVITIES[name]

    def trains(self) -> None:
        """Steps are to come; before the first of this process it starts, however long that takes."""
        if self._pulse is not None and self._pulse.activity == Activity.AFTER_FIT:
            self._pulse.activity = Activity.NONE
        self.work()

    def trained(self) -> None:
        """The training has come to its goal: what the script does from here on is its own."""
        if self._pulse is not None:
            self._pulse.activity = Activity.AFTER_FIT

    def paused(self) -> None:
        """Everything is saved; the worker leaves now."""
        if self._pulse is not None:
            self._pulse.paused = 1
