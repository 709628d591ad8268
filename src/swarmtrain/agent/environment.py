"""The environment that workers find: torchrun's whole contract, and what this node's network and devices ask for."""

from __future__ import annotations

from collections.abc import Mapping

from swarmtrain.structs import Struct
from swarmtrain.wire import names
from swarmtrain.wire.run_spec import RunSpec

_OURS = "SWARMTRAIN_"


class WorkerAssignment(Struct):
    """One worker's part in a generation, as the coordinator gave it out."""

    generation: int
    fence: int  # the least that its snapshots are ordered by
    rank: int
    local_rank: int
    local_world_size: int
    group_rank: int
    nodes: int
    world_size: int
    master_address: str
    master_port: int


class NodeEnvironment(Struct):
    """What does not change between the workers of one node."""

    run: str
    name: str
    interface: str
    backend: str  # nccl or gloo
    snapshots: str
    memory: str  # directory for snapshots in memory
    submission: str = ""  # what tells the run from one that had its id before it


def shared(
    base: Mapping[str, str], task: RunSpec, user: Mapping[str, str], threads: int, backend: str
) -> dict[str, str]:
    """Variables that are the same for all workers of a node, and set before the first of them imports torch.

    Precedence: the user's variables, then the container's own, then the ones chosen here.
    """
    chosen = {"OMP_NUM_THREADS": str(threads), "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1"}
    chosen |= debug(backend) if task.debug else {}
    inherited = {name: value for name, value in base.items() if not name.startswith(_OURS)}
    return chosen | inherited | dict(user)


def debug(backend: str) -> dict[str, str]:
    """The variables of the debug mode.

    The guide sets more: TORCH_DISTRIBUTED_DEBUG=DETAIL crashes DDP's constructor on gloo, NCCL_DEBUG=TRACE and
    CUDA_LAUNCH_BLOCKING=1 slow every step, and none of them shows more of what goes wrong between machines. The
    flight recorder is on without a variable (worker/instruments/flight.py). TORCH_FR_CPP_STACK=1 more than doubles the
    time of a small all-reduce on gloo, and makes the records twice as slow to read (torch 2.13).
    """
    if backend == "nccl":
        return {"NCCL_DEBUG": "INFO", "TORCH_DISTRIBUTED_DEBUG": "DETAIL", "TORCH_SHOW_CPP_STACKTRACES": "1"}
    return {"TORCH_DISTRIBUTED_DEBUG": "INFO", "TORCH_SHOW_CPP_STACKTRACES": "1"}


def worker(
    part: WorkerAssignment,
    node: NodeEnvironment,
    task: RunSpec,
    base: Mapping[str, str],
    files: Mapping[str, str],
) -> dict[str, str]:
    """Variables of one worker.

    Args:
        base: what :func:`shared` gave; an interface that the user set there is left alone.
        files: ``metrics``, ``error``, ``stack`` and ``pulse``: this worker's own files.
    """
    rank, world = str(part.rank), str(part.world_size)
    env = {
        "RANK": rank,
        "WORLD_SIZE": world,
        "LOCAL_RANK": str(part.local_rank),
        "LOCAL_WORLD_SIZE": str(part.local_world_size),
        "GROUP_RANK": str(part.group_rank),
        "GROUP_WORLD_SIZE": str(part.nodes),
        "ROLE_NAME": "default",
        "ROLE_RANK": rank,
        "ROLE_WORLD_SIZE": world,
        "MASTER_ADDR": part.master_address,
        "MASTER_PORT": str(part.master_port),
        "TORCHELASTIC_RESTART_COUNT": str(part.generation - 1),
        "TORCHELASTIC_MAX_RESTARTS": str(task.max_restarts if task.restart else 0),
        "TORCHELASTIC_RUN_ID": node.run,  # the same at every restart: scripts name their checkpoints by it
        "TORCHELASTIC_USE_AGENT_STORE": "False",  # rank 0 serves the store, afresh in every generation
        "TORCHELASTIC_ERROR_FILE": files["error"],
        names.ENV_RUN: node.run,
        names.ENV_NODE: node.name,
        names.ENV_GENERATION: str(part.generation),
        names.ENV_FENCE: str(part.fence),
        names.ENV_SUBMISSION: node.submission,
        names.ENV_BACKEND: node.backend,
        names.ENV_SNAPSHOTS: node.snapshots,
        names.ENV_MEMORY: node.memory,
        names.ENV_METRICS: files["metrics"],
        names.ENV_PULSE: files["pulse"],
        names.ENV_STACK: files["stack"],
    }
    if task.timeout is not None:
        env[names.ENV_TIMEOUT] = str(task.timeout)
    # NCCL takes a bare name for a prefix, so that eth1 would also match eth10; "=" makes it exact.
    for name, value in (("GLOO_SOCKET_IFNAME", node.interface), ("NCCL_SOCKET_IFNAME", f"={node.interface}")):
        if name not in base:
            env[name] = value
    return env
