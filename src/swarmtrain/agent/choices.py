"""What the launcher says of a node, and what is chosen on it for the user: workers, backend, threads, with reasons."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from swarmtrain.agent import machine
from swarmtrain.agent.environment import shared
from swarmtrain.structs import Struct
from swarmtrain.wire import names
from swarmtrain.wire.disk.storage import Storage
from swarmtrain.wire.machine.gpus import VISIBLE
from swarmtrain.wire.plural import counted, plural
from swarmtrain.wire.run_spec import RunSpec


class Settings(Struct):
    """What the launcher says of this node, in the environment."""

    coordinator: str
    node: str
    node_id: str
    slot: int
    storage: Storage
    code: tuple[Path, ...]

    @staticmethod
    def of(env: dict[str, str]) -> Settings:
        """Read them. Raises KeyError, which is the launcher's mistake."""
        node = env[names.ENV_NODE]
        slot = env.get(names.ENV_SLOT, "0")
        return Settings(
            coordinator=env[names.ENV_COORDINATOR],
            node=node,
            node_id=env.get(names.ENV_NODE_ID, node),
            slot=int(slot) if slot.isdigit() else 0,
            storage=Storage(Path(env.get(names.ENV_STORAGE, names.STORAGE))),
            code=tuple(Path(part) for part in env.get(names.ENV_CODE, "").split(":") if part),
        )


class Choices(Struct):
    """What holds for all generations on this node.

    Attributes:
        gpus: that this node sees.
        backend: what would do for this node alone; one is taken for all.
        env: of all its workers, as `environment.shared` gives it.
        notes: kinds and sentences for the journal.
    """

    gpus: int
    workers: int
    backend: str
    env: Mapping[str, str]
    notes: tuple[tuple[str, str], ...]


def choose(task: RunSpec, user: Mapping[str, str], base: dict[str, str]) -> Choices:
    """Look at the machine, and choose what the job leaves open.

    Args:
        user: the job's variables.
        base: this container's environment.
    """
    named = {VISIBLE: user[VISIBLE]} if VISIBLE in user else {}
    gpus = machine.gpus(base | named)
    processors = machine.processors(task.cpus)
    by_cpu = task.workers_by == "cpu"
    workers = task.workers or (int(processors) if by_cpu else gpus) or 1
    backend: str = task.backend
    if task.backend == "auto":
        backend = "nccl" if gpus >= workers else "gloo"
    threads, why = _threads(processors, workers)
    env = shared(base, task, user, threads, backend)
    for where, variables in (("the image", base), ("the job", user)):
        why = f"set by {where}" if "OMP_NUM_THREADS" in variables else why
    seen = "no GPU" if not gpus else counted(gpus, "GPU")
    seen += f", of {VISIBLE}={named[VISIBLE]}" if named else ""
    how = "one a processor" if by_cpu else "one a GPU" if gpus else "no GPU, so one"
    asked = "asked for" if task.workers else how
    words = (
        f"{counted(workers, 'worker')} ({asked}), "
        f"backend {backend} ({'asked for' if task.backend != 'auto' else seen}), "
        f"OMP_NUM_THREADS={env['OMP_NUM_THREADS']} ({why})"
    )
    notes = [("choice", words)]
    if backend != task.backend and workers > gpus > 0:
        share = (
            f"{counted(workers, 'worker')} share {counted(gpus, 'GPU')}, which NCCL refuses and gloo does not"
        )
        notes.append(("warning", f"{share}: ask for fewer workers, or for --gpus 0"))
    reserved = machine.reserved_gpus(base)
    if reserved is not None and gpus > reserved:
        warning = (
            f"{counted(reserved, 'GPU')} {plural(reserved, 'is', 'are')} reserved for this task but it sees {gpus}: "
            "check swarm-resource in the node's nvidia-container-runtime configuration"
        )
        notes.append(("warning", warning))
    return Choices(gpus, workers, backend, env, tuple(notes))


def _threads(available: float, workers: int) -> tuple[int, str]:
    """How many threads each worker has of the processors there are, and why."""
    processors = f"{available:.2g} {plural(available, 'processor')}"
    return max(1, int(available // workers)), f"{processors} for {counted(workers, 'worker')}"
