"""Large files on this machine: links instead of copies, and never a change of the user's own file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from swarmtrain.agent.code import unpack
from swarmtrain.job import Job, LoadedJob
from swarmtrain.payload import code, packing
from swarmtrain.ui import sending

LARGE = packing.COPIED_FILE_BYTES + 1


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return tree(tmp_path / "project", {"train.py": 10, "data/large.bin": LARGE, "data/small.bin": 10})


def tree(root: Path, sizes: Mapping[str, int]) -> Path:
    """Files of these sizes, which take no room."""
    for name, size in sizes.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.truncate(path, size)
    return root


def arrived(project: Path, work: Path) -> list[str]:
    """Unpack what is sent of a project on this machine; return what was kept for the run's sake."""
    part = work.with_name("code.zip")
    part.write_bytes(code.collect(project, "auto", limit=None, script="train.py").archive)
    return unpack([part], work)


def test_the_largest_files_are_used_where_they_lie(tmp_path: Path) -> None:
    many = {f"many/{number:02}": packing.COPIED_FILE_BYTES for number in range(4)}
    root = tree(tmp_path, {"train.py": LARGE, "large.py": LARGE, "huge": 10**13, "small": 10, **many})
    wanted = LoadedJob(Job(script="train.py"), root)
    sent = code.of(wanted, limit=None)
    assert sent.names == ("many/00", "small", "train.py"), (
        "as much as fits, the smallest first; and the script"
    )
    assert [name for name, _ in sent.in_place] == ["huge", "large.py", "many/01", "many/02", "many/03"]
    assert len(sent.archive) < packing.COPIED_BYTES + LARGE
    (notice,) = sent.notices
    assert notice.startswith("used where it lies, not copied: huge, large.py, many/01 and 2 more (10 TB)")
    assert "past Python" in notice
    assert "    10 TB  huge (used where it lies)" in sending.files(sent)
    assert "the largest is train.py, 16 MB; 5 files, 10 TB, used where they lie" in sending.total(
        sent, wanted
    )
    (notice,) = code.of(LoadedJob(Job(command=["./train.sh"]), root), limit=None).notices
    assert "what the command writes to such a file goes into the file itself" in notice


def test_links_lead_to_the_files_themselves(project: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    assert arrived(project, work) == []
    assert (work / "data/large.bin").readlink() == project / "data/large.bin"
    assert not (work / "data/small.bin").is_symlink()


def test_a_file_that_grows_and_shrinks_between_two_runs_is_the_run_s_own_or_a_link(
    project: Path, tmp_path: Path
) -> None:
    work, large = tmp_path / "work", project / "data/large.bin"
    arrived(project, work)
    large.write_bytes(b"small now")
    large.chmod(0o600)
    assert arrived(project, work) == []
    assert (
        not (work / "data/large.bin").is_symlink() and (work / "data/large.bin").read_bytes() == b"small now"
    )
    assert large.stat().st_mode & 0o777 == 0o600, "nothing went through the link"
    os.truncate(large, LARGE)
    assert arrived(project, work) == []
    assert (work / "data/large.bin").readlink() == large
    (work / "data/large.bin").unlink()
    (work / "data/large.bin").write_bytes(b"the run's")
    assert arrived(project, work) == ["data/large.bin"]
    assert (work / "data/large.bin").read_bytes() == b"the run's"


WRITERS = {
    "open for writing": "open('data/large.bin', 'w').write('x')",
    "append": "open(b'data/large.bin', 'ab').write(b'x')",
    "change": "open(pathlib.Path('data/large.bin'), 'r+b').write(b'x')",
    "pathlib": "pathlib.Path('data/large.bin').write_text('x')",
    "os": "os.write(os.open('data/large.bin', os.O_RDWR), b'x')",
    "truncate": "os.truncate('data/large.bin', 7)",
    "mode": "os.chmod('data/large.bin', 0o640)",
    "by its whole path": "open(os.path.abspath('data/large.bin'), 'w').write('x')",
    "from elsewhere": "os.chdir('data'); open('../data/./large.bin', 'w').write('x')",
    "by a link of the script's": "os.symlink('data', 'd'); os.symlink('d/large.bin', 'a'); open('a', 'w').write('x')",
    "sqlite": "sqlite3.connect('data/large.bin')",
}


@pytest.mark.parametrize("writer", WRITERS)
def test_what_python_writes_goes_into_a_copy(project: Path, tmp_path: Path, writer: str) -> None:
    work, original = tmp_path / "work", project / "data/large.bin"
    arrived(project, work)
    before = known(original)
    done = protected(work, WRITERS[writer])
    assert done.returncode == 0, done.stderr
    assert known(original) == before
    copy = work / "data/large.bin"
    assert not copy.is_symlink()
    if "'w'" in WRITERS[writer] or "write_text" in WRITERS[writer]:
        assert copy.read_text() == "x" and done.stderr == "", "nothing is copied to be thrown away"
    else:
        assert copy.stat().st_size in (LARGE, LARGE + 1, 7)
        assert done.stderr == "swarmtrain: large.bin is copied, since it is about to be written to\n"
    assert [each.name for each in copy.parent.iterdir() if each.name.startswith(".")] == []


@pytest.mark.parametrize(
    "reader",
    [
        "open('data/large.bin', 'rb').read(10)",
        "os.open('data/large.bin', os.O_RDONLY)",
        "open('data/new', 'w').write('x')",
        "os.remove('data/large.bin'); os.symlink('nowhere', 'loop'); open('loop', 'w').write('x')",
        "os.symlink('loop', 'loop')\ntry: open('loop', 'w')\nexcept OSError as error: print(error.errno)",
    ],
)
def test_what_does_not_write_to_it_copies_nothing(project: Path, tmp_path: Path, reader: str) -> None:
    arrived(project, tmp_path / "work")
    done = protected(tmp_path / "work", reader)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "work/data/large.bin").is_file() or (tmp_path / "work/data/large.bin").is_symlink()
    assert (project / "data/large.bin").stat().st_size == LARGE


def test_a_file_that_is_named_by_its_own_path_is_meant(project: Path, tmp_path: Path) -> None:
    arrived(project, tmp_path / "work")
    original = project / "data/large.bin"
    assert protected(tmp_path / "work", f"open({str(original)!r}, 'w').write('x')").returncode == 0
    assert original.read_text() == "x" and (tmp_path / "work/data/large.bin").is_symlink()


def known(path: Path) -> tuple[int, ...]:
    """What a write would have changed of a file."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mode, status.st_mtime_ns


def protected(work: Path, statement: str) -> subprocess.CompletedProcess[str]:
    program = (
        "import os, pathlib, sqlite3\nfrom swarmtrain.worker import copy_on_write\n"
        f"copy_on_write.protect({str(work)!r})\n{statement}"
    )
    argv = [sys.executable, "-W", "ignore", "-c", program]
    return subprocess.run(argv, capture_output=True, text=True, cwd=work, check=False)
