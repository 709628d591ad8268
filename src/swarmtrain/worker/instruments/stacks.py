"""The Python stacks of this worker's threads, written to a file whenever its agent asks by a signal.

The handler is C code of the interpreter's: it also answers while the worker waits in a system call or another
thread holds the interpreter. agent/worker_group/stacks.py asks.
"""

from __future__ import annotations

import faulthandler
import os
from typing import BinaryIO

from swarmtrain.wire import names
from swarmtrain.wire.pulse import STACK_SIGNAL

_file: BinaryIO | None = None  # kept open for as long as the process lives


def answer() -> None:
    """From now on, append the stacks to the file that the environment names, if it names one."""
    global _file
    path = os.environ.get(names.ENV_STACK)
    if not path:
        return
    try:
        _file = open(path, "ab", buffering=0)  # noqa: SIM115
        faulthandler.register(STACK_SIGNAL, _file, all_threads=True, chain=False)
    except (OSError, RuntimeError) as error:
        os.write(2, f"swarmtrain: no stacks of this worker: {error}\n".encode(errors="backslashreplace"))
