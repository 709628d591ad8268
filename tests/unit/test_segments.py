"""Which files in /dev/shm count as a node's own, with real processes that hold them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmtrain.agent.worker_group.segments import Segments
from swarmtrain.wire.disk import segments

HOLDS = """
import mmap, os, sys
for name in sys.argv[1:]:
    file = open(f"/dev/shm/{name}", "a+b")
    if "mapped" in name:
        file.truncate(4096)
        kept = mmap.mmap(file.fileno(), 4096)
        file.close()
    else:
        globals()[name] = file
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def mark() -> Iterator[str]:
    """In the names of all that a test makes."""
    mark = f"segtest{os.getpid()}x"
    yield mark
    for path in segments.SHARED.glob(f"*{mark}*"):
        path.unlink()


def left(mark: str) -> list[str]:
    return sorted(path.name.replace(mark, "") for path in segments.SHARED.glob(f"*{mark}*"))


def holding(*names: str) -> subprocess.Popen[bytes]:
    """A process below this one that has made these and holds them."""
    command = [sys.executable, "-c", HOLDS, *names]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    return process


def finish(process: subprocess.Popen[bytes]) -> None:
    process.communicate()


def test_what_processes_below_have_made_goes_when_they_have_gone(mark: str, tmp_path: Path) -> None:
    (segments.SHARED / f"{mark}before").touch()

    async def act() -> None:
        node = Segments(lambda: tmp_path)
        (segments.SHARED / f"{mark}nobodys").touch()
        process = holding(f"{mark}mapped", f"{mark}open", f"psm_0{mark}")
        torch = segments.SHARED / f"torch_{process.pid}_{mark}"
        torch.touch()
        (segments.SHARED / f"torch_1_{mark}").touch()
        await node.look()
        node.clear(all_of_them=True)
        assert f"{mark}open" in segments.noted(tmp_path)
        assert "mapped" in left(mark)  # somebody holds it
        finish(process)
        node.clear(all_of_them=False)
        assert left(mark) == ["before", "mapped", "nobodys", "open", "torch_1_"]
        node.clear(all_of_them=True)
        assert left(mark) == ["before", "nobodys", "torch_1_"]

    asyncio.run(act())


def test_a_name_that_is_no_text_is_as_good_as_any(mark: str, tmp_path: Path) -> None:
    path = segments.SHARED / os.fsdecode(f"{mark}-".encode() + b"\xff")
    path.touch()
    segments.note(tmp_path, path.name, path.stat().st_ino)
    segments.remove(segments.noted(tmp_path))
    assert left(mark) == []


def test_what_others_hold_too_is_not_ours(mark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act() -> None:
        node = Segments(lambda: tmp_path)
        ours, theirs = holding(f"{mark}open"), holding(f"{mark}open")
        monkeypatch.setattr("swarmtrain.agent.worker_group.segments.descendants", lambda root: [ours.pid])
        await node.look()
        finish(ours)
        finish(theirs)
        node.clear(all_of_them=True)
        assert left(mark) == ["open"]

    asyncio.run(act())


def test_memory_that_is_full_ends_no_look_and_what_is_seen_still_goes(mark: str, tmp_path: Path) -> None:
    async def act() -> None:
        node = Segments(lambda: tmp_path / "where nothing can be written")
        process = holding(f"{mark}open", f"{mark}other")
        await node.look()
        finish(process)
        node.clear(all_of_them=True)
        assert left(mark) == []

    asyncio.run(act())


def test_what_is_written_down_is_removed_by_whoever_comes_later_unless_it_is_another_file(
    mark: str, tmp_path: Path
) -> None:
    for name in ("same", "another", "held"):
        path = segments.SHARED / f"{mark}{name}"
        path.touch()
        segments.note(tmp_path, path.name, path.stat().st_ino + (name == "another"))
    segments.note(tmp_path, "../../etc/passwd", 1)
    process = holding(f"{mark}held")
    segments.remove(segments.noted(tmp_path))
    assert left(mark) == ["another", "held"]
    finish(process)
    segments.remove(segments.noted(tmp_path))
    assert left(mark) == ["another"]


def test_a_name_that_nobody_holds_is_let_go_of_and_one_that_is_made_anew_is_looked_at_again(
    mark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swarmtrain.agent.worker_group.segments._LOOKS", 3)

    async def act() -> None:
        node = Segments(lambda: tmp_path)
        for _ in range(2):
            process = holding(f"{mark}open")
            await node.look()
            finish(process)
            node.clear(all_of_them=True)
            assert left(mark) == []
            await node.look()
        (segments.SHARED / f"{mark}nobodys").touch()
        for _ in range(3):
            await node.look()
        assert node._waiting == {}

    asyncio.run(act())
