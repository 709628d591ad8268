"""The pulse of a worker: a few numbers in shared memory, by which the agent sees that training goes on.

A worker maps a file that its agent has laid out and writes its progress there: one store a number, no system call,
so it may be done at every step. The agent reads it whenever it likes, also when the worker is frozen or dead. One
number goes the other way: the agent asks the worker to pause.

Progress is the proof of life: in data-parallel training no rank makes a step without all others.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from enum import IntEnum
from pathlib import Path

_VERSION = 1

STACK_SIGNAL = (
    44  # a realtime signal: a worker answers with its Python stacks, in the file of SWARMTRAIN_STACK
)


class Source(IntEnum):
    """Who keeps a worker's pulse."""

    NOBODY = 0  # a script of which nothing is known
    WATCHED = 1  # its DistributedDataParallel is watched from outside
    COOPERATIVE = 2  # the Trainer, or a script that saves and resumes with us: it pauses when it is asked to


class Activity(IntEnum):
    """What a worker does while it makes no steps, as far as it says so."""

    NONE = 0
    START = 1
    RESUME = 2
    COMPILE = 3
    EVALUATION = 4
    SNAPSHOT = 5


class _Layout(ctypes.Structure):
    _fields_ = [
        ("version", ctypes.c_int64),
        ("step", ctypes.c_int64),
        ("mark", ctypes.c_int64),
        ("activity", ctypes.c_int64),
        ("source", ctypes.c_int64),
        ("paused", ctypes.c_int64),
        ("busy_ns", ctypes.c_int64),
        ("stepped_ns", ctypes.c_int64),
        ("first_ns", ctypes.c_int64),
        ("resumed", ctypes.c_int64),
        ("pause", ctypes.c_int64),
    ]


class Pulse:
    """One worker's pulse, mapped from its file.

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
        pause: set by the agent: save and leave as soon as all ranks can.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Map ``path``; with ``create`` lay it out first.

        Raises:
            OSError: there is no such file. ValueError: it is not a pulse.
        """
        size = ctypes.sizeof(_Layout)
        descriptor = os.open(path, os.O_RDWR | (os.O_CREAT | os.O_TRUNC if create else 0), 0o600)
        try:
            if create:
                os.write(
                    descriptor, bytes(size)
                )  # not a hole, which a full disk could not fill when it is touched
            memory = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        self._layout = _Layout.from_buffer(memory)
        if create:
            self._layout.version = _VERSION
            self._layout.activity = Activity.START
        elif self._layout.version != _VERSION:
            raise ValueError(f"{path} is not a pulse of version {_VERSION}")

    def __getattr__(self, name: str) -> int:
        if name.startswith("_"):
            raise AttributeError(name)
        return int(getattr(self._layout, name))

    def __setattr__(self, name: str, value: object) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            setattr(self._layout, name, value)

    def stepped(self, step: int) -> None:
        """A step is done."""
        self._layout.step = step
        self._layout.stepped_ns = now = time.monotonic_ns()
        if not self._layout.first_ns:
            self._layout.first_ns = now

    def passed(self) -> None:
        """The worker has come to the next mark."""
        self._layout.mark += 1


def opened() -> Pulse | None:
    """This worker's pulse, as its environment names it; None outside of a run."""
    from swarmtrain.wire import names

    path = os.environ.get(names.ENV_PULSE)
    if not path:
        return None
    try:
        return Pulse(Path(path))
    except (OSError, ValueError):
        return None  # a script that outlived its run: nobody feels its pulse any more
