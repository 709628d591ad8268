"""This machine's GPUs, shared out among the nodes of a local run, or a refusal where there are too few. Pure.

`launchers.local` asks before a run and gives each agent its share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swarmtrain.errors import ClusterError
from swarmtrain.job import Job
from swarmtrain.wire.machine.gpus import is_instance
from swarmtrain.wire.plural import counted


@dataclass(frozen=True)
class Shares:
    """What each node sees.

    Args:
        by_node: a value of CUDA_VISIBLE_DEVICES for each; None where there is nothing to share out, and it stays as is.
        notice: what was chosen, and why; empty when nothing was.
    """

    by_node: tuple[str, ...] | None
    notice: str = ""


def share(job: Job, devices: Sequence[str]) -> Shares:
    """Deal the GPUs out in turn, each node as many as any other.

    Args:
        devices: the names of those that the run may use (`wire.machine.gpus.visible`).

    Raises:
        ClusterError: there are too few for the job's workers.
    """
    nodes, wanted = job.nodes_max, job.resources.gpus
    if wanted == 0:
        return Shares(("",) * nodes)
    if not devices:
        if wanted:
            raise ClusterError(
                f"the job asks for {_gpus(wanted)} on each node, and this machine shows none",
                "`nvidia-smi -L` lists what there is; to train on processors, leave out gpus",
            )
        return Shares(None)
    each = _needed(job)
    if nodes * each > len(devices) or (is_instance(devices) and each > 1):
        if job.backend != "gloo" or wanted:
            raise _too_few(job, devices)
        notice = f"{counted(nodes * each, 'worker')} share {_gpus(len(devices))}, as backend gloo allows"
        return Shares((",".join(devices),) * nodes, notice)
    each = 1 if is_instance(devices) else wanted or len(devices) // nodes
    if nodes == 1 and each == len(devices):
        return Shares(None)
    dealt = tuple(",".join(devices[node * each : (node + 1) * each]) for node in range(nodes))
    notice = (
        f"{_gpus(len(devices))} for {nodes} nodes: each has {_gpus(each)} of its own" if nodes > 1 else ""
    )
    return Shares(dealt, notice)


def _needed(job: Job) -> int:
    """How many GPUs a node needs at least."""
    workers = job.workers_per_node if isinstance(job.workers_per_node, int) else 1
    return job.resources.gpus or workers


def _too_few(job: Job, devices: Sequence[str]) -> ClusterError:
    needed = job.nodes_max * _needed(job)
    what = f"{_gpus(len(devices))}" + (" (parts of one, by MIG)" if is_instance(devices) else "")
    if job.resources.gpus:
        asked = f"{counted(job.nodes_max, 'node')} of {_gpus(job.resources.gpus)} each need {needed}"
    else:
        asked = f"{counted(needed, 'worker')} need one each"
    if is_instance(devices) and _needed(job) > 1:
        asked += ", and the workers of a node see only one part"
    ways = [
        f"fewer workers, such as -j {min(job.nodes_max, len(devices))}x1",
        "--gpus 0 to train on processors",
    ]
    if not job.resources.gpus:
        ways.append("--backend gloo to share a GPU on purpose")
    return ClusterError(
        f"this machine has {what}, and {asked}", ", or ".join([", ".join(ways[:-1]), ways[-1]])
    )


def _gpus(number: int) -> str:
    return counted(number, "GPU")
