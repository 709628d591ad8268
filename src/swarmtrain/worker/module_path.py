"""``sys.path``, as the start of another program would have laid it.

Python composes it of the program's own directory, PYTHONPATH, and the interpreter's directories. Our processes were
started as something else (``bundle.zip start``), perhaps long ago and elsewhere, so it is composed anew.
"""

# These strings follow Python's own rules, which pathlib's normal forms would break:
# ruff: noqa: PTH100, PTH109, PTH113, PTH120

from __future__ import annotations

import os
import sys

import swarmtrain
from swarmtrain.worker.request import Program

_SAFE = bool(
    getattr(sys.flags, "safe_path", False)
)  # PYTHONSAFEPATH (3.11): no directory of the program's own


def of_program(program: Program) -> list[str]:
    """``sys.path`` for the user's program, by the working directory and PYTHONPATH as they are now."""
    first = os.getcwd()
    if program.kind == "script":
        first = os.path.dirname(os.path.realpath(program.target))
    entries = _python_path()
    rest = [entry for entry in _INTERPRETER if entry not in entries]
    return [*([] if _SAFE else [first]), *entries, *rest]


def without_launcher() -> list[str]:
    """``sys.path`` of this process less its first entry, the bundle or the directory it was started in."""
    is_zip = os.path.isfile(os.path.dirname(os.path.dirname(swarmtrain.__file__)))
    return sys.path[:] if _SAFE and not is_zip else sys.path[1:]


def _python_path() -> list[str]:
    """PYTHONPATH as Python's ``site`` makes it: absolute, each once; an empty entry is the working directory."""
    value = os.environ.get("PYTHONPATH", "")
    return list(dict.fromkeys(os.path.abspath(entry) for entry in value.split(":"))) if value else []


# Taken at import, before anything changes the working directory, the environment or sys.path.
_INTERPRETER = tuple(entry for entry in without_launcher() if entry not in _python_path())
