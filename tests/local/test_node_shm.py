"""Nothing that a run's processes have made in /dev/shm is left when it has ended, and nothing of others is touched."""

from __future__ import annotations

import mmap
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import until

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle

SHARED = Path("/dev/shm")

# Leaves what nobody unlinks: a segment whose tracker is to see to it, one that no tracker knows, a file that is held
# open, a semaphore, a tensor that torch shares by file; and it has somebody else's segment in hands.
LEAVES = """
import ctypes, os, sys, time
from multiprocessing import resource_tracker, shared_memory
mark, theirs, seconds = sys.argv[1:]
shared_memory.SharedMemory(create=True, size=4096, name=f"{mark}-tracked-{os.getpid()}")
lost = shared_memory.SharedMemory(create=True, size=4096, name=f"{mark}-lost-{os.getpid()}")
resource_tracker.unregister(lost._name, "shared_memory")
held = open(f"/dev/shm/{mark}-held-{os.getpid()}", "w")
ctypes.CDLL(None).sem_open(f"/{mark}-{os.getpid()}".encode(), os.O_CREAT, 0o600, 1)
other = shared_memory.SharedMemory(name=theirs)
resource_tracker.unregister(other._name, "shared_memory")
time.sleep(3)  # an agent on a busy machine looks that rarely
open(f"ready-{os.environ['SWARMTRAIN_GENERATION']}", "w").close()
time.sleep(float(seconds))
"""

pytestmark = pytest.mark.usefixtures("home")


class Segment:
    """Shared memory that this process makes and holds; without Python's tracker, which would be a process more."""

    def __init__(self, name: str) -> None:
        self._path = SHARED / name
        with self._path.open("x+b") as file:
            file.truncate(4096)
            self._kept = mmap.mmap(file.fileno(), 4096)

    def remove(self) -> None:
        """It is here still."""
        self._kept.close()
        self._path.unlink()


@pytest.fixture
def theirs() -> Iterator[str]:
    """A segment of another process, this one, is there before the run; the mark of all that the run makes."""
    mark = f"shmtest{os.getpid()}"
    segment = Segment(f"{mark}-theirs")
    yield mark
    segment.remove()


def left(mark: str) -> set[str]:
    """What is there, by its kind."""
    names = {path.name.removeprefix("sem.") for path in SHARED.iterdir() if mark in path.name}
    return {name.split("-")[1].rstrip("0123456789") or "semaphore" for name in names}


def start(directory: Path, mark: str, seconds: float, **job: object) -> RunHandle:
    (directory / "leaves.py").write_text(LEAVES)
    args = (mark, f"{mark}-theirs", str(seconds))
    return Client("local").run(Job(script="leaves.py", args=args, nodes=2, start="cold", **job))  # type: ignore[arg-type]


def test_what_a_run_has_made_goes_with_it_and_nothing_else(tmp_path: Path, theirs: str) -> None:
    handle = start(tmp_path, theirs, 0.0)
    until(lambda: {"lost", "held", "semaphore", "tracked"} <= left(theirs))
    late = Segment(f"{theirs}-late")
    try:
        assert handle.wait(timeout=60).state == "succeeded"
        until(lambda: left(theirs) == {"theirs", "late"}, 10)
        time.sleep(0.5)
        assert left(theirs) == {"theirs", "late"}
    finally:
        late.remove()


@pytest.mark.parametrize("victim", ["worker", "agent", "everything"])
def test_what_was_made_by_processes_that_were_killed_goes_too(
    tmp_path: Path, home: Path, theirs: str, victim: str
) -> None:
    handle = start(tmp_path, theirs, 60.0)
    until(lambda: len(list(home.glob("data/*/node*/work/ready-1"))) == 2)
    worker = handle.status().workers[0].pid or 0
    if victim == "everything":
        handle.kill()
    elif victim == "agent":
        for _ in range(3):
            worker = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(worker, signal.SIGKILL)
        until(lambda: handle.status().generation == 2)
        handle.stop()
    else:
        os.kill(worker, signal.SIGKILL)
        until(lambda: handle.status().generation == 2)
        handle.stop()
    until(lambda: left(theirs) == {"theirs"}, 15)
