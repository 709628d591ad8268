"""What torch's flight recorder has of this worker, written to a file whenever the agent asks.

A thread waits for a byte in a pipe that has a name beside the file of the stacks; `agent/worker_group/flight.py` asks.
It begins with the first process group, so a script without one has no thread of ours. It needs the interpreter's lock,
which a rank that waits in a collective has let go of; one that keeps it does not answer, and its stack says where.

The recorder is on by itself: on gloo seen with torch 2.13, on NCCL read of 2.6 and later. Before that it needs a size,
which is set here where nobody has (read, not tried).
"""

from __future__ import annotations

import _thread
import contextlib
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from swarmtrain.wire import names
from swarmtrain.wire.names import FLIGHT_ASK, FLIGHT_FILE

_KEPT = 50  # newest records of each process group
_FRAMES = 60  # innermost ones of each record
# gloo's (and that of all backends but NCCL), then NCCL's, under its name since 2.3
_DUMPS = ("_dump_fr_trace", "_dump_nccl_trace")
# What torch imports, with 800 modules more, as it writes the lines of source into a dump (2.13). Whoever has a
# DistributedDataParallel or an optimizer has it; where it is missing the lines are left out.
_LINES_NEED = "torch._inductor"
_SIZES, _SIZE = ("TORCH_FR_BUFFER_SIZE", "TORCH_NCCL_TRACE_BUFFER_SIZE"), "2000"
_ON_SINCE = (2, 6)


def record(c10d: ModuleType) -> None:
    """An action of torch_setup.py: answer from the first process group on.

    ``init_process_group`` hands its group to ``_update_default_pg`` at its end (torch 2.4 to 2.13).
    """
    path, update = os.environ.get(names.ENV_STACK), getattr(c10d, "_update_default_pg", None)
    if not path or not callable(update):
        return
    stack = path
    if _version() < _ON_SINCE and not any(name in os.environ for name in _SIZES):
        os.environ[_SIZES[-1]] = _SIZE

    @functools.wraps(update)
    def told(group: object) -> None:
        update(group)
        if group is not None:
            _answer(stack)

    c10d._update_default_pg = told  # type: ignore[attr-defined]


def _version() -> tuple[int, ...]:
    """Of torch, which is being imported; one that does not say is taken for a new one."""
    parts = str(getattr(sys.modules.get("torch"), "__version__", "")).split(".")[:2]
    return tuple(map(int, parts)) if all(map(str.isdigit, parts)) else _ON_SINCE


@functools.cache
def _answer(stack: str) -> None:
    import json
    import pickle

    try:
        with contextlib.suppress(FileExistsError):
            os.mkfifo(stack + FLIGHT_ASK, 0o600)
        # also for writing: so it is open at once, and does not end with whoever asks
        asked = os.open(stack + FLIGHT_ASK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return  # a file system without such pipes: the agent finds none, and says so
    _thread.start_new_thread(_serve, (asked, stack + FLIGHT_FILE, json.dumps, pickle.loads))


def _serve(
    asked: int, file: str, dumps: Callable[[object], str], loads: Callable[[bytes], dict[str, Any]]
) -> None:
    """Imports nothing: a main thread that hangs in an import would keep this one, too."""
    while number := os.read(asked, 64).split()[-1:]:
        try:
            told: dict[str, object] = _recorded(loads)
        except Exception as error:  # whatever it is, the agent waits for a word
            told = {"reason": f"torch's flight recorder gave nothing: {type(error).__name__}: {error}"}
        with contextlib.suppress(OSError):
            aside = Path(f"{file}.new")
            aside.write_text(dumps({"number": int(number[0]), **told}))
            aside.replace(file)


def _recorded(loads: Callable[[bytes], dict[str, Any]]) -> dict[str, object]:
    parts = sys.modules["torch._C._distributed_c10d"]
    found = [dump for name in _DUMPS if callable(dump := getattr(parts, name, None))]
    if not found:
        return {"reason": f"torch {sys.modules['torch'].__version__} has no flight recorder for this backend"}
    with_lines = _LINES_NEED in sys.modules
    entries = [entry for dump in found for entry in loads(dump(True, with_lines, False)).get("entries", ())]
    entries.sort(key=lambda entry: entry.get("time_created_ns", 0))
    return {"records": [_record(entry) for entry in _newest(entries)], "groups": _groups()}


def _newest(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    left: dict[object, int] = {}
    kept = []
    for entry in reversed(entries):
        group = tuple(entry.get("process_group", ()))
        left[group] = left.get(group, _KEPT) - 1
        if left[group] >= 0:
            kept.append(entry)
    return kept[::-1]


def _record(entry: dict[str, Any]) -> dict[str, object]:
    return {
        "group": str(entry["process_group"][0]),
        "seq": entry["collective_seq_id"],
        "op": str(entry["profiling_name"]).partition(":")[2],
        "sizes": entry["input_sizes"],
        "dtypes": entry["input_dtypes"],
        "done": bool(entry["retired"] or entry["state"] == "completed"),
        "p2p": bool(entry.get("is_p2p")),
        "frames": [
            [frame["filename"], frame["line"], frame["name"]] for frame in entry.get("frames", ())[:_FRAMES]
        ],
    }


def _groups() -> dict[str, list[int]]:
    """By torch's name: the ranks of each process group that this rank is a member of."""
    world = sys.modules["torch.distributed.distributed_c10d"]._world
    return {str(world.pg_names[group]): sorted(ranks) for group, ranks in world.pg_group_ranks.items()}
