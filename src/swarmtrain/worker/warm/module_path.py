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
from swarmtrain.protocol.spawner import Program

# PYTHONSAFEPATH (3.11): no directory of the program's own
_SAFE = bool(getattr(sys.flags, "safe_path", False))


def drop_launcher() -> None:
    """Take the entry of our own start off ``sys.path``: the bundle, or the directory we were started in.

    To be called once, early: no library should be looked for there.
    """
    is_zip = os.path.isfile(os.path.dirname(os.path.dirname(swarmtrain.__file__)))
    if is_zip or not _SAFE:
        del sys.path[0]


def of_program(program: Program) -> list[str]:
    """``sys.path`` for the user's program, by the working directory and PYTHONPATH as they are now.

    What libraries have added to ``sys.path`` in a warm parent stays.
    """
    first = os.getcwd()
    if program.kind == "script":
        first = os.path.dirname(os.path.realpath(program.target))
    entries = _python_path()
    rest = [entry for entry in sys.path if entry not in entries and entry not in _STARTED_WITH]
    return [*([] if _SAFE else [first]), *entries, *rest]


def _python_path() -> list[str]:
    """PYTHONPATH as Python's ``site`` makes it: absolute, each once; an empty entry is the working directory."""
    value = os.environ.get("PYTHONPATH", "")
    return list(dict.fromkeys(os.path.abspath(entry) for entry in value.split(":"))) if value else []


# Taken at import, before anything changes the working directory or the environment.
_STARTED_WITH = tuple(_python_path())
