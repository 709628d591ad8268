"""What the workers of a node are doing now: their stacks, asked for by a signal (worker/instruments/stacks.py)."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from swarmtrain.protocol.evidence.seen import StackReport
from swarmtrain.wire.machine.processes import descendants, state
from swarmtrain.wire.pulse import STACK_SIGNAL

_LOOK = 0.02  # seconds between looks at a file
_QUIET = 5  # looks without growth after which a dump is taken to be whole
_MOST = 1 << 20  # bytes of one dump
_KEPT = 8 << 20  # of a file, which a group that stands for days would fill


async def stacks(pids: Mapping[int, int], files: Mapping[int, Path], patience: float = 2.0) -> dict[int, str]:
    """Ask workers for the stacks of all their threads.

    Args:
        pids: by rank, the worker's own process.
        files: by rank, what SWARMTRAIN_STACK names for it.
        patience: seconds until a worker that says nothing is given up.

    Returns:
        by rank of ``pids``: the dump, the main thread last; empty for a process that is stopped or frozen, has gone,
        or does not run Python. Nothing is raised.
    """
    answers = await asyncio.gather(*(_stack(pid, files.get(rank), patience) for rank, pid in pids.items()))
    return dict(zip(pids, answers, strict=True))


async def children(pid: int, file: Path | None, patience: float = 3.0) -> tuple[dict[int, str], int]:
    """Ask the processes below a worker that have its handler, one after the other: they share its file.

    A process that was forked has it, as data-loader workers are by default; one that was started anew has not.

    Returns:
        the dumps by process id, and how many processes below it could not be asked or have not answered.
    """
    below = await asyncio.to_thread(descendants, pid)
    found: dict[int, str] = {}
    until = time.monotonic() + patience
    for each in below:
        if file is not None and answers(each) and time.monotonic() < until:
            found[each] = await _stack(each, file, until - time.monotonic())
    told = {each: dump for each, dump in found.items() if dump}
    return told, len(below) - len(told)


async def _stack(pid: int, file: Path | None, patience: float) -> str:
    if file is None or not answers(pid):
        return ""
    try:
        before = file.stat().st_size
        os.kill(pid, STACK_SIGNAL)
        size, quiet = before, 0
        for _ in range(round(patience / _LOOK)):
            await asyncio.sleep(_LOOK)
            grown = file.stat().st_size
            quiet = quiet + 1 if grown == size else 0
            size = grown
            if quiet >= _QUIET and (size > before or not answers(pid)):
                break  # it has answered, or it has been stopped or has gone since it was asked
        with file.open("rb") as dumps:
            dumps.seek(before)
            found = dumps.read(_MOST).decode(errors="replace")
        if size > _KEPT:
            os.truncate(file, 0)  # the worker appends
        return found
    except OSError:
        return ""  # it has gone, and perhaps its file with it


def fitting(reports: Mapping[int, StackReport], most: int) -> dict[int, StackReport]:
    """The same with dumps of at most so many characters together: the end of each, where the main thread is."""
    share = most // max(1, sum(1 + len(report.children) for report in reports.values()))
    return {
        rank: replace(
            report,
            stack=report.stack[-share:],
            children={pid: dump[-share:] for pid, dump in report.children.items()},
        )
        for rank, report in reports.items()
    }


def stopped(pid: int) -> bool | None:
    """Whether a process is stopped, by a signal or a debugger; None when it has gone."""
    now = state(pid)
    return now in "Tt" if now else None


def answers(pid: int) -> bool:
    """Whether the process runs, and has a handler for the signal, which would end it otherwise."""
    fields = _status(pid)
    caught = int(fields.get("SigCgt", "0"), 16)
    runs = fields.get("State", "X").split()[0] not in "TtZX"
    return runs and bool(caught >> (STACK_SIGNAL - 1) & 1)


def _status(pid: int) -> dict[str, str]:
    """The fields of /proc/PID/status; empty when it has gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return {}
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
