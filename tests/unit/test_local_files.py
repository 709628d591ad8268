"""What the local launcher keeps of runs, when it is killed at it, and for whom."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from swarmtrain.launchers.local import files as local_files
from swarmtrain.launchers.local.processes import LocalProcess, ProcessTable, kill_trees
from swarmtrain.wire.disk.storage import Storage, write_whole
from swarmtrain.wire.machine.init import CHILD_FILE
from swarmtrain.wire.machine.processes import kill_all

FILES = {"job.json": b"{}", "code.zip": b""}


@contextlib.contextmanager
def killed_at(change: int) -> Iterator[None]:
    """A process that is killed as it begins with so many changes of directories."""
    left = itertools.count(change, -1)

    def deadly(act: Callable[..., Any]) -> Callable[..., Any]:
        def acting(*args: Any, **options: Any) -> Any:
            if next(left) <= 0:
                raise KeyboardInterrupt
            return act(*args, **options)

        return acting

    with pytest.MonkeyPatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
        for name in ("unlink", "rmdir", "rename"):
            patched.setattr(os, name, deadly(getattr(os, name)))
        yield


@pytest.mark.parametrize("change", range(14))
def test_a_removal_that_is_killed_leaves_a_run_that_can_be_removed_or_an_id_that_is_free(
    tmp_path: Path, change: int
) -> None:
    storage = Storage(tmp_path)
    local_files.lay_out(tmp_path / "runs", "digits.1", FILES)
    storage.claim("digits.1", "digits.1")
    for directory in (storage.work("digits.1", "n"), storage.output("digits.1", "n")):
        directory.mkdir(parents=True)
        (directory / "file").touch()
    with killed_at(change):
        storage.remove("digits.1")
    if storage.runs():
        assert {path.name for path in storage.coordinator("digits.1").iterdir()} >= FILES.keys()
        storage.remove("digits.1")
    local_files.lay_out(tmp_path / "runs", "digits.1", FILES)
    storage.remove("digits.1")
    assert not list(tmp_path.glob("*/*"))


def test_another_client_may_sweep_what_is_being_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(tmp_path)
    local_files.lay_out(tmp_path / "runs", "digits.1", FILES)
    submitter = {"pid": os.getpid(), "began": 1, "boot": ""}  # of another boot: nobody submits it any more
    (storage.coordinator("digits.1") / "submitter.json").write_text(json.dumps(submitter))
    remove, swept = os.unlink, False

    def swept_first(name: str, **options: Any) -> None:
        nonlocal swept
        if not swept:
            swept = True
            local_files.lay_out(tmp_path / "runs", "digits.2", FILES)
            assert not (tmp_path / "runs" / ".digits.1.gone").exists()
        remove(name, **options)

    monkeypatch.setattr(os, "unlink", swept_first)
    storage.remove("digits.1")
    assert swept and [path.name for path in (tmp_path / "runs").iterdir()] == ["digits.2"]


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022])
def test_runs_are_the_owners_alone_whatever_his_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        local_files.lay_out(tmp_path / "runs", "digits.1", FILES)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "runs").stat().st_mode) == 0o700


BUSY = """
import os, time
for _ in range(400):
    if not os.fork():
        time.sleep(60)
        os._exit(0)
    time.sleep(0.0005)
"""


def group(leader: int) -> list[int]:
    """The processes of a group that live."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, of = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            found += [int(entry.name)] if int(of) == leader and state != "Z" else []
    return found


def test_who_is_killed_as_he_starts_another_leaves_nobody_behind(tmp_path: Path) -> None:
    for _ in range(4):
        root = LocalProcess.start([sys.executable, "-S", "-c", BUSY], os.environ, tmp_path)
        until(lambda root=root: len(group(root.pid)) > 5, 20)  # type: ignore[misc]
        assert kill_trees([root], 10) == []
        left = group(root.pid)
        kill_all(left)
        assert left == []


def test_a_process_that_cannot_be_written_down_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[LocalProcess] = []

    def full(table: ProcessTable, node: str, process: LocalProcess) -> None:
        started.append(process)
        raise OSError(errno.ENOSPC, "the disk is full")

    monkeypatch.setattr(ProcessTable, "note", full)
    table = ProcessTable(tmp_path / "processes.json", lambda node: tmp_path)
    with pytest.raises(OSError, match="the disk is full"):
        table.start("node0", ["sleep", "60"], os.environ, tmp_path)
    assert [each.lives for each in started] == [False]


KNOWN = asdict(LocalProcess.of(os.getpid()))


@pytest.mark.parametrize(
    ("table", "known"),
    [
        ({"": KNOWN, "node0": KNOWN | {"cgroup": "later"}}, ["", "node0"]),
        ({"": KNOWN, "node0": {"number": 7}, "node1": KNOWN | {"began": "noon"}, "node2": 7}, [""]),
        ([KNOWN], []),
    ],
)
def test_what_another_version_has_written_of_processes_is_read_as_far_as_it_is_understood(
    tmp_path: Path, table: object, known: list[str]
) -> None:
    (tmp_path / "processes.json").write_text(json.dumps(table))
    read = ProcessTable(tmp_path / "processes.json", lambda node: tmp_path).read()
    assert read == dict.fromkeys(known, LocalProcess.of(os.getpid()))


def test_what_another_versions_init_has_left_is_known_or_nothing_is(tmp_path: Path) -> None:
    for left, found in ((KNOWN | {"cgroup": "later"}, LocalProcess.of(os.getpid())), ({"number": 7}, None)):
        (tmp_path / CHILD_FILE).write_text(json.dumps(left))
        assert LocalProcess.left_by_init(tmp_path) == found


def test_what_was_written_without_waiting_for_the_disk_is_waited_for_when_it_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: waited.append(os.fstat(descriptor).st_ino))
    write_whole(tmp_path / "record", b"1", sync=False)
    assert waited == []
    write_whole(tmp_path / "record", b"1")
    assert waited == [(tmp_path / "record").stat().st_ino]
