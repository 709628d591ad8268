"""What a peer, or a script, might try with shared files; and that what nobody else may read stays so."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmtrain.agent.sharing import holdings
from swarmtrain.agent.sharing.holdings import Holdings
from swarmtrain.agent.sharing.store import Move, Store
from swarmtrain.agent.sharing.transfer.bringing import Bringing
from swarmtrain.agent.sharing.walk import Rules, remove_hollow
from swarmtrain.errors import RequestError
from swarmtrain.files import fetch
from swarmtrain.files.listing import listing
from swarmtrain.protocol.shared_files import SetVersion, SharedFile
from swarmtrain.protocol.to_agent import ListOrder
from swarmtrain.wire.disk import in_place
from swarmtrain.wire.disk.storage import Storage

LEVELS = 1200  # more than Python calls in calls


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    storage = Storage(tmp_path)
    storage.claim("t.1", "t.1")
    storage.work("t.1", "lab-1").mkdir(parents=True)
    return storage


@pytest.fixture
def work(storage: Storage) -> Path:
    return storage.work("t.1", "lab-1")


@pytest.fixture
def store(work: Path) -> Store:
    return Store(work.parent / "shared", work)


@pytest.fixture
def deep(work: Path) -> Iterator[Path]:
    """Many directories, each in the one before, with a file in the last."""
    before = Path.cwd()
    os.chdir(work)
    try:
        for _ in range(LEVELS):
            Path("q").mkdir()
            os.chdir("q")
        Path("file").write_text("x")
    finally:
        os.chdir(before)
    yield work
    Storage(work.parents[3]).remove("t.1")


def stored(store: Store, content: bytes, mode: int = 0o644) -> SharedFile:
    sha256 = hashlib.sha256(content).hexdigest()
    store.room()
    store.path(sha256).write_bytes(content)
    return SharedFile("a", len(content), sha256, 1000.0, mode=mode)


@pytest.mark.parametrize("name", ["/etc/passwd", "../../work/a", "", "a" * 63, "A" * 64, "a" * 64 + "\n"])
def test_no_name_of_a_content_leads_out_of_the_store(work: Path, store: Store, name: str) -> None:
    (work / "a").write_text("secret")
    file = stored(store, b"new")
    held = Holdings(work, work.parent / "shared", Rules())
    assert held.locate(file.sha256) == store.path(file.sha256)
    assert held.locate(name) is None, "where a peer asks for it"
    with pytest.raises(FileNotFoundError, match="not in the store"):
        store.place([Move("b", file._replace(sha256=name))], [], "then")
    done = Bringing(1)
    assert not asyncio.run(done.pull("token", {name: file}, {}, store))
    assert "is no SHA-256" in done.failed[0]


def test_a_large_file_that_is_used_where_it_lies_gives_way_to_what_a_worker_made_of_it(
    work: Path, store: Store
) -> None:
    """And no other link does."""
    project = work.parents[3] / "project"
    project.mkdir()
    (project / "large.bin").write_bytes(b"large")
    (work / "large.bin").symlink_to(project / "large.bin")
    (work / "other.bin").symlink_to(project)
    (work / in_place.RECORD).write_text(json.dumps({"large.bin": f"{in_place.LINK}{project}/large.bin"}))
    store.place([Move("large.bin", stored(store, b"changed"))], [], "then")
    assert not (work / "large.bin").is_symlink() and (work / "large.bin").read_bytes() == b"changed"
    assert (project / "large.bin").read_bytes() == b"large"
    with pytest.raises(OSError, match=r"other\.bin is in the way"):
        store.place([Move("other.bin", stored(store, b"changed"))], [], "then")


@pytest.mark.parametrize("mode", [0o600, 0o755])
def test_who_may_read_a_file_or_start_it_is_the_same_on_every_node(
    work: Path, store: Store, mode: int
) -> None:
    path = work / "a"
    path.write_bytes(b"mine")
    path.chmod(mode)
    os.utime(path, (1000.0, 1000.0))
    held = Holdings(work, work.parent / "shared", Rules())
    held.look(list)
    (report,) = held.look(list)
    (file,) = report.changed
    assert file.mode == mode
    path.unlink()
    path.write_bytes(b"theirs")
    store.place([Move("a", stored(store, b"mine")._replace(mode=file.mode))], [], "then")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"mine", mode)


@pytest.mark.parametrize("mask", [0o000, 0o022])
def test_nobody_else_looks_into_what_lies_beside_a_working_directory(work: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        held = Holdings(work, work.parent / "shared", Rules())
        held.keep([])
        held.store.room()
    finally:
        os.umask(before)
    assert stat.S_IMODE((work.parent / "shared").stat().st_mode) == 0o700


def test_directories_at_any_depth_keep_no_agent_from_its_work(deep: Path) -> None:
    (deep / "step-1").mkdir()
    assert remove_hollow(deep, Rules(), time.time()) == ["step-1"]


def test_directories_at_any_depth_are_listed_and_sent(deep: Path, storage: Storage) -> None:
    replies = list(listing(storage, "t.1", "lab-1", ListOrder(".", recursive=True)))
    entries = [each for reply in replies for each in reply.entries or ()]
    assert len(entries) == LEVELS + 2 and entries[-1].path == "q/" * LEVELS + "file"
    header = next(iter(fetch.send(deep, "lab-1"))).file
    assert header is not None and header.size > LEVELS * 512


def test_a_run_goes_however_deep_its_directories_are_and_whoever_may_write_there(
    deep: Path, storage: Storage
) -> None:
    (deep / "read-only" / "below").mkdir(parents=True)
    (deep / "read-only" / "below" / "file").touch()
    for name in ("read-only/below", "read-only"):
        (deep / name).chmod(0o500)
    (deep / "link").symlink_to("/etc")
    storage.remove("t.1")
    assert not list(storage.root.glob("*/*"))


def test_of_what_a_long_run_has_written_and_deleted_little_is_remembered(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holdings, "UNUSED_SECONDS", -1.0)
    held = Holdings(work, work.parent / "shared", Rules())
    sizes = []
    for number in range(1, 41):
        (work / f"step-{number}").mkdir()
        for name in (f"step-{number}/model.pt", f"log-{number}"):
            (work / name).write_text(str(number))
            os.utime(work / name, (1000.0, 1000.0))
        held.record.streams.append(f"log-{number}")
        if number > 2:
            shutil.rmtree(work / f"step-{number - 2}")
            (work / f"log-{number - 2}").unlink()
        for report in [each for _ in range(2) for each in held.look(list)]:
            left = [each for each in report.changed if each.name not in report.gone]
            held.note([SetVersion(report.path, 1, number, left)])
        held.record.sets = {path: each for path, each in held.record.sets.items() if held.sets.files(path)}
        held.keep([])
        names = held.tracker.remembered() | held.sets.hashes.remembered() | set(held.record.streams)
        sizes.append((len(names), len(held.record.finished), len(list(work.parent.glob("shared/**/*")))))
    assert sizes[-1] == sizes[10], "it is the same after ten checkpoints and after forty"
    assert held.tracker.remembered() >= {"step-40"}


def test_half_of_a_copy_goes_that_a_killed_agent_has_left(store: Store) -> None:
    """And what has come from a peer stays: another try goes on from there."""
    content = store.path(stored(store, b"new").sha256)
    for suffix in (".copy", ".part"):
        content.with_suffix(suffix).write_bytes(b"n")
    store.keep({content.name})
    assert sorted(each.name for each in content.parent.iterdir()) == [content.name, f"{content.name}.part"]


def test_links_in_a_circle_or_to_what_may_not_be_looked_at_keep_nobody_from_the_rest(
    work: Path, storage: Storage
) -> None:
    (work / "model.pt").write_bytes(b"x")
    for name, leads in {"one": "other", "other": "one", "long": "n" * 4000}.items():
        (work / name).symlink_to(leads)
    replies = listing(storage, "t.1", "lab-1", ListOrder(".", recursive=True))
    found = {each.path: each.link for reply in replies for each in reply.entries or ()}
    assert found == {".": "", "model.pt": "", "one": "other", "other": "one", "long": "n" * 4000}
    assert any(reply.done for reply in fetch.send(work, "lab-1"))
    for name in ("one", "one/model.pt"):
        with pytest.raises(RequestError, match=f"there is no {name} on lab-1"):
            fetch.locate(storage, "t.1", "lab-1", name)
