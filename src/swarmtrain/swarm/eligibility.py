"""Whether one node can take part in a job, and what to do where it cannot: pure, called by `swarm.placement`."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from swarmtrain.job import Job
from swarmtrain.job.units import format_size
from swarmtrain.swarm.cluster import Node


def satisfies(node: Node, constraint: str) -> bool:
    """Whether a node meets a constraint, as github.com/moby/swarmkit's manager/constraint decides."""
    equal = "==" in constraint
    key, _, wanted = (part.strip() for part in constraint.partition("==" if equal else "!="))
    if key == "node.ip":
        return _in_subnet(node.address, wanted) == equal
    facts = {
        "node.id": node.id,
        "node.hostname": node.hostname,
        "node.role": node.role,
        "node.platform.os": node.os,
        "node.platform.arch": node.arch,
    }
    kind, _, label = key.partition(".labels.")
    labels = node.labels if kind == "node" else node.engine_labels
    actual = facts[key] if key in facts else labels.get(label, "")
    return (actual.casefold() == wanted.casefold()) == equal


def unfit(node: Node, job: Job) -> str:
    """Why a node cannot take part, as the end of a sentence that begins with its name; empty when it can."""
    if why := away(node):
        return why
    for constraint in job.constraints:
        if not satisfies(node, constraint):
            return f"does not meet {constraint}"
    wanted = job.resources
    if wanted.cpus is not None and wanted.cpus > node.cpus:
        return f"has {node.cpus:g} CPUs, not {wanted.cpus:g}"
    if wanted.memory is not None and wanted.memory > node.memory:
        return f"has {_gib(node.memory)} of memory, not {format_size(wanted.memory)}"
    if wanted.gpus and wanted.gpus > node.generic.get(wanted.gpu_kind, 0):
        return f"declares {node.generic.get(wanted.gpu_kind, 0)} {wanted.gpu_kind}, not {wanted.gpus}"
    return ""


def away(node: Node) -> str:
    """Why a node takes no new tasks at all."""
    if node.state != "ready":
        return f"is {node.state}"
    return {"active": "", "drain": "is drained", "pause": "is paused"}.get(node.availability, "is not active")


def hint_for(node: Node, job: Job, why: str) -> str:
    """What to do about a node that `unfit` or `away` gave this reason for."""
    if why in ("is drained", "is paused"):
        return f"docker node update --availability active {node.hostname}"
    if why.startswith("declares"):
        return gpu_hint([node], job)
    if why.startswith("does not meet"):
        return "constraints: apply to named nodes too; docker node inspect shows a node's labels"
    if why.startswith("has"):
        return "ask for less under resources:, or for another node"
    return "look at the machine and its Docker daemon; docker node ls shows the nodes"


def gpu_hint(nodes: Sequence[Node], job: Job) -> str:
    """What to do where nodes declare too few GPUs of the kind."""
    kinds = sorted({kind for node in nodes for kind in node.generic})
    if kinds and job.resources.gpu_kind not in kinds:
        return f"these nodes declare {', '.join(kinds)}: set resources.gpu_kind"
    return (
        'GPUs are declared in each node\'s /etc/docker/daemon.json: "node-generic-resources": '
        f'["{job.resources.gpu_kind}=GPU-<uuid>"], see nvidia-smi -L'
    )


def _in_subnet(address: str, wanted: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(wanted, strict=False)
    except ValueError:
        return False


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f}g"
