"""Runs functions as the ranks of real gloo process groups, for the trainer's tests.

Ranks are forked from a server that has imported torch already, so a group of them starts in a fraction of a
second. Each rank is a node of its own (its LOCAL_RANK is 0), with a snapshot directory of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarmtrain.wire.pulse import Pulse

os.environ.setdefault("OMP_NUM_THREADS", "1")

context = multiprocessing.get_context("forkserver")
# torch._dynamo is what optimizers import in their first step, which takes longer than all else in these trainings.
context.set_forkserver_preload(["torch", "torch.distributed", "torch._dynamo", "swarmtrain.trainer"])


@dataclass(frozen=True)
class Outcome:
    """What became of a rank: what its function returned or raised, and what it printed."""

    value: Any
    error: str
    message: str
    output: str
    exit_code: int


def ranks(
    function: Callable[..., Any],
    world_size: int,
    directory: Path,
    *args: Any,
    env: dict[str, str] | None = None,
    timeout: float = 120,
) -> list[Outcome]:
    """Calls ``function(*args)`` on every rank; a rank's files lie in ``directory/node<rank>``.

    ``{node}`` in the values of ``env`` stands for that directory. A rank whose pulse is named there gets one.
    Every rank must end within ``timeout`` seconds.
    """
    port = _free_port()
    processes = []
    for rank in range(world_size):
        node = directory / f"node{rank}"
        node.mkdir(parents=True, exist_ok=True)
        (node / "outcome").unlink(missing_ok=True)
        environment = {
            "RANK": str(rank),
            "LOCAL_RANK": "0",
            "GROUP_RANK": str(rank),
            "WORLD_SIZE": str(world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "GLOO_SOCKET_IFNAME": "lo",
            "SWARMTRAIN_TIMEOUT": "60",
            "SWARMTRAIN_SNAPSHOTS": str(node / "snapshots"),
            "SWARMTRAIN_METRICS": str(node / "metrics.jsonl"),
            **{name: value.replace("{node}", str(node)) for name, value in (env or {}).items()},
        }
        if "SWARMTRAIN_PULSE" in environment:
            Pulse.create(Path(environment["SWARMTRAIN_PULSE"]))
        process = context.Process(target=_run_rank, args=(function, args, environment, node))
        process.start()
        processes.append(process)
    outcomes = []
    for rank, process in enumerate(processes):
        process.join(timeout)
        if process.is_alive():
            for other in processes:
                other.kill()
            raise AssertionError(f"rank {rank} hung\n{(directory / f'node{rank}' / 'output').read_text()}")
        outcomes.append(_outcome(directory / f"node{rank}", process.exitcode or 0))
    return outcomes


def values(*args: Any, **kwargs: Any) -> list[Any]:
    """As :func:`ranks`, for functions that must succeed: what each rank returned."""
    outcomes = ranks(*args, **kwargs)
    for rank, outcome in enumerate(outcomes):
        assert not outcome.error and outcome.exit_code == 0, f"rank {rank}: {outcome}\n{outcome.output}"
    return [outcome.value for outcome in outcomes]


def _run_rank(
    function: Callable[..., Any], args: tuple[Any, ...], environment: dict[str, str], node: Path
) -> None:
    import torch

    os.environ.update(environment)
    output = os.open(node / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    torch.set_num_threads(1)
    # of DataLoader workers, as in a script started plainly
    multiprocessing.set_start_method("fork", force=True)
    value, error, message = None, "", ""
    try:
        value = function(*args)
    except Exception as raised:
        error, message = type(raised).__name__, str(raised)
        traceback.print_exc()
    sys.stdout.flush()
    (node / "outcome").write_bytes(pickle.dumps((value, error, message)))


def _outcome(node: Path, exit_code: int) -> Outcome:
    path = node / "outcome"
    value, error, message = pickle.loads(path.read_bytes()) if path.exists() else (None, "died", "")
    return Outcome(value, error, message, (node / "output").read_text(), exit_code)


def _free_port() -> int:
    """A port that nobody has, below those that the kernel gives out: it may do so before rank 0 listens."""
    while True:
        port = random.randint(15_000, 29_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
