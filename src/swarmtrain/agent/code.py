"""Unpacks the user's code into the workers' working directory, without touching what an earlier run wrote there.

With ``--resume`` the directory is one that a run has already worked in. A file that the run itself has changed since
it was unpacked (a ``snapshot.pt`` that also lay in the project, say) belongs to the run and is kept; a file that is
as it was unpacked is replaced by the new version.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

from swarmtrain.errors import ClusterError
from swarmtrain.wire.disk.storage import write_whole

_RECORD = ".swarmtrain-code.json"


def unpack(parts: Sequence[Path], work: Path) -> list[str]:
    """Unpack the zip that ``parts`` make when joined; return the names of files that were kept for the run's sake.

    Raises:
        ClusterError: the parts are not there, are no zip, or the directory cannot be written.
    """
    try:
        work.mkdir(parents=True, exist_ok=True)
        if not parts:
            return []
        archive = zipfile.ZipFile(io.BytesIO(b"".join(part.read_bytes() for part in parts)))
        return _unpack(archive, work)
    except PermissionError as error:
        raise ClusterError(
            f"{error.filename or work} cannot be written by this image's user",
            "the storage volume belongs to root: use an image that runs as root",
        ) from error
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise ClusterError(f"the code could not be unpacked into {work}: {error}") from error


def _unpack(archive: zipfile.ZipFile, work: Path) -> list[str]:
    record = work / _RECORD
    try:
        before: dict[str, str] = json.loads(record.read_text())
    except (OSError, ValueError):
        before = {}  # nothing was unpacked yet, or the disk lost it: then all that is there is kept
    after: dict[str, str] = {}
    kept: list[str] = []
    for info in archive.infolist():
        target = work / info.filename
        if not target.resolve().is_relative_to(work.resolve()):
            raise ValueError(f"{info.filename} leads outside of the working directory")
        try:
            (target if info.is_dir() else target.parent).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):  # a file of the run's
            kept.append(info.filename)
            continue
        if info.is_dir():
            continue
        data = archive.read(info)
        after[info.filename] = _digest(data)
        ours = (before.get(info.filename), after[info.filename])
        if os.path.lexists(target) and not (target.is_file() and _digest(target.read_bytes()) in ours):
            kept.append(info.filename)
            continue
        write_whole(target, data, mode=info.external_attr >> 16 & 0o777 or 0o644, sync=False)
    write_whole(record, json.dumps(after).encode())
    return kept


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
