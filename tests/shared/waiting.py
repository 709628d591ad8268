"""Waiting for what a test needs, and for what it must leave behind: nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from swarmtrain.errors import ClusterError
from swarmtrain.wire.disk.storage import Storage
from swarmtrain.wire.machine.processes import descendants


def until(holds: Callable[[], Any], seconds: float = 60, what: str = "it") -> None:
    """Wait for something. A coordinator that cannot be asked may be what is broken."""
    limit = time.monotonic() + seconds
    while True:
        try:
            if holds():
                return
        except ClusterError as error:
            print(error)
        assert time.monotonic() < limit, f"{what} did not happen within {seconds:.0f} s"
        time.sleep(0.05)


def check_nothing_left(directory: Path, home: Path) -> None:
    """No process of the runs in a home, and no memory."""
    limit = time.monotonic() + 15
    memory = Storage(home).memory("x", "y").parent.parent
    while left := [*processes_of(directory), *(str(path) for path in memory.glob("*/*"))]:
        assert time.monotonic() < limit, f"left behind: {left}"
        time.sleep(0.1)


def processes_of(directory: Path) -> list[str]:
    """Every process whose command or working directory lies in this directory."""
    found = []
    for pid in descendants(1):
        try:
            where = str(Path(f"/proc/{pid}/cwd").readlink())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        is_of_it = str(directory) in where or str(directory) in words
        if pid != os.getpid() and is_of_it and "pytest" not in words:
            found.append(f"{pid} {words}")
    return found


def burnt(pid: int) -> int:
    """Processor time that a process has taken, in hundredths of a second."""
    return ticks(Path(f"/proc/{pid}/stat").read_text())


def ticks(stat: str) -> int:
    """The same, of a process's ``stat``; with that of its children that have ended."""
    return sum(map(int, stat.rpartition(")")[2].split()[11:15]))
