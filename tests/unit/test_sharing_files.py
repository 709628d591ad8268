"""What workers write in a working directory: what counts as finished, and how versions are put in place."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest
from hand_clock import TurnedClock

from swarmtrain.agent.code import unpack
from swarmtrain.agent.sharing import hashes as hashings
from swarmtrain.agent.sharing import tracker as trackers
from swarmtrain.agent.sharing import unrest
from swarmtrain.agent.sharing import walk as walks
from swarmtrain.agent.sharing.formats import Pointers, named, partners, whole
from swarmtrain.agent.sharing.holdings import Holdings, making_way
from swarmtrain.agent.sharing.leftovers import QUIET
from swarmtrain.agent.sharing.sets import Sets
from swarmtrain.agent.sharing.store import Move, Store
from swarmtrain.agent.sharing.tracker import Tracker
from swarmtrain.agent.sharing.walk import (
    NotShared,
    Rules,
    matches,
    open_for_writing,
    read_content,
    remove_hollow,
    walk,
)
from swarmtrain.coordinator.core.sharing.catalog import settle
from swarmtrain.coordinator.core.sharing.decisions import NodeFiles
from swarmtrain.files.record import Record, stamp_of
from swarmtrain.protocol.shared_files import LINK, SetReport, SetVersion, SharedFile, link_content
from swarmtrain.wire.clock import MACHINE, Clock


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def write(path: Path, content: bytes = b"x", age: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def archive(path: Path, content: str = "x", age: float = 0.0) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data", content)
    return write(path, path.read_bytes(), age)


def tracker(
    work: Path, record: Record | None = None, clock: Clock = MACHINE, **rules: tuple[str, ...]
) -> Tracker:
    return Tracker(Sets(work, record or Record(), Rules(**rules), lambda sha256: None), clock)


def told(reports: list[SetReport]) -> dict[str, list[str]]:
    return {each.path: [file.name for file in each.changed] for each in reports}


def look(watch: Tracker, *pids: int) -> dict[str, list[str]]:
    return told(watch.look(lambda: list(pids)))


# ---- what is found ---------------------------------------------------------------------------------------------------


def test_only_files_of_the_workers_are_found(work: Path) -> None:
    write(work / "a.pt")
    write(work / "c" / ".metadata")
    write(work / "__pycache__" / "x.pyc")
    write(work / ".swarmtrain-code.json", b"{}")
    (work / "elsewhere").symlink_to("/etc")
    (work / "outside").symlink_to("../other/checkpoint-60")
    (work / "itself").symlink_to(".")
    os.mkfifo(work / "pipe")
    assert sorted(walk(work, Rules()).files) == ["a.pt", "c/.metadata"]
    assert sorted(walk(work, Rules(never=("c",))).files) == ["a.pt"]
    assert sorted(walk(work, Rules(only=("*.pt",))).files) == ["a.pt"]


def test_a_link_is_a_file_that_holds_where_it_leads(work: Path) -> None:
    write(work / "c" / "checkpoint-60" / "a.pt", age=60)
    leads = {"last": "checkpoint-60", "best": str(work / "c" / "checkpoint-60"), "new": "../gone"}
    for name, where in leads.items():
        (work / "c" / name).symlink_to(where)
    sets = tracker(work).sets
    sets.look()
    changed, _ = sets.changes("c")
    found = {file.name: file for file in changed}
    for name, text in {"last": "checkpoint-60", "best": "checkpoint-60", "new": "../gone"}.items():
        content = link_content(text)
        with read_content(work / "c" / name) as file:
            assert file.read() == content and found[name].sha256 == sha(content)
        assert (found[name].size, found[name].mode) == (len(content), LINK)
    assert sets.names("c", changed) == {"c/checkpoint-60"}, "they hold when what they lead to does"


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.pt", "a.pt", True),
        ("*.pt", "b/a.pt", True),
        ("logs", "logs/a/b.txt", True),
        ("logs/**", "logs/a/b.txt", True),
        ("logs/", "logs/a", True),
        ("logs", "catalogs", False),
    ],
)
def test_patterns(pattern: str, path: str, expected: bool) -> None:
    assert matches(path, [pattern]) is expected


def test_a_huge_directory_costs_one_bounded_look(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walks, "MOST_OF_ONE", 50)
    for number in range(200):
        write(work / "many" / str(number))
    write(work / "a.pt")
    looks: list[int] = []
    listed = os.scandir

    def counted(path: Path) -> object:
        looks.append(1)
        return listed(path)

    monkeypatch.setattr(os, "scandir", counted)
    watch = tracker(work)
    watch.look(list)
    first = len(looks)
    watch.look(list)
    assert (first, len(looks)) == (2, 3)
    assert watch.sets.left_out == {"many": NotShared("it has more than 50 files")}


@pytest.mark.parametrize(
    ("limit", "most", "why"),
    [
        pytest.param("MOST_OF_ONE", 5, "it has more than 5 files", id="files"),
        pytest.param("MOST_BYTES", 5, "it has more than 0 GB", id="bytes"),
        pytest.param("_MOST_ENTRIES", 5, "it has more than 5 entries", id="entries"),
        pytest.param("_MOST_WAITING", 1, "there are too many directories", id="directories"),
        pytest.param("_DEPTH", 0, "there are too many directories", id="depth"),
    ],
)
def test_a_directory_with_too_much_in_it_stays_where_it_is_and_others_do_not(
    work: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int, why: str
) -> None:
    monkeypatch.setattr(walks, limit, most)
    write(work / "a.pt")
    for number in range(6):
        write(work / "many" / str(number))
    for name in ("d", "e"):
        (work / "many" / name).mkdir()
    found = walk(work, Rules())
    assert (list(found.files), found.left_out) == (["a.pt"], {"many": NotShared(why)})
    assert walk(work, Rules(), found.left_out) == found
    shutil.rmtree(work / "many")
    assert walk(work, Rules(), found.left_out).left_out == {}


def test_of_too_many_files_the_directories_with_the_most_stay_where_they_are(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walks, "MOST_FILES", 5)
    for number in range(4):
        write(work / "data" / "train" / str(number))
    for number in range(3):
        write(work / "data" / str(number))
    write(work / "a.pt")
    write(work / "runs" / "step-1" / "a.pt")
    found = walk(work, Rules())
    assert sorted(found.files) == ["a.pt", "data/0", "data/1", "data/2", "runs/step-1/a.pt"]
    why = "there are more than 5 files"
    assert found.left_out == {"data/train": NotShared(why)}
    assert walk(work, Rules(), found.left_out) == found
    write(work / "runs" / "step-2" / "a.pt")
    again = walk(work, Rules(), found.left_out)
    assert sorted(again.files) == ["a.pt", "runs/step-1/a.pt", "runs/step-2/a.pt"]
    assert again.left_out == {"data": NotShared(why, below=False), "data/train": NotShared(why)}


def test_of_too_many_files_in_the_working_directory_itself_its_directories_are_none_the_less_shared(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walks, "MOST_OF_ONE", 5)
    for number in range(6):
        write(work / f"sample-{number}", age=60)
    write(work / "c" / "a.pt", age=60)
    watch = tracker(work)
    look(watch)
    assert look(watch) == {"c": ["a.pt"]}
    assert (watch.sets.why_not(""), watch.sets.why_not("c")) == ("it has more than 5 files", "")


def test_a_tree_of_any_size_costs_a_bounded_look(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walks, "MOST_DIRECTORIES", 20)
    for number in range(400):
        write(work / f"{number % 20}" / f"{number}" / "a")
    looks: list[Path] = []
    listed = os.scandir

    def counted(path: Path) -> object:
        looks.append(path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", counted)
    watch = tracker(work)
    watch.look(list)
    watch.look(list)
    assert len(looks) == 40
    assert {left.why for left in watch.sets.left_out.values()} == {"there are too many directories"}
    assert len(watch.sets.left_out) <= 400


def test_a_directory_that_may_not_be_read_is_left_alone_until_it_may(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(work / "a.pt", age=60)
    write(work / "locked" / "b.pt", age=60)
    listed = os.scandir

    def refused(path: Path) -> object:
        if path.name == "locked":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return listed(path)

    watch = tracker(work)
    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refused)
        look(watch)
        assert look(watch) == {"": ["a.pt"]}
        assert watch.sets.why_not("locked") == "it cannot be read: Permission denied"
    look(watch)
    assert look(watch) == {"locked": ["b.pt"]} and not watch.sets.left_out


def test_what_lies_in_a_directory_in_which_nothing_can_be_looked_up_has_not_gone_for_that(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its names can be read, as its permissions have it, and no more."""
    write(work / "locked" / "b.pt", age=60)
    listed = os.scandir

    class Refused:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.name, self.path = entry.name, entry.path

        def is_dir(self, *, follow_symlinks: bool) -> bool:
            return False  # what the kernel says of an entry, without looking it up

        def stat(self, *, follow_symlinks: bool) -> os.stat_result:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    @contextlib.contextmanager
    def refused(path: Path) -> Iterator[list[object]]:
        with listed(path) as entries:
            yield [Refused(each) if path.name == "locked" else each for each in entries]

    watch = tracker(work)
    look(watch)
    look(watch)
    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refused)
        assert look(watch) == {} and not watch.report(["locked"], list)
        assert watch.sets.why_not("locked") == "it cannot be read: Permission denied"
    look(watch)
    assert watch.sets.is_watched("locked") and list(watch.sets.files("locked")) == ["b.pt"]


def test_a_file_that_may_not_be_read_keeps_no_other_from_being_shared(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.pt", "secret"):
        write(work / name, age=60)

    def refused(path: Path) -> object:
        if path.name == "secret":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return read_content(path)

    monkeypatch.setattr(hashings, "read_content", refused)
    watch = tracker(work)
    look(watch)
    assert look(watch) == {"": ["a.pt"]}
    note(watch, "")
    (found,) = watch.rest()
    assert not found.changed and watch.sets.unreadable == {"secret"}


def test_a_file_is_read_when_another_write_would_stamp_it_anew(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clocks of file systems tick slowly: written twice within one tick, it has one stamp."""
    ages: list[int] = []

    def read(path: Path) -> BinaryIO:
        ages.append(time.time_ns() - path.stat().st_mtime_ns)
        return read_content(path)

    monkeypatch.setattr(hashings, "read_content", read)
    stamp = stamp_of(write(work / "a.pt"))
    assert stamp is not None and tracker(work).sets.hashes.of("a.pt", stamp) == sha(b"x")
    assert ages[0] >= 10_000_000


def test_names_of_any_kind_and_what_is_no_file_do_no_harm(work: Path) -> None:
    for no_text in (b"\xff\xfe", b"\xff-directory/a"):
        write(work / os.fsdecode(no_text))
    names = ["n" * 255, "\u00e9" * 127, "new\nline", "*.pt", " ", "-rf"]
    for name in names:
        write(work / name, age=60)
    os.mkfifo(work / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(work)  # the path of a socket has an end
        try:
            listener.bind("socket")
        finally:
            os.chdir(here)
        watch = tracker(work)
        look(watch)
        assert sorted(look(watch)[""]) == sorted(names)
    with pytest.raises(OSError, match="no file any more"):
        read_content(work / "fifo")


def test_names_of_one_file_are_files_and_holes_are_read_as_what_they_stand_for(work: Path) -> None:
    with write(work / "sparse", age=60).open("r+b") as file:
        file.truncate(50 << 20)
    os.utime(work / "sparse", (1.0, 1.0))
    os.link(work / "sparse", work / "linked")
    watch = tracker(work)
    look(watch)
    (found,) = watch.look(list)
    assert {(each.name, each.size) for each in found.changed} == {("sparse", 50 << 20), ("linked", 50 << 20)}
    assert {each.sha256 for each in found.changed} == {sha(b"x" + bytes((50 << 20) - 1))}


def test_what_cannot_be_read_has_not_gone(work: Path, tmp_path: Path) -> None:
    write(work / "c" / "a.pt", age=60)
    watch = tracker(work)
    watch.look(list)
    watch.look(list)
    note(watch, "c")
    work.rename(tmp_path / "elsewhere")
    assert watch.rest() == []


def test_files_that_are_open_for_writing_are_seen(work: Path) -> None:
    code = "import sys, mmap\n"
    code += "a = open('plain', 'w'); b = open('log', 'a'); c = open('read', 'r')\n"
    code += "d = open('mapped', 'r+b'); e = mmap.mmap(d.fileno(), 0); d.close()\n"
    code += "print('ready', flush=True); sys.stdin.read()"
    write(work / "read")
    write(work / "mapped", b"x" * 4096)
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=work, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        found = {each.path: each.appends for each in open_for_writing(work, [process.pid])}
        process.communicate()
    assert found == {"plain": False, "log": True, "mapped": False}


# ---- what is finished ------------------------------------------------------------------------------------------------


def note(watch: Tracker, path: str, number: int = 1) -> SetVersion:
    """What is told becomes a version."""
    (answer,) = watch.report([path], list)
    assert not answer.writing, "no version would come of it"
    sizes = {name: stamp.size for name, stamp in watch.sets.files(path).items()}
    files = [SharedFile(name, sizes[name], digest, 0.0) for name, digest in watch.sets.in_place(path).items()]
    version = SetVersion(path, 1, number, files)
    known = watch.sets.record.of(path)
    known.newest = known.whole = version
    watch.noted(path)
    return version


def test_a_set_is_told_once_when_it_has_been_quiet(work: Path) -> None:
    watch = tracker(work)
    write(work / "c" / "a.pt")
    assert look(watch) == {}
    assert look(watch) == {}, "it is quiet for less than a moment"
    os.utime(work / "c" / "a.pt", (time.time() - QUIET - 1,) * 2)
    assert look(watch) == {}, "it has changed since the last look"
    assert look(watch) == {"c": ["a.pt"]}
    assert look(watch) == {}, "it is told once"


@pytest.fixture
def writer(work: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has two files open: one that it appends to."""
    code = "import sys; a = open('c/open.bin', 'w'); b = open('train.log', 'a'); a.write('x'); a.flush()\n"
    code += "b.write('x'); b.flush(); print('ready', flush=True); sys.stdin.read()"
    (work / "c").mkdir(exist_ok=True)
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=work, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        yield process
        process.communicate()


def test_a_file_that_is_open_holds_up_its_set_and_a_log_does_not(
    work: Path, writer: subprocess.Popen[bytes]
) -> None:
    watch = tracker(work)
    write(work / "a.pt", age=60)
    write(work / "c" / "b.pt", age=60)
    os.utime(work / "c" / "open.bin", (time.time() - 60,) * 2)
    assert look(watch, writer.pid) == {}
    assert look(watch, writer.pid) == {"": ["a.pt"]}
    assert watch.sets.record.streams == ["train.log"]


@pytest.mark.parametrize(
    ("grace", "expected"),
    [
        pytest.param(0.0, {"c": ["a.pt"], "d": ["b.pt"]}, id="begun long after"),
        pytest.param(3600.0, {}, id="begun a moment after"),
    ],
)
def test_what_was_deleted_counts_though_something_is_always_being_written(
    work: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    grace: float,
    expected: dict[str, list[str]],
) -> None:
    monkeypatch.setattr(trackers, "GRACE", grace)
    watch = tracker(work)
    for path in ("c/a.pt", "d/b.pt"):
        write(work / path, age=60)
    look(watch)
    look(watch)
    for path in ("c", "d"):
        note(watch, path)
    for path in ("c/a.pt", "d/b.pt"):
        (work / path).unlink()
    assert look(watch) == {}, "it has gone since the last look"
    pid = request.getfixturevalue("writer").pid
    found = {each.path: each.gone for _ in range(3) for each in watch.look(lambda: [pid])}
    assert found == expected
    asked = watch.report(["c", "d"], lambda: [pid])
    assert {each.path: each.gone for each in asked if each.gone} == expected
    assert not any(each.changed for each in asked)


def test_one_file_that_is_written_again_and_again_is_taken_when_it_is_closed(work: Path) -> None:
    watch = tracker(work)
    archive(work / "s.pt", "1", age=60)
    look(watch)
    assert look(watch) == {"": ["s.pt"]}
    note(watch, "")
    archive(work / "s.pt", "2")
    assert look(watch) == {"": ["s.pt"]}
    (work / "s.pt").write_bytes((work / "s.pt").read_bytes()[:-5])
    assert look(watch) == {}


def test_what_a_full_disk_has_torn_is_no_checkpoint_though_its_writer_goes_on_for_a_while(work: Path) -> None:
    """The workers of a run need up to half a minute to end, when one has failed as it saved."""
    clock = TurnedClock()
    watch = tracker(work, clock=clock)
    whole_one = archive(work / "whole.ckpt", age=60).read_bytes()
    write(work / "c" / "epoch=1.ckpt", whole_one[:-5])
    (work / "whole.ckpt").unlink()
    for _ in range(5):
        clock.passed += 6.0
        assert look(watch) == {}
    assert [each.writing for each in watch.report(None, list)] == [True]
    clock.passed += 60.0
    assert look(watch) == {"c": ["epoch=1.ckpt"]}, "its format may be another one"


def test_the_only_file_of_a_set_is_taken_when_it_has_been_written_anew_a_few_times(work: Path) -> None:
    watch = tracker(work)
    found = []
    for written in (True, False, True, False, True):
        if written:
            write(work / "c" / "state.bin", os.urandom(8))
        found.append(look(watch))
    assert found == [{}, {}, {}, {}, {"c": ["state.bin"]}]
    note(watch, "c")
    write(work / "c" / "state.bin", os.urandom(8))
    assert look(watch) == {"c": ["state.bin"]}, "and from then on each time"


@pytest.mark.parametrize("beside", ["state.json", "model-{}.bin", "c/state.json"])
def test_a_checkpoint_beside_what_is_written_more_often_than_it_could_rest_is_taken(
    work: Path, beside: str
) -> None:
    """A file that is written every second and a half leaves its directory neither quiet nor changed at each look."""
    clock = TurnedClock()
    watch = tracker(work, clock=clock)
    where = beside.rpartition("/")[0]
    write(work / where / "model.pt")
    written: dict[str, int] = {"model.pt": 0}
    taken: dict[str, int] = {}
    for second in range(24):
        if second % 3 != 2:
            path = write(work / beside.format(second), b"%d" % second)
            os.utime(path, (clock.unix(),) * 2)
            written.setdefault(path.name, second)
        for name in look(watch).get(where, []):
            taken.setdefault(name, second)
            note(watch, where)
        clock.passed += 1.0
    late = {name: second for name, second in written.items() if taken.get(name, 99) - second > 8}
    assert all(second > 16 for second in late.values()), "what came last is waited for"


@pytest.mark.parametrize("apart", [1.0, 1.5])
def test_a_first_checkpoint_of_many_files_is_taken_when_the_last_of_them_is_there(
    work: Path, apart: float
) -> None:
    assert list(_taken_of_many(work, apart)) == [12]


@pytest.mark.parametrize("apart", [1.0, 1.5])
def test_a_directory_to_which_files_are_added_all_the_time_is_taken_at_last(
    work: Path, apart: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unrest, "ENDLESS", 3)
    assert min(_taken_of_many(work, apart)) < 12


def _taken_of_many(work: Path, apart: float) -> Iterator[int]:
    """How many of 12 files there were of a directory whenever it was taken; they are written with pauses between."""
    clock, written = TurnedClock(), 0
    watch = tracker(work, clock=clock)
    for second in range(30):
        while written < min(12, 1 + second / apart):
            written += 1
            os.utime(write(work / "c" / f"layer-{written}.npy"), (clock.unix(),) * 2)
        if look(watch):
            note(watch, "c")
            yield written
        clock.passed += 1.0


def test_checkpoints_that_follow_each_other_too_fast_to_rest_are_not_taken_half(work: Path) -> None:
    """Each is written over in its place: half of it would be with half of the one before."""
    clock = TurnedClock()
    watch = tracker(work, clock=clock)
    for second in range(30):
        if second % 3 < 2:
            path = work / "last" / ("model.pt", "optimizer.pt")[second % 3]
            os.utime(write(path, b"%d" % (second // 3)), (clock.unix(),) * 2)
        assert look(watch) == {}
        clock.passed += 1.0
    assert sorted(look(watch)["last"]) == ["model.pt", "optimizer.pt"]


def test_between_looks_that_are_far_apart_nothing_is_known_to_be_restless(work: Path) -> None:
    """As where the coordinator was away, or a look takes long."""
    clock = TurnedClock()
    watch = tracker(work, clock=clock)
    for name in ("notes.txt", "model.pt"):
        os.utime(write(work / name), (clock.unix(),) * 2)
        assert look(watch) == {}
        clock.passed += 20.0
    assert sorted(look(watch)[""]) == ["model.pt", "notes.txt"]


def test_what_is_to_be_renamed_when_it_is_whole_is_shared_with_nobody(work: Path) -> None:
    temporary = ("state.bin.tmp", ".metadata.tmp", "tmpab12_xyz", "model.pt.tmp-17", "a.part", "a.bin~")
    lasting = ["temperature.json", "template", "tmp.pt"]
    for name in (*temporary, *lasting):
        write(work / name, age=60)
    watch = tracker(work)
    look(watch)
    assert sorted(look(watch)[""]) == lasting
    assert [sorted(each.name for each in found.changed) for found in watch.rest()] == [lasting]


def test_a_temporary_file_that_is_open_holds_up_a_set_unless_that_is_one_file_again_and_again(
    work: Path,
) -> None:
    code = "import sys; a = open('c/b.pt.tmp', 'w'); a.write('x'); a.flush()\n"
    code += "print('ready', flush=True); sys.stdin.read()"
    write(work / "c" / "a.pt", age=60)
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=work, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        watch = tracker(work)
        assert [look(watch, process.pid) for _ in range(3)] == [{}, {}, {}]
        for number in range(2):
            write(work / "c" / "a.pt", str(number).encode())
            found = look(watch, process.pid)
        process.communicate()
    assert found == {"c": ["a.pt"]}


def test_what_was_sent_and_is_unchanged_is_nobodys_news(work: Path) -> None:
    write(work / "train.py", b"code", age=60)
    write(work / "config.json", b"{}", age=60)
    (work / ".swarmtrain-code.json").write_text(
        json.dumps({"train.py": sha(b"code"), "config.json": sha(b"other")})
    )
    watch = tracker(work)
    look(watch)
    assert look(watch) == {"": ["config.json"]}


@pytest.mark.parametrize(
    ("torn", "ended_well", "expected"),
    [
        pytest.param(False, False, (False, ["s.pt"]), id="whole by its format"),
        pytest.param(True, False, (True, []), id="torn"),
        pytest.param(True, True, (False, ["s.pt"]), id="by who ended well"),
    ],
)
def test_what_is_left_by_writers_that_are_gone(
    work: Path, torn: bool, ended_well: bool, expected: tuple[bool, list[str]]
) -> None:
    watch = tracker(work)
    archive(work / "s.pt", "1", age=60)
    look(watch)
    look(watch)
    note(watch, "")
    archive(work / "s.pt", "2")
    if torn:
        (work / "s.pt").write_bytes((work / "s.pt").read_bytes()[:-5])
    watch.settle(ended_well=ended_well)
    for each in (watch, tracker(work, watch.sets.record)):
        (found,) = each.rest()
        assert (found.writing, [file.name for file in found.changed]) == expected


def in_place(path: Path) -> None:
    path.write_bytes(b"ne")
    path.chmod(0o600)


def created_anew(path: Path) -> None:
    path.rename(path.with_name("before"))  # which keeps its inode from being used again
    path.write_bytes(b"ne")


def renamed(path: Path) -> None:
    made = write(path.with_name("made.tmp"), b"new", age=0.1)  # written, and a moment later:
    made.replace(path)


@pytest.mark.parametrize(("how", "expected"), [(in_place, True), (created_anew, True), (renamed, False)])
def test_a_file_of_which_the_format_tells_nothing_is_whole_where_it_was_renamed_to_its_place(
    work: Path, how: Callable[[Path], None], expected: bool
) -> None:
    watch = tracker(work, never=("before",))
    write(work / "state.bin", b"old", age=60)
    look(watch)
    look(watch)
    note(watch, "")
    how(work / "state.bin")
    watch.settle(ended_well=False)
    (found,) = watch.rest()
    assert (found.writing, [each.name for each in found.changed]) == (expected, ["state.bin"])


def test_half_of_a_directory_is_not_finished(work: Path) -> None:
    watch = tracker(work)
    (work / "c").mkdir()
    archive(work / "c" / "model.pt")
    watch.settle(ended_well=False)
    assert [each.writing for each in watch.rest()] == [True]


@pytest.mark.parametrize(("name", "expected"), [("other-2", True), ("d/other-2", False)])
def test_a_directory_is_finished_when_its_writer_has_gone_on_to_the_next(
    work: Path, name: str, expected: bool
) -> None:
    (work / "step-1").mkdir()
    for file in ("model.pt", "optimizer.pt"):
        archive(work / "step-1" / file, age=1.0)
    watch = tracker(work)
    write(work / name / "model.pt")
    watch.settle(ended_well=False)
    found = {each.path: each.writing for each in watch.rest()}
    assert found == {"step-1": not expected, name: True}
    assert watch.is_writing


def test_a_directory_is_not_finished_where_another_was_put_beside_it_since(work: Path) -> None:
    """An agent that was killed while it puts versions in place leaves some that nobody has noted."""
    watch = tracker(work)
    (work / "step-3").mkdir()
    archive(work / "step-3" / "model.pt", age=1.0)
    watch.settle(ended_well=False)
    write(work / "step-2" / "model.pt", age=60)
    assert {each.path: each.writing for each in watch.rest()} == {"step-2": True, "step-3": True}


def test_half_of_a_directory_whose_files_keep_the_times_of_others_is_not_finished(work: Path) -> None:
    watch = tracker(work)
    for name in ("model.bin", "optimizer.bin"):
        write(work.parent / "made" / name, age=3600)
    (work / "checkpoint-1").mkdir()
    shutil.copy2(work.parent / "made" / "model.bin", work / "checkpoint-1")
    watch.settle(ended_well=False)
    assert [each.writing for each in watch.rest()] == [True]


def test_what_nobody_has_taken_up_is_told_again(work: Path) -> None:
    watch = tracker(work)
    write(work / "a.pt", age=60)
    look(watch)
    assert [bool(look(watch)) for _ in range(7)] == [True, *[False] * 4, True, False]


def test_what_lay_there_before_anybody_watched_is_whole(work: Path) -> None:
    write(work / "c" / "model.bin")
    assert [each.writing for each in tracker(work, Record(fresh=True)).rest()] == [False]


def test_formats(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.pt")
    assert whole(path) is True
    path.write_bytes(path.read_bytes()[:-1])
    assert whole(path) is False
    with zipfile.ZipFile(path, "w") as file:
        file.comment = b"made by hand"
    write(path, b"PK\x03\x04" + path.read_bytes())
    assert whole(path) is True
    header = json.dumps({"t": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    tensors = len(header).to_bytes(8, "little") + header + b"1234"
    assert whole(write(tmp_path / "a.safetensors", tensors)) is True
    assert whole(write(tmp_path / "a.safetensors", tensors[:-1])) is False
    assert whole(write(tmp_path / "a.json", b"{}")) is True
    assert whole(write(tmp_path / "a.json", b"{")) is False
    assert whole(write(tmp_path / "a.json", b'{"step": 1}\n{"st')) is None
    assert whole(write(tmp_path / "a.bin")) is None
    assert whole(tmp_path / "none") is None


def test_parts_of_a_checkpoint_and_their_index_say_what_they_were_written_with(work: Path) -> None:
    index = pickle.dumps({"storage_data": {"weight": ("__0_0.distcp", 0), "bias": ("__1_0.distcp", 0)}})
    write(work / "c" / "__0_0.distcp", age=60)
    watch = tracker(work)
    look(watch)
    (found,) = watch.look(list)
    assert found.needs == [".metadata"]
    write(work / "c" / ".metadata", index, age=60)
    look(watch)
    (found,) = watch.look(list)
    assert found.needs == [".metadata", "__0_0.distcp", "__1_0.distcp"]
    assert partners(write(work / ".metadata.tmp", index)) == partners(work / "c" / "gone") == []


def test_a_part_that_is_written_again_as_it_was_is_told_with_the_others(work: Path) -> None:
    write(work / "c" / "__0_0.distcp", age=60)
    write(work / "c" / "log", age=60)
    watch = tracker(work)
    look(watch)
    look(watch)
    note(watch, "c")
    write(work / "c" / "__0_0.distcp")
    write(work / "c" / "log")
    (found,) = watch.rest()
    assert [each.name for each in found.changed] == ["__0_0.distcp"]


def test_numbered_directories_go_in_which_nothing_was_written_before_a_kill(work: Path) -> None:
    for name in ("step-1", "step-2/rank-0", "step-3/model", "logs", "step-5", "mine-6"):
        (work / name).mkdir(parents=True)
    write(work / "step-3" / "model" / "a")
    (work / "step-4").symlink_to("step-3")
    then = time.time() - 60
    os.utime(work / "step-5", (then, then))
    assert remove_hollow(work, Rules(never=("mine-*",)), time.time()) == ["step-1", "step-2", "step-2/rank-0"]
    assert sorted(each.name for each in work.iterdir()) == ["logs", "mine-6", "step-3", "step-4", "step-5"]


def test_an_empty_directory_that_was_sent_is_none_in_which_workers_had_written_nothing_yet(
    work: Path,
) -> None:
    with zipfile.ZipFile(work.parent / "code.zip", "w") as code:
        code.writestr("runs/v1/", "")
    unpack([work.parent / "code.zip"], work)
    assert remove_hollow(work, Rules(), time.time()) == []
    assert (work / "runs" / "v1").is_dir()


# ---- putting in place ------------------------------------------------------------------------------------------------


def stored(store: Store, content: bytes, name: str) -> SharedFile:
    write(store.path(sha(content)), content)
    return SharedFile(name, len(content), sha(content), 1000.0)


@pytest.fixture
def store(work: Path) -> Store:
    return Store(work.parent / "shared", work)


def scene(work: Path, store: Store) -> tuple[list[Move], list[str]]:
    """Two files come, of one content; one is replaced and one removed, of which the first is in no version."""
    write(work / "c" / "a", b"mine")
    write(work / "c" / "old", b"old")
    new = stored(store, b"new", "a")
    return [Move("c/a", new), Move("c/b", new._replace(name="b")), Move("c/old", None)], ["c/a"]


def check(work: Path, store: Store) -> None:
    assert {path.name: path.read_bytes() for path in (work / "c").iterdir()} == {"a": b"new", "b": b"new"}
    assert (store.aside / "then" / "c" / "a").read_bytes() == b"mine"
    assert (work / "c" / "a").stat().st_mtime == 1000.0
    assert (work / "c" / "a").stat().st_ino != (work / "c" / "b").stat().st_ino


def test_a_set_is_put_in_place_and_what_is_in_no_version_is_set_aside(work: Path, store: Store) -> None:
    assert store.place(*scene(work, store), "then") == ["c/a"]
    check(work, store)
    assert not store.complete()


def test_a_disk_that_is_full_or_may_not_be_written_leaves_what_was_in_place(
    work: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves, kept = scene(work, store)
    before = {path.name: path.read_bytes() for path in (work / "c").iterdir()}

    def full(*paths: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", full)
        with pytest.raises(OSError, match="No space left"):
            store.place(moves, kept, "then")
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda path, mode: Path(path).name != "c")
        with pytest.raises(PermissionError, match="c may not be written"):
            store.place(moves, kept, "then")
    assert {path.name: path.read_bytes() for path in (work / "c").iterdir()} == before
    assert not Store(work.parent / "shared", work).complete(), "nothing was begun"
    store.place(moves, kept, "then")
    check(work, store)


class Killed(BaseException):
    """The agent dies."""


@pytest.mark.parametrize("after", range(8))
def test_an_agent_that_dies_between_any_two_steps_leaves_the_next_one_to_complete_it(
    work: Path, store: Store, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    moves, kept = scene(work, store)
    before = {path.name: path.read_bytes() for path in (work / "c").iterdir()}
    steps = iter(range(100))

    def dying(name: str) -> None:
        real = getattr(Path, name)

        def step(self: Path, *args: object, **named: object) -> object:
            if next(steps) == after:
                raise Killed
            return real(self, *args, **named)

        monkeypatch.setattr(Path, name, step)

    for name in ("rename", "replace", "unlink"):
        dying(name)
    try:
        store.place(moves, kept, "then")
    except Killed:
        pass
    monkeypatch.undo()
    if Store(work.parent / "shared", work).complete() or after > 0:
        check(work, store)
    else:
        assert {path.name: path.read_bytes() for path in (work / "c").iterdir()} == before


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", "link/x", "c/a/x", "c", ".", ""])
def test_nothing_leads_out_of_the_working_directory(work: Path, store: Store, path: str) -> None:
    write(work / "c" / "a", b"mine")
    (work / "link").symlink_to(work.parent)
    with pytest.raises(OSError):
        store.place([Move(path, stored(store, b"new", "x"))], [], "then")
    assert sorted(each.name for each in work.parent.iterdir()) == ["shared", "work"]


def link(store: Store, leads: str) -> SharedFile:
    return stored(store, link_content(leads), "last")._replace(mode=LINK)


@pytest.mark.parametrize("before", ["nothing", "a link", "a file"])
def test_a_link_is_put_in_place_as_one(work: Path, store: Store, before: str) -> None:
    write(work / "c" / "checkpoint-1" / "a", b"1")
    write(work / "c" / "checkpoint-2" / "a", b"2")
    if before == "a link":
        (work / "c" / "last").symlink_to("checkpoint-1")
    elif before == "a file":
        write(work / "c" / "last", b"mine")
    one = link(store, "checkpoint-2")
    store.place([Move("c/last", one), Move("c/best", one._replace(name="best"))], [], "then")
    assert (work / "c" / "last" / "a").read_bytes() == b"2" == (work / "c" / "best" / "a").read_bytes()
    assert (work / "c" / "last").lstat().st_mtime == 1000.0
    assert not list(store.path(one.sha256).parent.iterdir())
    assert sorted(each.name for each in (work / "c").iterdir()) == [
        "best",
        "checkpoint-1",
        "checkpoint-2",
        "last",
    ]
    store.place([Move("c/last", None)], [], "later")
    assert (work / "c" / "checkpoint-2" / "a").exists() and not os.path.lexists(work / "c" / "last")


def test_a_link_in_the_place_of_a_file_with_its_text_is_a_change_and_the_other_way_round(work: Path) -> None:
    held = Holdings(work, work.parent / "shared", Rules())
    write(work / "checkpoint-1" / "a", b"1", age=60)
    write(work / "last", b"checkpoint-1", age=60)
    kinds = []
    for number, is_link in enumerate((False, True, False), start=1):
        (work / "last").unlink()
        if is_link:
            (work / "last").symlink_to("checkpoint-1")
        else:
            write(work / "last", b"checkpoint-1", age=60)
        held.tracker.settle(ended_well=True)
        (told,) = [each for each in held.tracker.rest() if each.path == ""]
        kinds += [each.mode == LINK for each in told.changed]
        held.note([SetVersion("", number, number, told.changed)])
    assert kinds == [False, True, False]


@pytest.mark.parametrize("stays", [False, True])
def test_a_directory_gives_way_to_a_link_unless_something_in_it_stays_on_its_node(
    work: Path, stays: bool
) -> None:
    """A node whose script has made a directory there is to go on from what the others do."""
    held = Holdings(work, work.parent / "shared", Rules(never=("last/own.*",)))
    write(work / "last" / ("own.pt" if stays else "model.pt"), b"mine")
    write(work / "state.pt", b"1")
    held.sets.look()
    version = SetVersion("", 2, 1, [link(held.store, "checkpoint-2"), stored(held.store, b"2", "state.pt")])
    if stays:
        with pytest.raises(OSError, match="last is in the way"):
            held.place(version, "then")
        assert (work / "last" / "own.pt").read_bytes() == b"mine"
    else:
        assert held.place(version, "then") == ["state.pt", "last"]
        assert (work / "last").readlink() == Path("checkpoint-2") and (work / "state.pt").read_bytes() == b"2"
        assert (work.parent / "aside" / "then" / "last" / "model.pt").read_bytes() == b"mine"


def test_a_directory_that_was_deleted_goes_before_the_link_that_has_its_place_comes(store: Store) -> None:
    new = SetVersion("", 2, 1, [link(store, "checkpoint-2")])
    other, gone, below = (SetVersion(path, 2, 1, []) for path in ("lasting", "last", "last/part"))
    assert making_way([new, other, gone, below]) == [gone, below, new, other]


@pytest.mark.parametrize("leads", ["a/../b", "./a/../../c/b", "a/.."])
def test_a_link_that_goes_up_again_from_what_it_names_stays_where_it_is(work: Path, leads: str) -> None:
    """What it names may be a link, and that may lead to a directory from which up is outside."""
    write(work / "c" / "a.pt")
    (work / "c" / "last").symlink_to(leads)
    assert sorted(walk(work, Rules()).files) == ["c/a.pt"]


@pytest.mark.parametrize("leads", ["/etc", "../../x", "..", "../..", "a/../../../x", "", "../."])
def test_no_link_leads_out_of_the_working_directory(work: Path, store: Store, leads: str) -> None:
    with pytest.raises(OSError, match="would lead out"):
        store.place([Move("c/last", link(store, leads))], [], "then")
    assert not (work / "c").exists()


def test_contents_that_no_version_needs_go(store: Store) -> None:
    one, two = stored(store, b"1", "a"), stored(store, b"2", "b")
    part = write(store.path(two.sha256).with_suffix(".part"), b"2")
    store.keep({one.sha256})
    assert store.has(one.sha256) and not store.has(two.sha256)
    assert not part.exists()


def test_a_copy_of_what_has_changed_meanwhile_is_none(work: Path, store: Store) -> None:
    path = write(work / "a", b"1")
    store.copy(path, SharedFile("a", 1, sha(b"1"), 0.0))
    path.write_bytes(b"2")
    store.copy(path, SharedFile("a", 1, sha(b"3"), 0.0))
    assert [each.name for each in store.path(sha(b"1")).parent.iterdir()] == [sha(b"1")]


def test_what_is_not_shared_here_is_not_written_over(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walks, "MOST_OF_ONE", 1)
    write(work / "c" / "a")
    write(work / "c" / "b")
    sets = tracker(work).sets
    sets.look()
    assert sets.why_not("c") == sets.why_not("c/d") == "it has more than 1 files"
    assert sets.why_not("") == ""


# ---- versions --------------------------------------------------------------------------------------------------------


@pytest.fixture
def held(work: Path) -> Holdings:
    """Of a node with a version of one directory, in which a file was changed, another came, and a log grows."""
    (work / ".swarmtrain-code.json").write_text(json.dumps({"c/sent.py": sha(b"code")}))
    write(work / "c" / "sent.py", b"code", age=60)
    for name in ("a", "b"):
        write(work / "c" / name, b"old", age=60)
    held = Holdings(work, work.parent / "shared", Rules())
    for _ in range(2):
        held.look(list)
    held.tracker.report(["c"], list)
    held.note([version(held, 1, a=b"old", b=b"old")])
    held.record.fence = 1
    held.record.streams.append("c/log")
    write(work / "c" / "a", b"mine")
    write(work / "c" / "more", b"more")
    write(work / "c" / "log", b"mine, too")
    held.sets.look()
    return held


def version(held: Holdings, number: int, **contents: bytes) -> SetVersion:
    """A version of the directory, of which all is in the store; what is named first was written last."""
    files = [
        stored(held.store, content, name)._replace(mtime=1000.0 - number)
        for number, (name, content) in enumerate(contents.items())
    ]
    return SetVersion("c", 1, number, files)


def test_what_is_missing_of_a_version_is_what_no_look_has_read(held: Holdings) -> None:
    known, mine = held.record.of("c"), SharedFile("a", 4, sha(b"mine"), 0.0)
    assert known.newest is known.whole is not None
    wanted = version(held, 2, b=b"new")
    wanted.files.append(mine)
    assert held.missing(wanted) == {mine.sha256: mine}
    held.tracker.rest()
    assert held.missing(wanted) == {}


def test_what_is_in_the_way_of_a_version_goes_but_for_logs_and_code(work: Path, held: Holdings) -> None:
    aside = held.place(version(held, 2, a=b"new", log=b"theirs"), "then")
    assert {path.name: path.read_bytes() for path in (work / "c").iterdir()} == {
        "a": b"new",
        "sent.py": b"code",
        "log": b"mine, too",
    }
    assert sorted(aside) == ["c/a", "c/more"], "what was in a version is nobody's loss"
    assert [each.changed for each in held.tracker.rest()] == [[]]


def test_what_an_agent_that_died_had_put_in_place_is_that_version_for_the_next(
    work: Path, held: Holdings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(path: str) -> None:
        raise Killed

    held.keep([])
    wanted = version(held, 2, a=b"new", b=b"newer")
    monkeypatch.setattr(held.sets, "placed", die)
    with pytest.raises(Killed):
        held.place(wanted, "then")
    (told,) = Holdings(work, work.parent / "shared", Rules()).tracker.rest()
    decided = settle("c", {"node": NodeFiles(0, 1, {"c": told})})
    assert decided is not None and decided.version == wanted


def test_what_others_went_on_without_is_set_aside(held: Holdings) -> None:
    newer = replace(version(held, 2, a=b"new"), fence=2)
    assert sorted(held.place(newer, "then")) == ["c/a", "c/b", "c/more"]


def told_of(held: Holdings) -> SetReport:
    """What it tells of the directory when that has come to rest."""
    for name in ("a", "more", "log"):
        os.utime(held.sets.work / "c" / name, (time.time() - 60,) * 2)
    for _ in range(2):
        held.look(list)
    (told,) = held.tracker.report(["c"], list)
    return told


def test_a_version_that_comes_late_takes_up_only_what_it_was_made_of(work: Path, held: Holdings) -> None:
    made = SetVersion("c", 1, 2, told_of(held).changed)
    write(work / "c" / "a", b"newer, while others have not answered yet", age=30)
    for _ in range(4):
        held.look(list)
    held.note([made])
    (after,) = held.tracker.rest()
    assert "a" in [each.name for each in after.changed], "it is in no version"


def test_a_version_that_is_ordered_again_takes_up_nothing_that_came_after_it(held: Holdings) -> None:
    newest = held.record.of("c").newest
    assert newest is not None
    assert told_of(held).changed
    held.note([newest])
    (after,) = held.tracker.rest()
    assert sorted(each.name for each in after.changed) == ["a", "log", "more"], (
        "nobody has made a version of it"
    )


def test_what_is_written_over_again_and_again_has_a_copy_beside_and_nothing_else_has(held: Holdings) -> None:
    write(held.sets.work / "c" / "b.new", b"renamed", age=60).replace(held.sets.work / "c" / "b")
    assert {"a", "b", "more"} <= {each.name for each in told_of(held).changed}
    assert [held.store.has(sha(each)) for each in (b"mine", b"renamed", b"more")] == [True, False, False]


def test_a_copy_for_which_there_is_no_room_holds_up_nothing(
    held: Holdings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "room", lambda store: 3)
    assert "a" in [each.name for each in told_of(held).changed]
    assert not held.store.has(sha(b"mine"))


def test_contents_are_found_in_place_and_in_the_store(work: Path, held: Holdings) -> None:
    assert held.locate(sha(b"mine")) is None, "nobody has read it yet"
    held.tracker.rest()
    assert held.locate(sha(b"mine")) == work / "c" / "a"
    write(work / "c" / "a", b"anew")
    assert held.locate(sha(b"mine")) is None
    assert held.locate(sha(b"old")) == held.store.path(sha(b"old"))


def test_contents_stay_for_what_holds_and_for_what_is_on_its_way(held: Holdings) -> None:
    newest, wanted = version(held, 2, a=b"newest"), version(held, 3, a=b"wanted")
    held.note([newest])
    held.keep([wanted])
    assert [held.store.has(sha(each)) for each in (b"newest", b"wanted")] == [True, True]
    held.keep([])
    assert [held.store.has(sha(each)) for each in (b"newest", b"wanted")] == [True, False]


def test_a_copy_of_what_was_deleted_stays_while_others_are_on_their_way(held: Holdings) -> None:
    old, deleted = replace(version(held, 1, m=b"m"), path="d"), SetVersion("d", 1, 2, [])
    held.note([old])
    held.record.of("d").whole = old  # it was copied
    held.note([deleted], behind=True)
    held.keep([])
    assert held.store.has(sha(b"m"))
    assert [each.version for each in held.sets.report("d", [], [], writing=False).known] == [deleted, old]
    held.note([version(held, 2, a=b"newer")])
    held.keep([])
    assert not held.store.has(sha(b"m"))


# ---- what names a checkpoint -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("global_step60", ["global_step60"]),
        ("out/global_step60/model.pt\n", ["global_step60"]),
        ('{"last": "checkpoint-60", "best": "checkpoint-50"}', ["out/checkpoint-50", "out/checkpoint-60"]),
        ("60\n", ["global_step60", "out/checkpoint-60"]),
        ("step 60 of 100", []),
        ("data", []),
        ("\xff", []),
    ],
)
def test_a_small_file_names_checkpoints(tmp_path: Path, text: str, expected: list[str]) -> None:
    path = write(tmp_path / "latest", text.encode("latin-1"))
    known = ["", "data", "global_step60", "out/checkpoint-50", "out/checkpoint-60"]
    assert sorted(named(Pointers().words("x", len(text), path), known)) == expected
    assert not Pointers().words("x", 5000, path) and not Pointers().words("x", 5, None)


def pointing(work: Path, watch: Tracker, content: bytes = b'["checkpoint-1"]') -> None:
    """A checkpoint was written, and a file that names it."""
    for name in ("model.bin", "optimizer.bin"):
        write(work / "checkpoint-1" / name)
    write(work / "latest.json", content)
    look(watch)


def test_what_names_a_checkpoint_waits_until_there_is_a_version_of_that(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = tracker(work)
    write(work / "latest.json", b"{}", age=60)
    look(watch)
    look(watch)
    note(watch, "")
    pointing(work, watch)
    assert look(watch) == {}, "one file that is written anew is taken at once else"
    (found,) = watch.report([""], list)
    assert found.writing
    monkeypatch.setattr(trackers, "GRACE", 0.0)
    assert look(watch) == {"": ["latest.json"]}, "it does not wait for ever"
    monkeypatch.setattr(trackers, "GRACE", 30.0)
    for name in ("model.bin", "optimizer.bin"):
        os.utime(work / "checkpoint-1" / name, (time.time() - 60,) * 2)
    look(watch)
    look(watch)
    note(watch, "checkpoint-1")
    write(work / "latest.json", b'{"last": "checkpoint-1"}')
    assert look(watch) == {"": ["latest.json"]}


def test_what_names_each_checkpoint_waits_anew(work: Path) -> None:
    clock = TurnedClock()
    watch = tracker(work, clock=clock)
    for number in (1, 2):
        for path, text in ((f"checkpoint-{number}/model.bin", b"x"), ("latest", b"checkpoint-%d" % number)):
            os.utime(write(work / path, text), (clock.unix(),) * 2)
        for _ in range(3):
            assert "" not in look(watch)
            clock.passed += 5.0
        clock.passed += trackers.GRACE
        assert look(watch)[""] == ["latest"]
        note(watch, "")


def test_what_names_a_checkpoint_that_is_not_finished_is_not_either(work: Path) -> None:
    watch = tracker(work)
    pointing(work, watch, b'{"last": "checkpoint-1"}')
    watch.settle(ended_well=False)
    assert {each.path: each.writing for each in watch.rest()} == {"": True, "checkpoint-1": True}


def test_a_copy_of_what_names_a_checkpoint_is_complete_when_that_is(held: Holdings) -> None:
    held.record.of("step-2").newest = replace(version(held, 1, m=b"m"), path="step-2")
    pointer = SetVersion("", 1, 1, [stored(held.store, b"step-2", "latest")])
    assert held.waits_for(pointer, {"step-2", "step-3"}) == "step-2"
    assert held.waits_for(pointer, {"step-3"}) == "", "it is here, or never to be here"
