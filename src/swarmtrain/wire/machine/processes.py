"""What Linux offers to keep a tree of processes together: death signals, subreapers, and the tree in /proc.

A number is given to another process after the end of its own, and again after a reboot. So one is known by its number,
its start, and the boot of the machine that both are of.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLEANING = 1.0  # seconds in which those that remove what others have left may do so


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def die_with_parent(parent: int, number: int) -> None:
    """Be sent a signal when the parent dies (PR_SET_PDEATHSIG); at once if it has died already.

    The kernel means the parent's *thread* that forked, so fork from a main thread.

    Args:
        parent: the parent's pid, as it was before the fork.
        number: the signal.
    """
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def become_subreaper() -> None:
    """Orphans below this process become its children instead of init's (PR_SET_CHILD_SUBREAPER)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def began(pid: int) -> int:
    """When a process started, in clock ticks since its machine did; 0 of one that has ended."""
    fields = _stat(pid)
    return 0 if not fields or fields[0] == "Z" else int(fields[19])


def state(pid: int) -> str:
    """What a process is at, in one letter as of `ps`; empty of one that has gone."""
    return "".join(_stat(pid)[:1])


def halted(pid: int) -> bool:
    """Whether a process is stopped by a signal, and so does nothing until another one comes."""
    return state(pid) == "T"


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name; none when it has gone."""
    try:
        return _fields(Path(f"/proc/{pid}/stat"))
    except OSError:
        return []


def _fields(stat: Path) -> list[str]:
    """What is behind the name, which may be any bytes: whoever is on this machine gives his processes theirs."""
    return stat.read_text(errors="replace").rpartition(")")[2].split()


def descendants(root: int) -> list[int]:
    """Every process below ``root`` that is not a zombie, parents before children."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = _fields(entry / "stat")
        except OSError:
            continue
        if fields[0] != "Z":
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(0), [])
        found += below
        queue += below
    return found


def cleaning(pids: Iterable[int], since: float) -> set[int]:
    """Those that are there to remove what others have left, and whose moment for that is not over.

    They are Python's resource tracker and torch's manager of tensors that are shared by file. Their work begins when
    the others have gone.

    Args:
        since: monotonic time at which that was, or at which it was seen to.
    """
    return {pid for pid in pids if _cleans(pid)} if time.monotonic() < since + _CLEANING else set()


def _cleans(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"multiprocessing.resource_tracker" in command or b"torch_shm_manager" in command


def kill_all(pids: Iterable[int], number: int = signal.SIGKILL) -> None:
    """Signal each of these processes; those that have gone, or are not ours, are left out."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            pass
