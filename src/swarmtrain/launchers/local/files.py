"""What the local launcher writes down of a run before its coordinator does: whole, or not there, whenever it is killed.

A run's files are laid out aside and then take their place under its id at once. So a run that is found can be read, and
while no coordinator has begun, the process that submits it says whether one is to come.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from swarmtrain.wire.disk import private, submission

_FRESH_SECONDS = 60.0  # in which a directory without a submitter may be one that has just been made


def lay_out(runs: Path, run: str, files: Mapping[str, bytes]) -> Path:
    """Claim a run's id, with the files of its coordinator's directory, which is returned.

    Args:
        runs: where the directories of all runs are.
        files: by name. All are the owner's alone to read.

    Raises:
        FileExistsError: the id is taken. OSError: the disk says no.
    """
    private.make(runs)
    _sweep(runs)
    aside = runs / f".{run}.{os.getpid()}.{time.monotonic_ns()}"
    place = aside / "coordinator"
    aside.mkdir()
    place.mkdir(mode=0o700)
    try:
        for name, data in {**submission.by_this_process(), **files}.items():
            with open(os.open(place / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
        try:
            aside.rename(runs / run)
        except OSError as error:
            # the word for a directory that is there and not empty differs between file systems
            if (runs / run).exists():
                raise FileExistsError(f"{run} is there already") from error
            raise
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return runs / run / "coordinator"


def _sweep(runs: Path) -> None:
    """Remove what was laid out by processes that were killed before it took its place, or that they were removing."""
    for aside in runs.glob(".*"):
        place = aside / "coordinator"
        try:
            is_stale = time.time() - aside.stat().st_mtime > _FRESH_SECONDS or submission.is_known(place)
        except OSError:
            continue  # it has just taken its place
        if is_stale and not submission.is_under_way(place):
            shutil.rmtree(aside, ignore_errors=True)
