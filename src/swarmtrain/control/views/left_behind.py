"""A run that fails for a file which lies here and did not travel: only the client can see that, and it says so."""

from __future__ import annotations

import dataclasses
import os.path
import re
from pathlib import Path
from typing import TYPE_CHECKING

from swarmtrain.protocol.status import Status

if TYPE_CHECKING:
    from swarmtrain.launchers.base import Run
    from swarmtrain.protocol.facts import Failure

_MISSING = re.compile(r"""^FileNotFoundError: .*?['"](?P<path>[^'"\n]+)['"]""", re.DOTALL)


def explained(status: Status, run: Run) -> Status:
    """The same status, where its cause is such a file with a hint that says what to do."""
    cause, origin = status.cause, run.origin
    if cause is None or cause.hint or origin is None or not origin.is_here:
        return status
    directories = status.directories.get(cause.node)
    path = _found(cause, Path(origin.directory), directories.work if directories is not None else "")
    if path is None:
        return status
    return dataclasses.replace(
        status, cause=dataclasses.replace(cause, hint=_hint(path, Path(origin.directory), run.on))
    )


def _found(cause: Failure, directory: Path, work: str) -> Path | None:
    """The file here that a script has looked for there: by its path in, or beside, the job's directory."""
    match = _MISSING.match(cause.summary)
    if match is None:
        return None
    path = Path(match["path"])
    below = os.path.relpath(path, work) if path.is_absolute() and work else path
    for candidate in (directory / below, path):
        normal = Path(os.path.normpath(candidate))
        if normal.is_absolute() and normal.exists():
            return normal
    return None


def _hint(path: Path, directory: Path, on: str) -> str:
    way = (
        "give the script its absolute path"
        if on == "local"
        else "put it on every node and mount it (volumes:)"
    )
    if path.is_relative_to(directory):
        return (
            f"{path} is here, but it was not sent: `swarmtrain run --dry-run` says why. "
            f"Name it under files:, or {way}"
        )
    return (
        f"{path} is here, but it lies outside of {directory}, and only what is in it is sent. "
        f"Link to it from there and name the link under files:, or {way}"
    )
