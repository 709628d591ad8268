"""Where a worker is, read from a dump of its stacks (``faulthandler``'s format, Python 3.10 to 3.14)."""

from __future__ import annotations

import re

from swarmtrain.diagnosis.frames import SourceLine, frames
from swarmtrain.protocol.schema import Struct

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


class MainThread(Struct):
    """Where the main thread of a worker is.

    Attributes:
        user: the innermost frame of the user's own code; None once the script has ended.
        waits: what it waits in, if that is a meeting with other ranks.
        loads: it waits for, or is in, its data loader.
    """

    user: SourceLine | None
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
    lines = frames(dump)
    if not lines:
        return None
    user = next((index for index, line in enumerate(lines) if line.is_users), None)
    own = None if user is None else lines[user]
    above = lines if user is None else lines[: user + 1]
    # The data set's own __getitem__ is the user's code, too, and is called by the loader.
    loads = any(_LOADER in line.file for line in lines)
    return MainThread(own, None if above[0] is own else _waits(above[0]), loads)


def _waits(line: SourceLine) -> str | None:
    for pattern, name in _WAITS:
        if pattern.search(f"{line.file}:{line.function}"):
            return name or line.function
    return None
