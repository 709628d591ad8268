"""Runs of `healed_script.py` on this machine, and what they must leave behind: nothing."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from difflib import unified_diff
from pathlib import Path
from types import MappingProxyType
from typing import Any

from healed import SCRIPT, Account, Books, output_by_rank

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle
from swarmtrain.launchers.local import LocalLauncher
from swarmtrain.launchers.local.processes import LocalProcess, ProcessTable, kill_trees
from swarmtrain.wire.disk.storage import Storage
from swarmtrain.wire.machine.processes import descendants, kill_all

# For what is the same wherever two ranks run: one node imports torch once.
ONE_NODE: dict[str, Any] = {"nodes": 1, "workers_per_node": 2}


def start(directory: Path, name: str = "heal", *, resume: bool = False, **wanted: Any) -> RunHandle:
    """Start a run in the current directory; what is no setting of the script is a key of the job."""
    (directory / "train.py").write_text(SCRIPT.read_text())
    keys = {key: wanted.pop(key) for key in list(wanted) if key in Job.model_fields}
    job: dict[str, Any] = {"nodes": 2, "workers_per_node": 1, "env": {"OMP_NUM_THREADS": "1"}}
    job |= {"per_node": ("book-*",)} | keys  # they tell what ran on which node
    wanted_job = Job(name=name, script="train.py", files=("train.py",), args=(json.dumps(wanted),), **job)
    return Client(on="local").run(wanted_job, resume=resume)


def books(home: Path, handle: RunHandle) -> Books:
    lineage = Storage(home).lineage(handle.id)
    found = (home / "data" / lineage).glob("*/work/book-*")
    return {f"{path.parent.parent.name}/{path.name}": path.read_text() for path in found}


def account(home: Path, handle: RunHandle) -> Account:
    return Account(books(home, handle), handle)


def check_output(home: Path, handle: RunHandle) -> None:
    """Every line that a rank wrote is there once, whole, and its own."""
    told = {key: text.rstrip("\n") for key, text in output_by_rank(handle).items()}
    written = {}
    for path in (home / "runs" / handle.id).glob("*/output/*.out"):
        generation, rank = path.stem[1:].split("-r")
        if text := path.read_text().rstrip("\n"):
            written[int(generation), int(rank)] = text
    wrong = {
        f"generation {key[0]}, rank {key[1]}": difference
        for key in sorted({*told, *written})
        if (difference := list(unified_diff(written.get(key, "").split("\n"), told.get(key, "").split("\n"))))
    }
    assert not wrong, f"written, and told: {str(wrong)[:5000]}"


def agent_of(handle: RunHandle, node: str) -> int:
    """The process number of a node's agent; that of the coordinator for the empty name."""
    return _child(LocalLauncher().roots(handle.run)[node])


def _child(pid: int) -> int:
    (child,) = (int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return child


def worker_of(handle: RunHandle, rank: int) -> int:
    pid = next(each.pid for each in handle.status().workers if each.rank == rank)
    assert pid is not None, f"rank {rank} does not run"
    return pid


def lose(home: Path, handle: RunHandle, node: str) -> None:
    """A machine is gone, with its disk and its memory."""
    root = LocalLauncher().roots(handle.run)[node]
    kill_all([root, *descendants(root)])
    shutil.rmtree(home / "data" / Storage(home).lineage(handle.id) / node)
    shutil.rmtree(Storage(home).memory(handle.id, node))


def restart_coordinator(
    place: Path, pause: float = 0.0, variables: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Kill the coordinator of a run, its init with it, and start it again as Swarm would.

    Args:
        place: the coordinator's directory.
        pause: seconds between the two.
        variables: that differ from those that it was started with.
    """
    table = ProcessTable(place / "processes.json", lambda node: place)
    coordinator = table.read()[""]
    words, environment = coordinator.as_started()
    assert kill_trees([coordinator], 5.0) == []
    time.sleep(pause)
    table.note("", LocalProcess.start(words, {**environment, **variables}, place))
