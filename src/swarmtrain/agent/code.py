"""Unpacks the user's code into the workers' working directory, without touching what an earlier run wrote there.

With ``--resume`` the directory is one that a run has already worked in. A file that the run itself has changed since
it was unpacked (a ``snapshot.pt`` that also lay in the project, say) belongs to the run and is kept; a file that is
as it was unpacked is replaced by the new version.

On local the archive has links to large files, which lie in the user's own directory and are never written to here.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from swarmtrain.errors import ClusterError
from swarmtrain.wire.disk import in_place
from swarmtrain.wire.disk.storage import write_whole


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
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise ClusterError(f"the code could not be unpacked into {work}: {error}") from error


def _unpack(archive: zipfile.ZipFile, work: Path) -> list[str]:
    record = work / in_place.RECORD
    try:
        before = {name: str(each) for name, each in json.loads(record.read_text()).items()}
    except (OSError, ValueError, AttributeError):
        # Nothing was unpacked yet, the disk lost it, or a script has written there: then all that is there is kept.
        before = {}
    after: dict[str, str] = {}
    kept: list[str] = []
    for info in archive.infolist():
        target, mode = work / info.filename, info.external_attr >> 16
        if not target.is_relative_to(work) or ".." in target.relative_to(work).parts:
            raise ValueError(f"{info.filename} leads outside of the working directory")
        # The run's own, as `last -> checkpoint-60` is, in place of a directory.
        if _lies_behind_a_link(target, work):
            kept.append(info.filename)
            continue
        try:
            (target if info.is_dir() else target.parent).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):  # a file of the run's
            kept.append(info.filename)
            continue
        if info.is_dir():
            if not any(target.iterdir()):
                # No worker has made it: see agent/sharing/walk.py, remove_hollow.
                os.utime(target, (0.0, 0.0))
            continue
        data = archive.read(info)
        is_link = stat.S_ISLNK(mode)
        after[info.filename] = in_place.LINK + os.fsdecode(data) if is_link else _digest(data)
        if os.path.lexists(target) and not _is_one_of(
            target, {before.get(info.filename), after[info.filename]}
        ):
            kept.append(info.filename)
        elif is_link:
            in_place.link(target, os.fsdecode(data))
        else:
            if target.is_symlink():
                target.unlink()
            write_whole(target, data, mode=mode & 0o777 or 0o644, sync=False)
    write_whole(record, json.dumps(after).encode())
    return kept


def _lies_behind_a_link(target: Path, work: Path) -> bool:
    above = list(target.relative_to(work).parents)[:-1]  # but for the working directory itself
    return any((work / each).is_symlink() for each in above)


def _is_one_of(target: Path, ours: set[str | None]) -> bool:
    """Whether a file is as it was, or is to be, unpacked: by its content, or by where it leads."""
    if target.is_symlink():
        return in_place.LINK + os.readlink(target) in ours  # noqa: PTH115 - the very text
    of_files = {each for each in ours if each and not each.startswith(in_place.LINK)}
    return bool(of_files) and target.is_file() and _digest(target.read_bytes()) in of_files


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
