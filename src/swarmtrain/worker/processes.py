"""Process trees, read from /proc, and to whom each process belongs.

A worker leads its own session, so most of what it starts is found by session or by descent. A daemon that forks
twice and opens a session of its own is not: it is adopted by the nearest subreaper, the spawner. Such a process is
told apart by the worker's mark, which it inherits: a variable of its environment if it was executed, the name of a
mapping in its memory if it was only forked.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from swarmtrain.wire.machine.processes import cleaning, kill_all

ENV_WORKER = "SWARMTRAIN_WORKER"  # the worker's key: how processes that left its session are told apart

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_ssize_t
_MAPPING = "swarmtrain-worker-"


@dataclass(frozen=True)
class Process:
    """One line of the process table."""

    pid: int
    parent: int
    group: int
    session: int
    state: str  # one letter, as in ps

    @property
    def alive(self) -> bool:
        """Whether it can still run code: not a zombie."""
        return self.state not in "ZX"


Table = Mapping[int, Process]


def parse_stat(text: str) -> Process:
    """Read /proc/PID/stat. The name of the program is in parentheses and may itself hold some."""
    pid, rest = text.split(" ", 1)
    state, parent, group, session = rest.rpartition(")")[2].split()[:4]
    return Process(int(pid), int(parent), int(group), int(session), state)


def table() -> dict[int, Process]:
    """The processes of this machine (or container) now."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                process = parse_stat((entry / "stat").read_text(errors="replace"))
            except OSError:
                continue  # it ended while we were reading
            found[process.pid] = process
    return found


def descendants(processes: Table, roots: Iterable[int]) -> set[int]:
    """The roots' children, their children and so on, without the roots."""
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    pending = list(roots)
    while pending:
        for child in children.get(pending.pop(), ()):
            if child not in found:
                found.add(child)
                pending.append(child)
    return found


def alive(processes: Table, pids: Iterable[int]) -> set[int]:
    """Those of ``pids`` that can still run code."""
    return {pid for pid in pids if pid in processes and processes[pid].alive}


def mark(key: str) -> None:
    """Mark this process and all that it will fork as the worker ``key``'s.

    Not by the ``mmap`` module, which would keep a descriptor that user code could see.
    """
    descriptor = os.memfd_create(_MAPPING + key, os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, mmap.PAGESIZE)
        address = _LIBC.mmap(
            None,
            ctypes.c_size_t(mmap.PAGESIZE),
            mmap.PROT_READ,
            mmap.MAP_SHARED,
            descriptor,
            ctypes.c_long(0),
        )
        if address == -1:
            number = ctypes.get_errno()
            raise OSError(number, f"mmap: {os.strerror(number)}")
    finally:
        os.close(descriptor)


def show(words: Sequence[str]) -> None:
    """Have ``ps`` and ``pgrep`` show this command line for this process, as far as there is room for it.

    Written over the arguments that the process was started with; the variables that lie behind them stay.
    """
    fields = Path("/proc/self/stat").read_text(errors="replace").rpartition(")")[2].split()
    start, end = (int(fields[number - 3]) for number in (48, 49))  # proc(5): arg_start, arg_end
    line = b"".join(os.fsencode(word) + b"\0" for word in words)
    ctypes.memmove(start, line[: end - start - 1].ljust(end - start, b"\0"), end - start)


def mark_of(pid: int) -> str | None:
    """The key of the worker whose mark a process carries."""
    try:
        for variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if variable.startswith(ENV_WORKER.encode() + b"="):
                return os.fsdecode(variable.partition(b"=")[2])
        for line in Path(f"/proc/{pid}/maps").read_bytes().splitlines():
            name = line.partition(b"/memfd:" + _MAPPING.encode())[2]
            if name:
                return os.fsdecode(name.removesuffix(b" (deleted)"))
    except OSError:
        pass  # it has ended, or is somebody else's
    return None


def send_group(group: int, number: int) -> None:
    """Signal a whole process group, if it is there."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass


def end_descendants(patience: float = 10.0) -> None:
    """Kill and reap everything below this process, which should be a subreaper.

    Those that remove what others have left get a moment for that. Repeats because a process may fork while it is being
    found, and gives up on what even SIGKILL does not end
    within ``patience`` seconds (a process stuck in a driver).
    """
    began = time.monotonic()
    deadline = began + patience
    while True:
        reap()
        processes = table()
        remaining = alive(processes, descendants(processes, [os.getpid()]))
        if not remaining or time.monotonic() > deadline:
            return
        kill_all(remaining - cleaning(remaining, since=began), signal.SIGKILL)
        time.sleep(0.005)


def reap() -> None:
    """Collect the children that have ended, without waiting."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
