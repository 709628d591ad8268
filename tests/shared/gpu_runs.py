"""Runs on this machine's GPUs, and two nodes that have the same one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from healed import lines
from recorded_faults import case_at_rest, write

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle
from swarmtrain.launchers.local import checks
from swarmtrain.launchers.local.gpus import Shares

# What cuBLAS wants, to give the same sums each time.
SAME_SUMS = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


def start(script: Path, *args: str, name: str = "gpu", **keys: Any) -> RunHandle:
    """Start a run of a script on this machine."""
    wanted: dict[str, Any] = {"nodes": 1, "workers_per_node": 1, "env": SAME_SUMS, "files": ()} | keys
    return Client(on="local").run(Job(name=name, script=str(script), args=args, **wanted))


def text(handle: RunHandle) -> list[str]:
    """The lines of all ranks."""
    return [line.text for line in lines(handle)]


@contextmanager
def one_gpu_for_each_of_two_nodes() -> Iterator[None]:
    """Both nodes of a run see the first GPU, and believe that it is theirs alone.

    Two machines with a GPU each are so on a machine that has one: the launcher would refuse them, and so would NCCL if
    the scripts did not tell it two names of machines (NCCL_HOSTID). Then it takes sockets, as between machines.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "share", lambda job, devices: Shares((devices[0],) * 2))
        yield


def keep(name: str, home: Path, handle: RunHandle) -> None:
    """With SWARMTRAIN_RECORD=DIRECTORY, keep there what a coordinator knew of a fault: a fixture of the diagnosis."""
    if directory := os.environ.get("SWARMTRAIN_RECORD"):
        write(Path(directory) / f"{name}.json", case_at_rest(home, handle.id), home.parent)
