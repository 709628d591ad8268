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
import shutil
import stat
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from swarmtrain.errors import ClusterError
from swarmtrain.wire.disk import in_place
from swarmtrain.wire.disk.storage import write_whole

# The times of an empty directory, which no worker has made: see agent/sharing/walk.py, remove_hollow.
_HOLLOW = (0.0, 0.0)


def unpack(parts: Sequence[Path], work: Path) -> list[str]:
    """Unpack the zip that ``parts`` make when joined; return the names of files that were kept for the run's sake.

    Raises:
        ClusterError: the parts are not there, are no zip, or the directory cannot be written.
    """
    try:
        if not parts:
            work.mkdir(parents=True, exist_ok=True)
            return []
        archive = zipfile.ZipFile(io.BytesIO(b"".join(part.read_bytes() for part in parts)))
        if work.exists():
            return _unpack(archive, work)
        _lay_out(archive, work)
        return []
    except PermissionError as error:
        raise ClusterError(
            f"{error.filename or work} cannot be written by this image's user",
            "the storage volume belongs to root: use an image that runs as root",
        ) from error
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise ClusterError(f"the code could not be unpacked into {work}: {error}") from error


def _lay_out(archive: zipfile.ZipFile, work: Path) -> None:
    """Unpack where no run has worked: there is nothing to look out for, so a file costs a fraction of its calls.

    All of it is there at once, or nothing is: what an agent that was killed had laid out begins anew.
    """
    aside = work.with_name(f".{work.name}.swarmtrain-new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    record: dict[str, str] = {}
    made: set[str] = set()
    for info in archive.infolist():
        name, mode = info.filename, info.external_attr >> 16
        _check(name, work)
        target = f"{aside}/{name}"
        parent = os.path.dirname(target)  # noqa: PTH120 - of a thousand names
        if parent not in made:
            os.makedirs(parent, exist_ok=True)  # noqa: PTH103
            made.add(parent)
        if info.is_dir():
            os.utime(target, _HOLLOW)
            continue
        data = archive.read(info)
        if stat.S_ISLNK(mode):
            record[name] = in_place.LINK + os.fsdecode(data)
            in_place.link(Path(target), os.fsdecode(data))
        else:
            record[name] = _digest(data)
            with open(target, "xb") as file:
                os.fchmod(file.fileno(), _permissions(mode))
                file.write(data)
    write_whole(aside / in_place.RECORD, json.dumps(record).encode())
    aside.rename(work)


def _unpack(archive: zipfile.ZipFile, work: Path) -> list[str]:
    """Unpack where a run has worked, or an agent before this one had begun to."""
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
        _check(info.filename, work)
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
                os.utime(target, _HOLLOW)
            continue
        data = archive.read(info)
        is_link = stat.S_ISLNK(mode)
        after[info.filename] = in_place.LINK + os.fsdecode(data) if is_link else _digest(data)
        ours = {before.get(info.filename), after[info.filename]}
        if os.path.lexists(target) and not _is_one_of(target, ours) and not _was_lost(target, record):
            kept.append(info.filename)
        elif is_link:
            in_place.link(target, os.fsdecode(data))
        else:
            if target.is_symlink():
                target.unlink()
            write_whole(target, data, mode=_permissions(mode), sync=False)
    write_whole(record, json.dumps(after).encode())
    return kept


def _check(name: str, work: Path) -> None:
    """Raise ValueError for a name that leads elsewhere."""
    if name.startswith("/") or ".." in name.split("/"):
        raise ValueError(f"{name} leads outside of {work}")


def _permissions(mode: int) -> int:
    return mode & 0o777 or 0o644


def _lies_behind_a_link(target: Path, work: Path) -> bool:
    above = list(target.relative_to(work).parents)[:-1]  # but for the working directory itself
    return any((work / each).is_symlink() for each in above)


def _is_one_of(target: Path, ours: set[str | None]) -> bool:
    """Whether a file is as it was, or is to be, unpacked: by its content, or by where it leads."""
    if target.is_symlink():
        return in_place.LINK + os.readlink(target) in ours  # noqa: PTH115 - the very text
    of_files = {each for each in ours if each and not each.startswith(in_place.LINK)}
    return bool(of_files) and target.is_file() and _digest(target.read_bytes()) in of_files


def _was_lost(target: Path, record: Path) -> bool:
    """Whether a file is as a power cut leaves one that was unpacked just before it: empty, and not younger than that.

    The disk is waited for once, for the record.
    """
    try:
        status, noted = target.lstat(), record.stat()
    except FileNotFoundError:
        return False
    is_empty = stat.S_ISREG(status.st_mode) and status.st_size == 0
    return is_empty and status.st_mtime_ns <= noted.st_mtime_ns


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
