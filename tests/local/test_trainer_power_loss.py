"""A power cut at any instant leaves a directory in which all that is listed loads, and nothing done is lost.

A recording disk notes what the writer of snapshots does, in order. For many instants, what a file system may leave of
that is built: of what was not synced any part may be missing, torn or there, names and contents independently.
"""

from __future__ import annotations

import io
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from swarmtrain.trainer import TrainerError
from swarmtrain.trainer.snapshots import files as snapshot_files
from swarmtrain.trainer.snapshots.disk import Disk
from swarmtrain.trainer.snapshots.files import Position

INSTANTS = 200
SAVES = 12
START = Position(fence=1, epoch=0, step=0, world_size=1, weights="")


@dataclass(frozen=True)
class Operation:
    """``what`` was done: to a name (``path``, and ``source`` for a rename), or to the content of file ``number``."""

    what: str
    number: int = -1
    path: str = ""
    source: str = ""
    offset: int = 0
    data: bytes = b""
    step: int = 0


class RecordingDisk(Disk):
    """A real disk that notes what is asked of it; with ``syncs=False`` it only claims to have synced."""

    def __init__(self, *, syncs: bool = True) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self._syncs = syncs
        self._files = 0

    def create(self, path: Path) -> BinaryIO:
        self._files += 1
        self.operations.append(Operation("create", self._files, path.name))
        return io.BufferedWriter(_RecordingFile(path, self._files, self.operations))

    def sync(self, file: BinaryIO) -> None:
        super().sync(file)
        if self._syncs:
            self.operations.append(Operation("sync", file.raw.number))  # type: ignore[attr-defined]

    def replace(self, source: Path, target: Path) -> None:
        super().replace(source, target)
        self.operations.append(Operation("replace", path=target.name, source=source.name))

    def remove(self, path: Path) -> None:
        super().remove(path)
        self.operations.append(Operation("remove", path=path.name))

    def sync_directory(self, path: Path) -> None:
        super().sync_directory(path)
        if self._syncs:
            self.operations.append(Operation("sync names"))


class _RecordingFile(io.FileIO):
    def __init__(self, path: Path, number: int, operations: list[Operation]) -> None:
        super().__init__(path, "wb")
        self.number = number
        self._operations = operations

    def write(self, data: Any) -> int:
        offset, content = self.tell(), bytes(data)
        written = super().write(content)
        self._operations.append(Operation("write", self.number, offset=offset, data=content[:written]))
        return written


def contents(operations: list[Operation], chance: random.Random) -> dict[int, bytes]:
    """Every file's content after a cut: synced writes whole, of the others any part."""
    files: dict[int, bytearray] = {}
    synced = {each.number: at for at, each in enumerate(operations) if each.what == "sync"}
    for at, each in enumerate(operations):
        if each.what == "create":
            files[each.number] = bytearray()
        if each.what != "write":
            continue
        data = each.data
        if at > synced.get(each.number, -1):
            data = data[: chance.choice([0, chance.randint(0, len(data)), len(data)])]
        content = files[each.number]
        if data and len(content) < each.offset:
            content.extend(bytes(each.offset - len(content)))
        content[each.offset : each.offset + len(data)] = data
    return {number: bytes(content) for number, content in files.items()}


def names(operations: list[Operation], chance: random.Random) -> dict[str, int]:
    """The directory after a cut: changes before the last sync are there, of the others any."""
    now: dict[str, int] = {}  # as the writer saw it
    left: dict[str, int] = {}
    synced = max((at for at, each in enumerate(operations) if each.what == "sync names"), default=-1)
    for at, each in enumerate(operations):
        survives = at < synced or chance.random() < 0.5
        if each.what == "create":
            now[each.path] = each.number
            if survives:
                left[each.path] = each.number
        elif each.what == "replace":
            number = now[each.path] = now.pop(each.source)
            if survives:
                left.pop(each.source, None)
                left[each.path] = number
        elif each.what == "remove":
            now.pop(each.path, None)
            if survives:
                left.pop(each.path, None)
    return left


def record(directory: Path, disk: RecordingDisk) -> list[Operation]:
    for step in range(1, SAVES + 1):
        state = {"step": step, "tensor": torch.full((5000,), float(step))}
        manifest = snapshot_files.save(directory, state, replace(START, step=step), disk)
        disk.operations.append(Operation("done", step=step))
        snapshot_files.prune(directory, 2, manifest, disk=disk)
    return disk.operations


def what_is_lost(operations: list[Operation], directory: Path, chance: random.Random) -> str | None:
    """Cuts the power after ``operations``, and says in words what is wrong with what is left; None: nothing."""
    directory.mkdir()
    files = contents(operations, chance)
    for name, number in names(operations, chance).items():
        (directory / name).write_bytes(files[number])
    done = max((each.step for each in operations if each.what == "done"), default=0)
    listed = snapshot_files.listed(directory)
    newest = listed[0].step if listed else 0
    if newest < done:
        return f"step {done} was done, and {newest} is the newest that is listed"
    for manifest in listed:
        try:
            state = snapshot_files.load(directory, manifest)
        except TrainerError as error:
            return str(error)
        if not bool((state["tensor"] == manifest.step).all()):
            return f"step {manifest.step} holds another's state"
    return None


def losses(tmp_path: Path, *, syncs: bool) -> list[str]:
    operations = record(tmp_path / "live", RecordingDisk(syncs=syncs))
    chance = random.Random(11)
    found = []
    for cut in range(INSTANTS):
        at = chance.randint(0, len(operations))
        found.append(what_is_lost(operations[:at], tmp_path / f"cut{cut}", chance))
    return [each for each in found if each is not None]


def test_a_power_cut_loses_nothing_that_was_done_and_lists_nothing_that_does_not_load(tmp_path: Path) -> None:
    assert losses(tmp_path, syncs=True) == []


def test_a_disk_that_only_claims_to_sync_is_found_out_by_the_same_cuts(tmp_path: Path) -> None:
    assert len(losses(tmp_path, syncs=False)) > INSTANTS // 4


@pytest.mark.parametrize("forgotten", ["sync", "sync names"])
def test_both_kinds_of_syncing_are_needed(tmp_path: Path, forgotten: Any) -> None:
    operations = [each for each in record(tmp_path / "live", RecordingDisk()) if each.what != forgotten]
    chance = random.Random(11)
    cuts = (chance.randint(0, len(operations)) for _ in range(INSTANTS))
    found = [what_is_lost(operations[:at], tmp_path / f"cut{cut}", chance) for cut, at in enumerate(cuts)]
    assert any(found)
