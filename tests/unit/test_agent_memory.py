"""What an agent does with the snapshots in memory when the run ends."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from swarmtrain.agent.worker_group import memory


def snapshot(directory: Path, fence: int, step: int, content: str = "weights", **fields: object) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    stem = f"g{fence:04d}-s{step:09d}"
    (directory / f"{stem}.pt").write_text(content)
    manifest = {"format": 3, "fence": fence, "run": "t.1", "generation": 1, "epoch": 0, "world_size": 1}
    manifest |= {
        "step": step,
        "file": f"{stem}.pt",
        "bytes": len(content),
        "sha256": "",
        "time": 0.0,
        **fields,
    }
    (directory / f"{stem}.json").write_text(json.dumps(manifest))
    return directory / f"{stem}.json"


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path, Path]:
    ours = tmp_path / "memory" / "t.1" / "a"
    memory.lay_out(ours, "me")
    return ours, ours / memory.SNAPSHOTS, tmp_path / "disk"


def listed(disk: Path) -> list[str]:
    return sorted(path.name for path in disk.iterdir()) if disk.exists() else []


def test_the_newest_snapshot_is_saved(places: tuple[Path, Path, Path]) -> None:
    ours, kept, disk = places
    snapshot(kept, 1, 900)
    snapshot(kept, 2, 80, "newest")
    snapshot(disk, 2, 70)
    assert memory.save_newest(ours, disk) == "g0002-s000000080"
    assert (disk / "g0002-s000000080.pt").read_text() == "newest"
    assert listed(disk) == [
        "g0002-s000000070.json",
        "g0002-s000000070.pt",
        "g0002-s000000080.json",
        "g0002-s000000080.pt",
    ]
    assert memory.save_newest(ours, disk) is None


@pytest.mark.parametrize(("fence", "step"), [(2, 80), (3, 1), (2, 81)])
def test_what_the_disk_has_as_new_is_left_alone(
    places: tuple[Path, Path, Path], fence: int, step: int
) -> None:
    ours, kept, disk = places
    snapshot(kept, 2, 80)
    snapshot(disk, fence, step, "kept")
    assert memory.save_newest(ours, disk) is None
    assert (disk / f"g{fence:04d}-s{step:09d}.pt").read_text() == "kept"


def test_what_is_damaged_is_no_snapshot(places: tuple[Path, Path, Path]) -> None:
    ours, kept, disk = places
    snapshot(kept, 1, 10)
    snapshot(kept, 1, 20, bytes=3)
    snapshot(kept, 1, 30).write_text("torn {")
    snapshot(kept, 1, 40).write_text("[1]")
    snapshot(kept, 1, 50).write_text('{"fence": 1, "step": null, "file": "g0001-s000000050.pt", "bytes": 7}')
    snapshot(kept, 1, 60, file="gone", bytes=1)
    assert memory.save_newest(ours, disk) == "g0001-s000000010"
    assert listed(disk) == ["g0001-s000000010.json", "g0001-s000000010.pt"]


def test_without_a_snapshot_nothing_is_saved(places: tuple[Path, Path, Path], tmp_path: Path) -> None:
    ours, _, disk = places
    assert memory.save_newest(ours, disk) is None
    assert memory.save_newest(tmp_path / "nothing", disk) is None
    assert listed(disk) == []


def test_a_disk_that_fails_lists_nothing_half(
    places: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, kept, disk = places
    snapshot(kept, 1, 10)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        memory.save_newest(ours, disk)
    assert not (disk / "g0001-s000000010.json").exists()


def test_the_runs_directory_goes_with_its_last_node(places: tuple[Path, Path, Path]) -> None:
    ours, kept, _ = places
    other = ours.parent / "b"
    memory.lay_out(other, "me")
    snapshot(kept, 1, 10)
    memory.remove(ours)
    assert not ours.exists()
    assert other.exists()
    memory.remove(other)
    assert not other.parent.parent.exists()
    memory.remove(other)  # nothing is left to remove


def test_what_a_run_of_the_same_id_has_left_in_memory_is_nobodys(tmp_path: Path) -> None:
    ours = tmp_path / "memory" / "t.1" / "a"
    memory.lay_out(ours, "first")
    snapshot(ours / memory.SNAPSHOTS, 9, 900)
    memory.lay_out(ours, "first")  # its agent was started again
    assert memory.save_newest(ours, tmp_path / "disk") == "g0009-s000000900"
    memory.lay_out(ours, "second")
    assert list((ours / memory.SNAPSHOTS).iterdir()) == []
