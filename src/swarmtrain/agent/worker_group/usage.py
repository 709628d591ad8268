"""What processes have used: processor time, bytes, and which of them there are. Where nothing moves, nobody is at work.

Asked by signs.py of workers, and by spawner.py of the process that starts them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from swarmtrain.structs import Struct
from swarmtrain.wire.machine.processes import descendants

# Shares of a processor. A main thread that waits with a time limit, as a data loader's does, takes 0.003 %; one that
# looks twice a second at something, or computes anything at all, more than 0.05 %. gloo's own thread takes 0.3 %.
_MAIN, _OTHER = 0.0001, 0.02


class ProcessUsage(Struct):
    """What a process has used so far.

    Attributes:
        threads: nanoseconds of processor time, by thread; the first is the main one.
        moved: bytes read and written, by system calls and by devices.
    """

    threads: Mapping[int, int]
    moved: int = 0


Tree = Mapping[int, ProcessUsage]  # by process id


def tree(root: int, without: Collection[int] = ()) -> dict[int, ProcessUsage]:
    """A process and everything below it, less those and what is below them; empty when it has gone."""
    left_out = {below for pid in without for below in (pid, *descendants(pid))}
    found = {pid: _process(pid) for pid in (root, *descendants(root)) if pid not in left_out}
    return {pid: process for pid, process in found.items() if process.threads}


def sign(before: Tree, after: Tree, seconds: float, spins: int | None = None) -> str:
    """What has moved in a tree of processes within so many seconds, in words; empty where nothing has.

    Args:
        spins: a process whose own processor time proves nothing.
    """
    if not before or not after:
        return ""
    if before.keys() != after.keys():
        return "processes come and go"
    for pid, now in after.items():
        if now.moved > before[pid].moved:
            return "bytes read or written"
        if pid == spins:
            continue
        for thread, used in now.threads.items():
            share = (used - before[pid].threads.get(thread, 0)) / 1e9 / seconds
            if share >= (_MAIN if thread == pid else _OTHER):
                return "processor time"
    return ""


def _process(pid: int) -> ProcessUsage:
    threads: dict[int, int] = {}
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            if (used := _processor_time(task)) is not None:
                threads[int(task.name)] = used
        moved = _moved(Path(f"/proc/{pid}/io").read_text())
    except PermissionError:
        moved = 0  # of another user: a script may start such
    except OSError:
        return ProcessUsage({})  # it has gone
    return ProcessUsage(threads, moved)


def _processor_time(thread: Path) -> int | None:
    """Nanoseconds, to the nanosecond where the kernel counts so, else to a tick of 10 ms; None when it has gone."""
    try:
        if (exact := thread / "schedstat").exists():
            return int(exact.read_text().split()[0])
        fields = (thread / "stat").read_text(errors="replace").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * 10_000_000
    except (OSError, ValueError, IndexError):
        return None


def _moved(io: str) -> int:
    counted = ("rchar", "wchar", "read_bytes", "write_bytes")
    fields = dict(line.split(": ", 1) for line in io.splitlines() if ": " in line)
    return sum(int(fields.get(name, 0)) for name in counted)
