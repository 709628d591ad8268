"""Snapshots as files: written so that every one that is listed loads.

A snapshot is two files in a node's directory:

    g0001-s000000120-3f9c2b7a51d0.pt    the state, by torch.save, named by fence, step and checksum
    g0001-s000000120.json               its manifest: what it is, how large, its whole checksum

Both are written aside, flushed to the disk and renamed, the manifest last: a snapshot is listed when its manifest
is there, and then its state is there too. Retention goes the other way. Manifests need no torch to be read.

Snapshots order by fence, then step: once a start has gone on from some step, what others before it wrote beyond that is
void. Each start has a fence of its own, above all that it found (see ``fence``).

Called by ``writer``, which writes, and ``agreement``, which reads; also by people who want to look into one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from swarmtrain.errors import TrainerError
from swarmtrain.trainer.snapshots.disk import DISK, Disk
from swarmtrain.wire.clock import stamp
from swarmtrain.wire.disk.snapshots import FENCED, fence_of, key_of, stem

FORMAT = FENCED
_READABLE = (1, 2, FORMAT)  # 1 had no versions, and both had no fence of their own
_CHUNK = 16 << 20


class Damaged(Exception):
    """What was to be stored is not what it should be.

    Outside of the tree: `agreement` catches it, once every rank has taken part.
    """


@dataclass(frozen=True)
class Position:
    """Where in a training a snapshot was taken, the hash of the weights there, and by whom.

    Attributes:
        run, generation: of the writer; empty and 0 without a run.
        submission: tells that run from all others, also from one that had the same number; empty without one.
    """

    fence: int
    epoch: int
    step: int
    world_size: int
    weights: str
    run: str = ""
    generation: int = 0
    submission: str = ""

    @property
    def name(self) -> str:
        """How the names of its files begin."""
        return stem(self.fence, self.step)


@dataclass(frozen=True)
class Manifest:
    """What is known of a snapshot without loading it. ``file`` is the state's name in the same directory."""

    format: int
    fence: int
    epoch: int
    step: int
    world_size: int
    weights: str
    file: str
    bytes: int
    sha256: str
    time: float
    run: str = ""
    generation: int = 0
    submission: str = ""
    stamp: dict[str, str | float] = field(default_factory=dict)  # the same as `time`: see wire.clock
    versions: dict[str, str] = field(default_factory=dict)  # of torch, python, swarmtrain and cuda ("none")

    @property
    def key(self) -> tuple[int, int]:
        """By which snapshots are ordered."""
        return self.fence, self.step

    @property
    def name(self) -> str:
        return stem(*self.key)

    @property
    def position(self) -> Position:
        return Position(*(getattr(self, name) for name in Position.__dataclass_fields__))


def save(directory: Path, state: dict[str, Any], position: Position, disk: Disk = DISK) -> Manifest:
    """Write a snapshot of ``state``; it is listed once this returns, and not before.

    Raises:
        OSError: the disk is full or gone. Nothing is listed then, and older snapshots are as they were.
    """
    return store(directory, position, lambda file: torch.save(state, file), disk=disk)


def store(
    directory: Path,
    position: Position,
    write: Callable[[BinaryIO], object],
    versions: Mapping[str, str] | None = None,
    disk: Disk = DISK,
    expected: str | None = None,
) -> Manifest:
    """As :func:`save`, with ``write`` to write the state's bytes; ``versions`` are this process's by default.

    Args:
        expected: the SHA-256 of what ``write`` writes, where it is known.

    Raises:
        OSError: as :func:`save`. Damaged: it is not what was expected, and is not listed.
    """
    name = position.name
    aside = directory / f".{name}.{secrets.token_hex(8)}.tmp"  # several nodes may share a directory
    try:
        disk.make_directory(directory)
        with disk.create(aside) as file:
            hashing = _HashingFile(file)
            try:
                write(cast(BinaryIO, hashing))
            except Exception:
                if hashing.error is not None:  # torch.save has wrapped it in a RuntimeError of many lines
                    raise hashing.error from None
                raise
            disk.sync(file)
            sha256 = hashing.digest.hexdigest()
            if expected is not None and sha256 != expected:
                raise Damaged(f"{name} has the checksum {sha256[:12]}, not {expected[:12]}")
            manifest = Manifest(
                format=FORMAT,
                **asdict(position),
                file=f"{name}-{sha256[:12]}.pt",
                bytes=hashing.written,
                sha256=sha256,
                time=time.time(),
                stamp=stamp(),
                versions=dict(_versions() if versions is None else versions),
            )
            disk.replace(aside, directory / manifest.file)
        disk.sync_directory(directory)
        with disk.create(aside) as file:
            file.write(json.dumps(asdict(manifest), indent=1).encode())
            disk.sync(file)
            disk.replace(aside, directory / f"{name}.json")
        disk.sync_directory(directory)
    except BaseException:
        disk.discard(aside)
        raise
    return manifest


def _versions() -> dict[str, str]:
    try:
        swarmtrain = metadata.version("swarmtrain")
    except metadata.PackageNotFoundError:
        swarmtrain = "bundled"  # sent to the node, not installed there
    return {
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "swarmtrain": swarmtrain,
        "cuda": str(torch.version.cuda or "none"),
    }


def listed(directory: Path) -> list[Manifest]:
    """The snapshots in ``directory``, newest first. A manifest that cannot be read lists nothing."""
    manifests = []
    for path in directory.glob("g*-s*.json"):
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            if fields["format"] < FENCED:
                fields = {**fields, "fence": fence_of(fields), "generation": 0}
            manifest = Manifest(**fields)
        except (OSError, ValueError, TypeError, KeyError):
            continue
        if manifest.format in _READABLE and (directory / manifest.file).is_file():
            manifests.append(manifest)
    return sorted(manifests, key=lambda manifest: manifest.key, reverse=True)


def damage(directory: Path, manifest: Manifest) -> str | None:
    """What is wrong with the snapshot's file, in words; None where it is whole."""
    try:
        with open(directory / manifest.file, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != manifest.bytes:
                return f"{manifest.file} has {size} bytes, not {manifest.bytes}"
            digest = hashlib.sha256()
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        return f"{manifest.file} cannot be read: {error.strerror or error}"
    return None if digest.hexdigest() == manifest.sha256 else f"{manifest.file} does not match its checksum"


def load(directory: Path, manifest: Manifest) -> dict[str, Any]:
    """The state that :func:`save` was given, with all tensors on the CPU.

    The file may hold any Python object, as optimizers and schedulers keep what they like in their state: it is to
    be trusted as much as the script that wrote it.

    Raises:
        TrainerError: the file is damaged.
    """
    problem = damage(directory, manifest)
    if problem is not None:
        raise TrainerError(f"the snapshot in {directory} is damaged: {problem}")
    return read(directory, manifest)


def read(directory: Path, manifest: Manifest) -> dict[str, Any]:
    """As :func:`load`, of a file that has just been checked."""
    state: dict[str, Any] = torch.load(directory / manifest.file, map_location="cpu", weights_only=False)
    return state


def discard(directory: Path, manifest: Manifest) -> None:
    """Take a snapshot that is not to be trusted off the list; its state stays as ``*.damaged`` for a person.

    On a disk that cannot be written it stays listed.
    """
    data = directory / manifest.file
    with suppress(OSError):  # or another rank did it first
        DISK.remove(directory / f"{manifest.name}.json")
        DISK.replace(data, data.with_suffix(".damaged"))
        DISK.sync_directory(directory)


def prune(
    directory: Path, keep: int, written: Manifest, older: Collection[str] = (), disk: Disk = DISK
) -> None:
    """Remove what ``written``, which was just written, makes superfluous; ``written`` itself stays in any case.

    That is all but the newest ``keep`` of its own fence and of what its writer found when it began, and states that no
    manifest names any more. What others write meanwhile in the same directory is theirs to remove.

    Args:
        older: the names of the files that its writer found.
    """
    listing = listed(directory)
    ours = [each for each in listing if each.fence == written.fence or f"{each.name}.json" in older]
    superfluous = [each for each in ours[keep:] if each.name != written.name]
    for manifest in superfluous:
        disk.remove(directory / f"{manifest.name}.json")
    named = {each.file for each in listing if each not in superfluous}
    for data in directory.glob("g*-s*.pt"):
        # A state that is as new as this one may be another node's, whose manifest comes in a moment.
        before = _before(data.name, written) or data.name in older
        if before and data.name not in named:
            disk.remove(data)


def _before(name: str, written: Manifest) -> bool:
    """Whether a file is of an earlier step under the same fence."""
    key = key_of(name)
    return key is not None and key[0] == written.fence and key[1] < written.step


def sweep(directory: Path) -> None:
    """Remove what writers that were killed have left aside; one that still writes holds a lock on its file."""
    for aside in directory.glob(".g*-s*.tmp"):
        with suppress(OSError), open(aside, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            DISK.remove(aside)


class _HashingFile:
    """A file for torch.save that adds up the checksum of what goes through it, and keeps the error that stopped it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.written = 0
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            self.error = error
            raise
        size = memoryview(data).nbytes
        self.written += size
        return size

    def flush(self) -> None:
        self._file.flush()
