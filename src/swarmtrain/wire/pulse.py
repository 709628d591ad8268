"""The pulse of a worker: a few numbers in shared memory, by which the agent sees that training goes on.

A worker maps a file that its agent has laid out and writes its progress there: one store a number, no system call,
so it may be done at every step. The agent reads it whenever it likes, also when the worker is frozen or dead. Two
numbers go the other way: the agent asks the worker to pause, and for a profile of its steps.

Progress is the proof of life: in data-parallel training no rank makes a step without all others.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from enum import IntEnum
from pathlib import Path

from swarmtrain.wire import names
from swarmtrain.wire.disk import private

_VERSION = 4

# A realtime signal, to which a worker answers with its Python stacks, in the file of SWARMTRAIN_STACK.
STACK_SIGNAL = 44


class Source(IntEnum):
    """Who keeps a worker's pulse."""

    NOBODY = 0  # a script of which nothing is known
    WATCHED = 1  # its DistributedDataParallel is watched from outside
    CAN_PAUSE = 2  # a script that saves and resumes with us: it pauses when it is asked to
    TRAINER = 3  # the Trainer, which also says what it does while it makes no steps


class Activity(IntEnum):
    """What a worker does while it makes no steps, as far as it says so."""

    NONE = 0
    START = 1
    RESUME = 2
    COMPILE = 3
    EVALUATION = 4
    SNAPSHOT = 5
    AFTER_FIT = 6  # the training has come to its goal: what the script does now, nobody says
    ENDING = 7  # the script's last line of code is done, and it succeeds: see `Pulse.ended`


class Pulse(ctypes.Structure):
    """One worker's pulse, mapped from its file by :meth:`create` or :meth:`map`.

    Attributes (int64 each, aligned, written by one side only, so that a reader never sees half of one):
        step: optimizer steps made; of the whole training where the worker knows it, else of this process.
        mark: grows by one at every point of a step that all ranks pass in the same order, such as the start of a
            forward pass. Of ranks that stand still together, the one with the smallest is the one they wait for.
        activity: an `Activity`.
        source: a `Source`.
        paused: 1 once the worker has left after saving everything, because it was asked to pause.
        busy_ns: nanoseconds of this rank's own work, in all: from the end of a step to where it meets the others.
        stepped_ns: CLOCK_MONOTONIC of the last step's end; 0 before the first.
        first_ns: CLOCK_MONOTONIC of the first step in this process; 0 before it.
        resumed: the step that this worker went on from; 0 for a fresh start.
        epoch: the one that the script has told a sampler of before its first step in this process, plus 1; 0: none.
        counted: the steps of the whole training by the optimizer's own count, when it had made the first one in this
            process; 0 where it keeps none.
        ended: 1 once the script has left its last line of code with exit status 0. What is left is the interpreter's
            own ending: threads, atexit handlers, finalizers. Never taken back, whatever `activity` says.
        pause: set by the agent: save and leave as soon as all ranks can.
        profile: set by the agent: the number of the profile that it waits for; 0: of none.
    """

    version: int
    step: int
    mark: int
    activity: int
    source: int
    paused: int
    busy_ns: int
    stepped_ns: int
    first_ns: int
    resumed: int
    epoch: int
    counted: int
    ended: int
    pause: int
    profile: int

    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            *("version", "step", "mark", "activity", "source", "paused"),
            *("busy_ns", "stepped_ns", "first_ns", "resumed", "epoch"),
            *("counted", "ended", "pause", "profile"),
        )
    ]

    @classmethod
    def create(cls, path: Path) -> Pulse:
        """Lay out ``path``, a new file, and map it. Raises OSError."""
        descriptor = private.create(path)
        try:
            # not a hole, which a full disk could not fill later
            os.write(descriptor, bytes(ctypes.sizeof(cls)))
        finally:
            os.close(descriptor)
        pulse = cls._mapped(path)
        pulse.version, pulse.activity = _VERSION, Activity.START
        return pulse

    @classmethod
    def map(cls, path: Path) -> Pulse:
        """Map what is there.

        Raises:
            OSError: there is no such file of this user. ValueError: it is not a pulse.
        """
        pulse = cls._mapped(path)
        if pulse.version != _VERSION:
            raise ValueError(f"{path} is not a pulse of version {_VERSION}")
        return pulse

    @classmethod
    def _mapped(cls, path: Path) -> Pulse:
        descriptor = private.open_own(path)
        try:
            return cls.from_buffer(mmap.mmap(descriptor, ctypes.sizeof(cls)))
        finally:
            os.close(descriptor)

    def stepped(self, step: int) -> None:
        """A step is done."""
        self.step = step
        self.stepped_ns = now = time.monotonic_ns()
        if not self.first_ns:
            self.first_ns = now

    def passed(self) -> None:
        """The worker has come to the next mark."""
        self.mark += 1

    def doing(self) -> int:
        """What the worker does while it makes no steps; an unknown number where it is none of ours."""
        return Activity.ENDING if self.ended else self.activity


def opened() -> Pulse | None:
    """This worker's pulse, as its environment names it; None outside of a run."""
    path = os.environ.get(names.ENV_PULSE)
    if not path:
        return None
    try:
        return Pulse.map(Path(path))
    except (OSError, ValueError):
        return None  # a script that outlived its run: nobody feels its pulse any more
