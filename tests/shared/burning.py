"""How much processor time processes take, which is what is left to others while the machine is busy."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path


def processor_seconds(pids: Iterable[int]) -> dict[int, float]:
    """Seconds that each process has run so far, all of its threads together; without those that have gone.

    From the scheduler's own count in nanoseconds: utime and stime are counted in ticks of 10 ms.
    """
    found: dict[int, float] = {}
    for pid in pids:
        try:
            threads = list(Path(f"/proc/{pid}/task").iterdir())
        except OSError:
            continue
        nanoseconds = 0
        for thread in threads:
            try:
                nanoseconds += int((thread / "schedstat").read_text().split()[0])
            except (OSError, IndexError):
                continue
        found[pid] = nanoseconds / 1e9
    return found


def burnt(pids: Iterable[int], seconds: float) -> dict[int, float]:
    """Which part of one processor each of these processes takes over the next seconds."""
    before, began = processor_seconds(pids), time.monotonic()
    time.sleep(seconds)
    after, took = processor_seconds(before), time.monotonic() - began
    return {pid: max(0.0, after[pid] - before[pid]) / took for pid in after}


def told(shares: dict[int, float]) -> str:
    """For the message of a failed test."""
    return ", ".join(f"{_words(pid)}: {share:.3%}" for pid, share in sorted(shares.items()))


def _words(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        words = "gone"
    return f"{pid} {words.strip()[-60:]}"
