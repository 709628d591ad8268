"""The error file: why a worker's Python code failed, in the words of ``torch.distributed.elastic``.

torch's ``@record`` writes it for functions that carry it; here it is written for every script, without importing
torch, so that the agent reads one format whatever the user's code does.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from pathlib import Path
from types import TracebackType

from swarmtrain.errors import in_short

ENV_ERROR_FILE = "TORCHELASTIC_ERROR_FILE"


def record(error: BaseException, frames: TracebackType | None) -> None:
    """Write the file that the environment names, unless ``@record`` (or an own handler) already has.

    Args:
        error: the exception that nobody caught.
        frames: its traceback, from the user's first frame on.
    """
    _write(summary(error), "".join(traceback.format_exception(type(error), error, frames)))


def record_words(words: object) -> None:
    """The same for ``sys.exit("words")``: what the script says of its end, which has no traceback."""
    try:
        said = str(words).strip()
    except Exception:
        return  # the interpreter cannot print it either
    _write(said or "exited with code 1", "")


def _write(message: str, stack: str) -> None:
    name = os.environ.get(ENV_ERROR_FILE)
    if not name or _written(Path(name)):
        return
    document = {
        "message": {
            "message": message,
            # With the fraction of a second that torch cuts off: of two ranks the one that failed first is the cause.
            "extraInfo": {"py_callstack": stack, "timestamp": f"{time.time():.6f}"},
        }
    }
    aside = Path(f"{name}.{os.getpid()}")
    try:
        aside.write_text(json.dumps(document))
        aside.replace(name)
    except OSError as problem:
        # The traceback is in the output all the same, and the user's error must not be hidden by ours.
        os.write(2, f"swarmtrain: cannot write {name}: {problem}\n".encode(errors="backslashreplace"))


def summary(error: BaseException) -> str:
    """``ValueError: what it says``, also for an exception that cannot say it; a hint is in the traceback."""
    try:
        return f"{type(error).__name__}: {in_short(error)}"
    except Exception:
        return f"{type(error).__name__}: <its __str__ failed>"


def _written(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False
