"""Where a worker is, read from a dump of its stacks (``faulthandler``'s format, Python 3.10 to 3.14)."""

from __future__ import annotations

import re

from swarmtrain.protocol.schema import Struct

_THREAD = re.compile(r"^(?:Current thread|Thread) 0x[0-9a-f]+ .*\(most recent call first\):$")
_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.*)$')

# Code that the user has not written: torch and other packages, the standard library, and what started the worker.
_NOT_THE_USERS = re.compile(
    r"^<frozen |/(?:site|dist)-packages/|/lib/python3\.\d+t?/|/swarmtrain/(?:worker|trainer|wire|inside\.py)"
)
# Innermost frames of a thread that waits for other ranks, or for a device that does (torch 2.4 to 2.13), and what to
# call them; by default a function's own name. C code, where all of them really are, has no frames.
_WAITS = (
    (
        re.compile(r"/torch/autograd/(?:graph|__init__)\.py:(?:_engine_run_backward|backward|grad)$"),
        "backward",
    ),
    (re.compile(r"/torch/nn/parallel/distributed\.py:"), "the forward pass of DistributedDataParallel"),
    (re.compile(r"/torch/distributed/(?!optim/|tensor/|checkpoint/)"), None),
    (re.compile(r"/torch/cuda/\w+\.py:(?:synchronize|wait)$"), None),
)
_LOADER = "/torch/utils/data/"


class Frame(Struct):
    """One line of a stack."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file.rpartition('/')[2]}:{self.line} in {self.function}"


class MainThread(Struct):
    """Where the main thread of a worker is.

    Attributes:
        user: the innermost frame of the user's own code; None once the script has ended.
        waits: what it waits in, if that is a meeting with other ranks.
        loads: it waits for, or is in, its data loader.
    """

    user: Frame | None
    waits: str | None
    loads: bool = False

    def of(self, several: bool) -> str:
        """``waits in barrier (train.py:68 in train)``, or the same of several."""
        if self.waits:
            return f"{'wait' if several else 'waits'} in {self.waits}" + (
                f" ({self.user})" if self.user else ""
            )
        be = "are" if several else "is"
        if self.user is None:
            return f"{be} at the end of the script"
        return f"{be} in the data loader ({self.user})" if self.loads else f"{be} at {self.user}"


def place(dump: str) -> MainThread | None:
    """The place that a dump of all threads tells, of which the main thread is the last; None for no dump."""
    frames = _main_thread(dump)
    if not frames:
        return None
    user = next((index for index, frame in enumerate(frames) if _is_users(frame)), None)
    own = None if user is None else frames[user]
    above = frames if user is None else frames[: user + 1]
    # The data set's own __getitem__ is the user's code, too, and is called by the loader.
    loads = any(_LOADER in frame.file for frame in frames)
    return MainThread(own, None if above[0] is own else _waits(above[0]), loads)


def _main_thread(dump: str) -> list[Frame]:
    """Innermost frame first."""
    frames: list[Frame] = []
    for line in dump.splitlines():
        if _THREAD.match(line):
            frames = []
        elif match := _FRAME.match(line):
            frames.append(Frame(match["file"], int(match["line"]), match["function"]))
    return frames


def _is_users(frame: Frame) -> bool:
    return not _NOT_THE_USERS.search(frame.file)


def _waits(frame: Frame) -> str | None:
    for pattern, name in _WAITS:
        if pattern.search(f"{frame.file}:{frame.function}"):
            return name or frame.function
    return None
