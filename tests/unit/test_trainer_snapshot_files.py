"""Snapshots as files: what is listed loads, what is damaged is seen, the newest are kept."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from swarmtrain.files import snapshots
from swarmtrain.trainer import TrainerError
from swarmtrain.trainer.snapshots import fence
from swarmtrain.trainer.snapshots import files as snapshot_files
from swarmtrain.trainer.snapshots.disk import DISK
from swarmtrain.trainer.snapshots.files import Position

START = Position(fence=1, epoch=0, step=0, world_size=2, weights="00")


def save(directory: Path, step: int, fence: int = 1, value: Any = 1.0) -> Any:
    position = replace(START, step=step, fence=fence)
    return snapshot_files.save(directory, {"tensor": torch.full((100,), value), "step": step}, position)


def steps(directory: Path) -> Any:
    return [(manifest.fence, manifest.step) for manifest in snapshot_files.listed(directory)]


def test_what_was_saved_is_listed_and_loads(tmp_path: Path) -> None:
    manifest = save(tmp_path / "new" / "directory", 5)
    (listed,) = snapshot_files.listed(tmp_path / "new" / "directory")
    assert listed == manifest
    state = snapshot_files.load(tmp_path / "new" / "directory", listed)
    assert state["step"] == 5 and torch.equal(state["tensor"], torch.ones(100))
    assert listed.file == f"g0001-s000000005-{listed.sha256[:12]}.pt"


def test_a_directory_that_is_not_there_lists_nothing(tmp_path: Path) -> None:
    assert snapshot_files.listed(tmp_path / "none") == []


def test_a_higher_fence_comes_first_whatever_its_step(tmp_path: Path) -> None:
    for number, step in [(1, 9), (1, 30), (2, 10), (2, 20)]:
        save(tmp_path, step, number)
    assert steps(tmp_path) == [(2, 20), (2, 10), (1, 30), (1, 9)]


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda content: content[:-1], "bytes, not"),
        (
            lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
            "does not match its checksum",
        ),
        (lambda content: b"", "has 0 bytes"),
    ],
)
def test_damage_is_seen_and_said(tmp_path: Path, harm: Any, problem: str) -> None:
    manifest = save(tmp_path, 5)
    path = tmp_path / manifest.file
    path.write_bytes(harm(path.read_bytes()))
    assert problem in (snapshot_files.damage(tmp_path, manifest) or "")
    with pytest.raises(TrainerError, match="is damaged"):
        snapshot_files.load(tmp_path, manifest)


def test_a_discarded_snapshot_is_listed_no_more_and_its_state_is_kept_aside(tmp_path: Path) -> None:
    save(tmp_path, 4)
    manifest = save(tmp_path, 5)
    snapshot_files.discard(tmp_path, manifest)
    snapshot_files.discard(tmp_path, manifest)  # another rank on the same directory did it first
    assert steps(tmp_path) == [(1, 4)]
    assert (tmp_path / manifest.file).with_suffix(".damaged").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', "null"])
def test_a_manifest_that_cannot_be_read_lists_nothing(tmp_path: Path, content: Any) -> None:
    save(tmp_path, 4)
    (tmp_path / "g0001-s000000009.json").write_text(content)
    assert steps(tmp_path) == [(1, 4)]


def test_a_manifest_of_another_format_or_without_its_state_lists_nothing(tmp_path: Path) -> None:
    manifest = save(tmp_path, 4)
    save(tmp_path, 5)
    path = tmp_path / "g0001-s000000005.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 9}))
    (tmp_path / manifest.file).unlink()
    assert steps(tmp_path) == []


def test_the_newest_few_are_kept_and_nothing_else(tmp_path: Path) -> None:
    for step in range(1, 6):
        written = save(tmp_path, step)
    (tmp_path / "notes.txt").write_text("not ours")
    orphan = tmp_path / "g0001-s000000001-0123456789ab.pt"
    orphan.write_bytes(b"a state whose writer was killed before its manifest")
    snapshot_files.prune(tmp_path, 2, written)
    assert steps(tmp_path) == [(1, 5), (1, 4)]
    assert len(list(tmp_path.iterdir())) == 5 and not orphan.exists()


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    save(tmp_path, 5, value=1.0)
    manifest = save(tmp_path, 5, value=2.0)
    snapshot_files.prune(tmp_path, 3, manifest)
    assert snapshot_files.load(tmp_path, snapshot_files.listed(tmp_path)[0])["tensor"][0] == 2.0
    assert snapshot_files.listed(tmp_path) == [manifest]


def test_a_write_that_fails_lists_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    save(tmp_path, 4)
    before = sorted(tmp_path.iterdir())

    def write(file: BinaryIO) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        snapshot_files.store(tmp_path, replace(START, step=5), write)
    assert sorted(tmp_path.iterdir()) == before


def test_what_was_damaged_on_its_way_is_not_listed(tmp_path: Path) -> None:
    save(tmp_path, 4)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(snapshot_files.Damaged, match="not 0000"):
        snapshot_files.store(
            tmp_path, replace(START, step=5), lambda file: file.write(b"x"), expected="0" * 64
        )
    assert sorted(tmp_path.iterdir()) == before


def test_leftovers_of_killed_writers_are_swept(tmp_path: Path) -> None:
    save(tmp_path, 4)
    (tmp_path / ".g0001-s000000005.99.tmp").write_bytes(b"half")
    snapshot_files.sweep(tmp_path)
    assert not list(tmp_path.glob(".*.tmp")) and steps(tmp_path) == [(1, 4)]


def test_a_manifest_says_by_what_a_snapshot_was_written(tmp_path: Path) -> None:
    versions = save(tmp_path, 4).versions
    assert versions["torch"] == str(torch.__version__) and versions["cuda"] in ("none", torch.version.cuda)
    assert versions["python"].count(".") == 2 and versions["swarmtrain"]


@pytest.mark.parametrize("number", [1, 2])
def test_a_snapshot_of_an_older_format_loads_and_is_ordered_by_what_it_called_its_generation(
    tmp_path: Path, number: int
) -> None:
    for order, step in [(20_001, 4), (2, 9)]:
        save(tmp_path, step, order)
    for path in tmp_path.glob("*.json"):
        fields = json.loads(path.read_text())
        fields |= {"format": number, "generation": fields["fence"]}
        for name in ("fence", "run", "submission", *(["versions"] if number == 1 else [])):
            del fields[name]
        path.write_text(json.dumps(fields))
    assert steps(tmp_path) == [(20_001, 4), (2, 9)]
    newest = snapshot_files.listed(tmp_path)[0]
    assert snapshot_files.load(tmp_path, newest)["step"] == 4
    assert [each.key for each in snapshots.listed(tmp_path, "a", "disk")] == [(20_001, 4), (2, 9)]
    assert [(each.generation, each.run) for each in snapshots.listed(tmp_path, "a", "disk")] == [
        (1, "run 2"),
        (2, ""),
    ]


# --- Fences ----------------------------------------------------------------------------------------------------


def test_what_was_just_written_stays_whatever_else_is_there(tmp_path: Path) -> None:
    for step in (100, 90, 80):
        save(tmp_path, step, fence=9)
    older = frozenset(path.name for path in tmp_path.iterdir())
    written = save(tmp_path, 10, fence=2)
    snapshot_files.prune(tmp_path, 3, written, older)
    assert (2, 10) in steps(tmp_path)


def test_what_another_writes_meanwhile_is_not_removed(tmp_path: Path) -> None:
    save(tmp_path, 1, fence=1)
    older = frozenset(path.name for path in tmp_path.iterdir())
    theirs = [save(tmp_path, step, fence=1) for step in (200, 210)] + [save(tmp_path, 5, fence=7)]
    for step in (10, 20, 30):
        snapshot_files.prune(tmp_path, 2, save(tmp_path, step, fence=2), older)
    assert steps(tmp_path) == [(7, 5), (2, 30), (2, 20), (1, 210), (1, 200)]
    assert all(snapshot_files.damage(tmp_path, each) is None for each in theirs)


def test_a_fence_is_claimed_once_and_above_everything_that_is_there(tmp_path: Path) -> None:
    assert fence.highest(tmp_path / "none") == 0
    save(tmp_path, 4, fence=20_001)
    assert fence.highest(tmp_path) == 20_001
    assert not fence.claim(tmp_path, 20_001, "me", DISK)
    assert fence.claim(tmp_path, 20_002, "me", DISK)
    assert fence.claim(tmp_path, 20_002, "me", DISK)  # another node on the same directory
    assert not fence.claim(tmp_path, 20_002, "you", DISK)
    assert fence.claim(tmp_path, 20_003, "you", DISK)
    assert not fence.claim(tmp_path, 20_001, "late", DISK)
    assert fence.highest(tmp_path) == 20_003
    assert [path.name for path in tmp_path.glob("fence-*")] == ["fence-0020003"]


def test_a_claim_outlasts_its_snapshots_and_damaged_ones_count_too(tmp_path: Path) -> None:
    fence.claim(tmp_path, 3, "me", DISK)
    assert fence.highest(tmp_path) == 3
    snapshot_files.discard(tmp_path, save(tmp_path, 4, fence=5))
    assert steps(tmp_path) == [] and fence.highest(tmp_path) == 5


def test_many_who_claim_at_once_all_get_a_fence_of_their_own(tmp_path: Path) -> None:
    def claimed(owner: str) -> Any:
        number = 1
        while not fence.claim(tmp_path, number, str(owner), DISK):
            number = 1 + fence.highest(tmp_path)
        return number

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(claimed, range(40)))
    assert len(set(numbers)) == 40


def test_sweeping_leaves_what_a_living_writer_writes(tmp_path: Path) -> None:
    entered, go = threading.Event(), threading.Event()

    def slowly(file: BinaryIO) -> None:
        file.write(b"half")
        entered.set()
        assert go.wait(30)

    with ThreadPoolExecutor(1) as pool:
        stored = pool.submit(snapshot_files.store, tmp_path, START, slowly)
        assert entered.wait(30)
        snapshot_files.sweep(tmp_path)
        go.set()
        written = stored.result(30)
    assert snapshot_files.listed(tmp_path) == [written]
