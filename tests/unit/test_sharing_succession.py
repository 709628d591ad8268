"""What was put in place seems to have been written in the order in which it was, in a bounded time."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from swarmtrain.agent.sharing import succession
from swarmtrain.agent.sharing.succession import put_in_order
from swarmtrain.files.record import KnownSet, Record
from swarmtrain.protocol.shared_files import SetVersion, SharedFile


def lay(work: Path, record: Record, path: str, **written: tuple[int, float]) -> None:
    """Put files of these fences and times there."""
    (work / path).mkdir(parents=True, exist_ok=True)
    files = [SharedFile(name, 1, name, when, fence) for name, (fence, when) in written.items()]
    for file in files:
        (work / path / file.name).write_text("x")
        os.utime(work / path / file.name, (file.mtime, file.mtime))
    record.sets[path] = KnownSet(SetVersion(path, 1, 1, files))


def by_ctime(directory: Path) -> list[str]:
    """The oldest first; of what seems of one age, what would be taken for the newest by nobody comes first."""
    return sorted(
        (each.name for each in directory.iterdir()),
        key=lambda each: directory.joinpath(each).stat().st_ctime_ns,
    )


def test_a_later_generation_has_written_later_whatever_its_clock_says(tmp_path: Path) -> None:
    record = Record()
    lay(tmp_path, record, "step-3", model=(2, 500.0))
    lay(tmp_path, record, "step-2", model=(1, 2000.0))
    lay(tmp_path, record, "step-1", model=(1, 1000.0))
    put_in_order(tmp_path, record, ["step-3"])
    assert by_ctime(tmp_path) == ["step-1", "step-2", "step-3"]


def test_of_files_no_mtime_changes_and_nothing_is_touched_that_is_in_order(tmp_path: Path) -> None:
    record = Record()
    lay(tmp_path, record, "", **{"log": (9, 1.0), "9.pt": (1, 2000.25), "10.pt": (1, 2010.75)})
    record.streams = ["log"]
    put_in_order(tmp_path, record, [""])
    first = {each.name: each.stat() for each in tmp_path.iterdir()}
    put_in_order(tmp_path, record, [""])
    assert {each.name: each.stat() for each in tmp_path.iterdir()} == first
    assert [first[name].st_mtime for name in ("log", "9.pt", "10.pt")] == [1.0, 2000.25, 2010.75]
    assert by_ctime(tmp_path)[1:] == ["9.pt", "10.pt"]


def test_many_files_in_many_directories_and_a_clock_that_never_ticks_cost_no_more_than_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Record()
    for number in range(20):
        lay(tmp_path, record, f"step-{number}", **{str(each): (1, 1e6 - each) for each in range(100)})
    monkeypatch.setattr(succession, "_changed", lambda path: 1)
    began = time.monotonic()
    put_in_order(tmp_path, record, list(record.sets))
    assert time.monotonic() - began < 5
