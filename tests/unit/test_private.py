"""Nobody else's directory is used, and no link is followed, in places that all users of a machine share.

A second user is a real one where the tests run as root. Elsewhere nobody can be had but this user, so that this user
is taken for another one: the ownership is real, the question who asks is not.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swarmtrain import Job
from swarmtrain.agent.run_directories import RunDirectories
from swarmtrain.agent.worker_group import memory
from swarmtrain.errors import ClusterError
from swarmtrain.job import LoadedJob
from swarmtrain.launchers.local import LocalLauncher, checks, links
from swarmtrain.payload import bundle
from swarmtrain.wire.disk import private, storage
from swarmtrain.wire.disk.storage import Storage
from swarmtrain.wire.pulse import Pulse, opened

SOMEBODY = 65534

Act = Callable[[Callable[[], object]], None]


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A place like /tmp, in which everybody may make things."""
    place = tmp_path / "shared"
    place.mkdir()
    place.chmod(0o1777)
    for parent in tmp_path.parents:  # pytest's own directories are closed to others
        if parent.stat().st_uid == os.getuid() and not parent.stat().st_mode & stat.S_IXOTH:
            parent.chmod(0o711)
    tmp_path.chmod(0o711)
    return place


@pytest.fixture
def somebody_else(monkeypatch: pytest.MonkeyPatch) -> Act:
    """Do something as another user, before this one comes."""

    def act(what: Callable[[], object]) -> None:
        if os.getuid():
            what()
            monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
            return
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.setgroups([])
                os.setgid(SOMEBODY)
                os.setuid(SOMEBODY)
                what()
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0

    return act


@pytest.fixture
def in_memory(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What stands for /dev/shm."""
    monkeypatch.setattr(storage, "_SHARED", shared)
    yield shared


def test_a_directory_of_ones_own_is_made_so_that_nobody_else_writes_into_it(shared: Path) -> None:
    mask = os.umask(0)
    try:
        private.make(shared / "ours")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((shared / "ours").stat().st_mode) == 0o700
    private.make(shared / "ours")
    assert private.is_safe(shared / "ours")


@pytest.mark.parametrize(
    ("left", "why"),
    [
        (lambda path: path.mkdir(mode=0o777), "belongs to"),
        (lambda path: path.symlink_to("/etc"), "is a link"),
        (lambda path: path.write_text("x"), "is no directory"),
    ],
)
def test_what_somebody_else_has_put_in_its_place_is_refused(
    shared: Path, somebody_else: Act, left: Callable[[Path], object], why: str
) -> None:
    somebody_else(lambda: left(shared / "guessed"))
    with pytest.raises(PermissionError, match=why):
        private.make(shared / "guessed")
    assert not private.is_safe(shared / "guessed")


def test_a_directory_that_others_can_write_is_refused_though_it_is_ones_own(shared: Path) -> None:
    (shared / "open").mkdir()
    for mode in (0o770, 0o702, 0o777):
        (shared / "open").chmod(mode)
        with pytest.raises(PermissionError, match=f"its mode is {mode:04o}"):
            private.make(shared / "open")


def test_snapshots_below_somebody_elses_directory_are_not_trusted(shared: Path, somebody_else: Act) -> None:
    """The own directory stands in one whose owner may exchange it."""
    (shared / "theirs").mkdir(mode=0o777)
    (shared / "theirs").chmod(0o777)
    (shared / "theirs" / "ours").mkdir(mode=0o700)
    assert not private.is_safe(shared / "theirs" / "ours")
    (shared / "theirs").chmod(0o755)
    assert private.is_safe(shared / "theirs" / "ours")
    if not os.getuid():
        os.chown(shared / "theirs", SOMEBODY, SOMEBODY)
        assert not private.is_safe(shared / "theirs" / "ours")


def test_memory_is_the_roots_own_where_its_name_is_taken(
    in_memory: Path, tmp_path: Path, somebody_else: Act
) -> None:
    root = tmp_path / "home"
    node = Storage(root).memory("t.1", "a")
    assert node.parent.parent.parent == in_memory
    somebody_else(lambda: node.parent.parent.mkdir(mode=0o755))
    assert Storage(root).memory("t.1", "a") == root / "memory" / "t.1" / "a"


def test_a_nodes_memory_is_closed_from_top_to_bottom(in_memory: Path, tmp_path: Path) -> None:
    home = RunDirectories(Storage(tmp_path / "home"), "t.1", "t.1", "a")
    memory.lay_out(home.memory, "owner")
    path = home.memory_snapshots
    while path != in_memory:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        path = path.parent
    assert private.is_safe(home.memory_snapshots)
    memory.remove(home.memory)
    assert list(in_memory.iterdir()) == []


def test_a_pulse_is_a_new_file_and_no_link_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("all my work" * 20)
    (tmp_path / "pulse").symlink_to(precious)
    with pytest.raises(OSError, match="symbolic links"):
        Pulse.map(tmp_path / "pulse")
    monkeypatch.setenv("SWARMTRAIN_PULSE", str(tmp_path / "pulse"))
    assert opened() is None
    Pulse.create(tmp_path / "pulse")
    assert precious.read_text() == "all my work" * 20
    assert stat.S_IMODE((tmp_path / "pulse").lstat().st_mode) == 0o600
    assert stat.S_ISREG((tmp_path / "pulse").lstat().st_mode)


def test_a_pulse_of_somebody_else_is_nobodys(
    shared: Path, somebody_else: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    def theirs() -> None:
        Pulse.create(shared / "pulse")
        (shared / "pulse").chmod(0o666)

    somebody_else(theirs)
    with pytest.raises(PermissionError, match="somebody else"):
        Pulse.map(shared / "pulse")


def test_runs_are_neither_kept_nor_found_where_somebody_else_could_put_one(
    shared: Path, tmp_path: Path, somebody_else: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SWARMTRAIN_HOME", str(shared / "runs-of-all"))
    launcher = LocalLauncher()
    assert launcher.runs() == []  # there is nothing yet
    somebody_else(lambda: (shared / "runs-of-all" / "runs" / "train.1").mkdir(parents=True))
    with pytest.raises(ClusterError, match="runs-of-all belongs to") as refused:
        launcher.runs()
    assert "SWARMTRAIN_HOME" in refused.value.hint
    with pytest.raises(ClusterError, match="belongs to"):
        launcher.check(LoadedJob.of(Job(script="train.py")))


def test_runs_are_not_kept_below_what_everybody_may_rename(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.chmod(0o777)
    monkeypatch.setenv("SWARMTRAIN_HOME", str(shared / "home"))
    with pytest.raises(ClusterError, match="no sticky bit"):
        LocalLauncher().runs()


def test_the_bundle_is_not_run_from_a_cache_of_somebody_else(
    shared: Path, somebody_else: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bundle.build().data
    monkeypatch.setattr(bundle, "_pack", lambda: data)
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared))
    path = bundle.on_disk()
    assert path.read_bytes() == data
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared / "more"))

    def theirs() -> None:
        there = shared / "more" / "swarmtrain"
        there.mkdir(parents=True)
        (there / path.name).write_bytes(data)

    somebody_else(theirs)
    with pytest.raises(PermissionError, match="belongs to"):
        bundle.on_disk()


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is made by whatever imports a module of somebody's from the current directory, as from /tmp."""
    made, here = tmp_path / "made", tmp_path / "somebodys"
    here.mkdir()
    for name in ("json", "contextlib", "torch"):
        (here / f"{name}.py").write_text(f"open({str(made)!r}, 'w').close()\nraise SystemExit(9)\n")
    monkeypatch.chdir(here)
    return made


def test_nothing_is_imported_from_where_a_run_is_asked_for(tmp_path: Path, imported: Path) -> None:
    place = tmp_path / "runs" / "digits.1" / "coordinator"
    place.mkdir(parents=True)
    with links.archive(place) as link:
        link.send({"op": "status"})
        assert "error" in (link.receive() or {}), "there is nothing in it to tell of"
    assert not imported.exists()


def test_torch_is_not_what_has_its_name_where_a_run_is_started(
    tmp_path: Path, imported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = LoadedJob.of(Job(script="json.py", python=sys.executable), imported.parent / "somebodys")
    with contextlib.suppress(ClusterError):  # that Python may have none
        checks.check(job)
    assert not imported.exists()


def test_a_home_of_nobody_s_is_no_place_for_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARMTRAIN_HOME", "~nobody-at-all/runs")
    with pytest.raises(ClusterError, match="SWARMTRAIN_HOME is ~nobody-at-all/runs"):
        LocalLauncher()
