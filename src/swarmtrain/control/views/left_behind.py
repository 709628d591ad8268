"""A run that fails for a file which lies here and did not travel: only the client can see that, and it says so."""

from __future__ import annotations

import dataclasses
import os.path
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from swarmtrain.protocol.status import Status

if TYPE_CHECKING:
    from swarmtrain.launchers.base import Run
    from swarmtrain.protocol.facts import Failure

# The words of Python and of libraries: tests/unit/fixtures/missing_files.tsv has what was seen. The last two are those
# of Hugging Face: a directory that is not there is taken for the name of a download, or for an empty one.
_MISSING = re.compile(
    r"FileNotFoundError|NotADirectoryError|no such file|not found|does(?:n't| not) exist|not a local folder|"
    r"(?:unable|failed) to (?:\w+ )?(?:open|find)|(?:could|can)(?:n't| ?not) (?:be )?(?:open|find|found|read)|"
    r"error opening|repo id must be in the form|doesn't contain any data files",
    re.IGNORECASE,
)
# The last line of a traceback, also of one that is quoted.
_RAISED = re.compile(r"[\w.]*(?:Error|Exception|Exit)\b.*")
_QUOTED = re.compile(r"""'([^'\n]+)'|"([^"\n]+)"|`([^`\n]+)`""")
# A word with a slash, or a suffix.
_BARE = re.compile(r"[^\s'\"`,;:()<>=]*[/.][^\s'\"`,;:()<>=]*[^\s'\"`,;:()<>=.]")


def explained(status: Status, run: Run) -> Status:
    """The same status, where its cause is such a file with a hint that says what to do."""
    cause, origin = status.cause, run.origin
    if cause is None or cause.hint or origin is None or not origin.is_here:
        return status
    directories = status.directories.get(cause.node)
    work = directories.work if directories is not None else ""
    for named in _named(cause):
        if path := _here(named, Path(origin.directory), work):
            hint = _hint(path, named, Path(origin.directory), run.on)
            return dataclasses.replace(status, cause=dataclasses.replace(cause, hint=hint))
    return status


def _named(cause: Failure) -> Iterator[str]:
    """What may be the path of a file that a script did not find, as it, or a library, words it."""
    # A process that loads data fails in one that trains, and what it lacked is in the traceback alone.
    for line in [cause.summary, *reversed(cause.traceback.splitlines())]:
        if _MISSING.search(line) and (line == cause.summary or _RAISED.match(line)):
            yield from (next(filter(None, match.groups())) for match in _QUOTED.finditer(line))
            yield from (match[0] for match in _BARE.finditer(line))


def _here(named: str, directory: Path, work: str) -> Path | None:
    """The file here that a script has looked for there: by its path in, or beside, the job's directory."""
    path = Path(named)
    below = os.path.relpath(path, work) if path.is_absolute() and work else path
    try:
        for candidate in (directory / below, path):
            normal = Path(os.path.normpath(candidate))
            if normal.is_absolute() and normal.exists() and not directory.is_relative_to(normal):
                return normal
    except (OSError, ValueError):
        pass  # it is no path
    return None


def _hint(path: Path, named: str, directory: Path, on: str) -> str:
    way = (
        "give the script its absolute path"
        if on == "local"
        else "put it on every node and mount it (volumes:)"
    )
    if named.startswith(f"{directory}/"):
        return (
            f"{path} is a path of this machine. What is sent of {directory} lies in the working directory on a node: "
            f"name it by {path.relative_to(directory)}. If it is not sent, `swarmtrain run --dry-run` says why"
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
