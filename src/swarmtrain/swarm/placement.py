"""Whether a job can run on a cluster, and where: pure, from the cluster's facts.

`place` either says where everything goes, with what was chosen for the user, or raises a `ClusterError` that says in
one sentence what is in the way. Nothing has been changed on the cluster by then.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from swarmtrain.errors import ClusterError, RequestError
from swarmtrain.job import Job
from swarmtrain.job.problems import did_you_mean
from swarmtrain.swarm import engines
from swarmtrain.swarm.cluster import LABEL_PRETEND, Cluster, Node
from swarmtrain.swarm.eligibility import away, gpu_hint, hint_for, unfit
from swarmtrain.wire import names
from swarmtrain.wire.plural import counted

_OLD_MANAGERS = (
    "managers before Docker 23 restart tasks that reserve GPUs whenever their node changes in any way, a new network "
    "among them (github.com/moby/moby/issues/44378): update Docker on the managers"
)
LABEL_PORT = "swarmtrain.port"  # on services of the host network: the coordinator's port


@dataclass(frozen=True)
class NodePlacement:
    """Where one named node of the job is."""

    node: Node
    name: str  # what the node is called in the run
    constraint: str


@dataclass(frozen=True)
class Placement:
    """Where everything of a run goes."""

    coordinator: Node
    places: tuple[NodePlacement, ...] = ()  # in the order of the ranks; empty for a count
    port: int = names.PORT
    notices: tuple[str, ...] = ()
    open_files: int | None = None  # what a container is to be allowed; None: what its engine gives is enough


def place(job: Job, cluster: Cluster) -> Placement:
    """Where the job's parts go.

    Raises:
        ClusterError: the cluster has no place for it. RequestError: the job names no image.
    """
    if job.image is None:
        raise RequestError(
            "the job names no image, and containers start from one",
            "set image: to one with Python and torch in it, or run without containers: --on local",
        )
    coordinator = _coordinator(job, cluster)
    _check_network(job, cluster)
    places: tuple[NodePlacement, ...] = ()
    count: list[str] = []
    if job.node_names is not None:
        places = tuple(_named(name, job, cluster) for name in job.node_names)
        _check_distinct(places, job.node_names)
    else:
        count = [_count(job, cluster)]
    taking_part = [each.node for each in places] or [node for node in cluster.nodes if not unfit(node, job)]
    if _is_encrypted(job, cluster):
        engines.check_encryption([coordinator, *(node for node in taking_part if node != coordinator)])
    few_files = [node for node in taking_part if engines.has_few_files(node.engine)]
    which = "the manager spoken to" if coordinator.id == cluster.node_id else "as the job says"
    return Placement(
        coordinator,
        places,
        _port(job, coordinator, cluster),
        (
            *_gpu_notices(job, cluster),
            *_network_notices(job),
            *(engines.files_notice(node.engine, f" of {node.hostname}") for node in few_files[:1]),
            *count,
            f"the coordinator is on {coordinator.hostname}, {which}",
        ),
        engines.OPEN_FILES if few_files else None,
    )


def choose(job: Job, cluster: Cluster) -> Placement:
    """Like `place`, but a count becomes names too: the first nodes that can take part, as many as may.

    Raises:
        ClusterError: the cluster has no place for it. RequestError: the job names no image.
    """
    placement = place(job, cluster)
    if placement.places:
        return placement
    fit = [node for node in cluster.nodes if not unfit(node, job)]
    chosen = fit[: job.nodes_max]
    places = tuple(NodePlacement(node, node.hostname, f"node.hostname == {node.hostname}") for node in chosen)
    notice = f"the nodes are {', '.join(each.name for each in places)}, the first that can take part"
    return dataclasses.replace(placement, places=places, notices=(notice, *placement.notices[:-2]))


def check_stack_name(stack: str, job: str, cluster: Cluster) -> None:
    """Refuse to deploy over a stack that is not this job's.

    Raises:
        ClusterError: somebody else's stack has the name.
    """
    for service in cluster.services:
        if service.stack == stack and service.labels.get(names.LABEL_JOB) != job:
            raise ClusterError(
                f"there is a stack {stack} already, which is not swarmtrain's",
                f"give the job another name, or remove that stack: docker stack rm {stack}",
            )


def _coordinator(job: Job, cluster: Cluster) -> Node:
    node = cluster.this if job.coordinator is None else _find(job.coordinator, cluster)
    if not node.is_manager:
        managers = ", ".join(each.hostname for each in cluster.nodes if each.is_manager)
        raise ClusterError(
            f"the coordinator cannot be on {node.hostname}, which is not a manager",
            f"the managers are {managers}",
        )
    if why := away(node):
        raise ClusterError(
            f"the coordinator cannot be on {node.hostname}, which {why}",
            f"{hint_for(node, job, why)}; constraints: can keep the workers off it "
            f"(node.hostname != {node.hostname}), and coordinator: names another manager",
        )
    return node


def _named(name: str, job: Job, cluster: Cluster) -> NodePlacement:
    node = _find(name, cluster)
    if why := unfit(node, job):
        raise ClusterError(f"node {name} {why}", hint_for(node, job, why))
    if _twins(node, cluster):
        return NodePlacement(node, node.id, f"node.id == {node.id}")
    return NodePlacement(node, node.hostname, f"node.hostname == {node.hostname}")


def _find(name: str, cluster: Cluster) -> Node:
    """The node of that hostname or id."""
    same = [node for node in cluster.nodes if node.hostname == name]
    if len(same) > 1:
        raise ClusterError(
            f"{len(same)} nodes of this Swarm are called {name}",
            f"name it by its id: {' or '.join(node.id for node in same)}",
        )
    same = same or [node for node in cluster.nodes if node.id == name]
    same = same or [node for node in cluster.nodes if len(name) >= 6 and node.id.startswith(name)]
    if len(same) != 1:
        known = [node.hostname for node in cluster.nodes]
        raise ClusterError(
            f"this Swarm has no node {name}{did_you_mean(name, known)}", f"its nodes are {', '.join(known)}"
        )
    return same[0]


def _check_distinct(places: Sequence[NodePlacement], asked: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for each, name in zip(places, asked, strict=True):
        if each.node.id in seen:
            raise ClusterError(
                f"{seen[each.node.id]} and {name} are the same node, which takes part once",
                "for more processes on a node: workers_per_node",
            )
        seen[each.node.id] = name


def _twins(node: Node, cluster: Cluster) -> list[Node]:
    return [other for other in cluster.nodes if other.hostname == node.hostname and other.id != node.id]


def _count(job: Job, cluster: Cluster) -> str:
    """Check a job that asks for a number of nodes, and say which there are."""
    reasons = {node.id: unfit(node, job) for node in cluster.nodes}
    fit = [node for node in cluster.nodes if not reasons[node.id]]
    for node in fit:
        if twins := [other for other in _twins(node, cluster) if other in fit]:
            raise ClusterError(
                f"{len(twins) + 1} nodes of this Swarm are called {node.hostname}, and a run tells nodes by name",
                "rename one (hostnamectl set-hostname, then restart Docker), or name the nodes by their ids",
            )
    out = [f"{node.hostname} {reasons[node.id]}" for node in cluster.nodes if reasons[node.id]]
    if len(fit) < job.nodes_min:
        have = (
            f"{len(fit)} of the Swarm's {counted(len(cluster.nodes), 'node')} can" if fit else "no node can"
        )
        raise ClusterError(
            f"the job needs {counted(job.nodes_min, 'node')}, and {have} take part"
            + (f": {'; '.join(out)}" if out else ""),
            _count_hint(job, cluster, reasons),
        )
    hostnames = ", ".join(node.hostname for node in fit)
    left = f" ({'; '.join(out)})" if out else ""
    if len(fit) > job.nodes_max:
        return f"Swarm picks {job.nodes_max} of the nodes {hostnames}{left}"
    wanted = (
        f"; the run starts with those that come, at least {job.nodes_min}" if job.nodes_min < len(fit) else ""
    )
    return f"the nodes are {hostnames}{wanted}{left}"


def _count_hint(job: Job, cluster: Cluster, reasons: dict[str, str]) -> str:
    whys = [why for why in reasons.values() if why]
    if any(why.startswith("declares") for why in whys):
        return gpu_hint(cluster.nodes, job)
    if whys and all(why.startswith("has") for why in whys):
        return "ask for less under resources:, or for fewer nodes"
    if any(why.startswith("does not meet") for why in whys):
        return "docker node inspect shows a node's labels; docker node update --label-add sets one"
    if not whys:
        return "ask for fewer nodes, or join machines: docker swarm join-token worker shows how"
    return "bring the others back, or ask for fewer nodes"


def _check_network(job: Job, cluster: Cluster) -> None:
    name = job.existing_network
    if name is None:
        return
    network = next((each for each in cluster.networks if each.name == name), None)
    create = f"make one with: docker network create --driver overlay --attachable {name}"
    if network is None:
        known = [each.name for each in cluster.networks if each.scope == "swarm" and each.name != "ingress"]
        raise ClusterError(f"there is no network {name}{did_you_mean(name, known)}", create)
    if network.scope != "swarm":
        raise ClusterError(
            f"network {name} belongs to one engine (scope {network.scope}), not to the Swarm", create
        )
    if network.driver != "overlay":
        raise ClusterError(
            f"network {name} is of the driver {network.driver}, and nodes meet on an overlay", create
        )
    if not network.attachable:
        raise ClusterError(f"network {name} is not attachable", create)


def _gpu_notices(job: Job, cluster: Cluster) -> list[str]:
    if job.resources.gpus:
        old = any(
            node.is_manager and engines.is_before(node, engines.KEEPS_GPU_TASKS) for node in cluster.nodes
        )
        return [_OLD_MANAGERS] if old else []
    real = [node for node in cluster.nodes if LABEL_PRETEND not in node.engine_labels]
    kinds = sorted({kind for node in real for kind in node.generic if "gpu" in kind.lower()})
    if job.resources.gpus == 0 or not kinds:
        return []
    flags = "--gpus N" if job.resources.gpu_kind in kinds else f"--gpus N --gpu-kind {kinds[0]}"
    notice = (
        f"no GPU is reserved, though nodes here declare {', '.join(kinds)}: workers use those that the node's "
        f"Docker shows, which others may have reserved; {flags} reserves N on each node"
    )
    return [notice]


def _network_notices(job: Job) -> list[str]:
    if job.network == "encrypted":
        return [
            "network: encrypted needs ESP (IP protocol 50) to pass between all nodes, and costs throughput"
        ]
    return []


def _is_encrypted(job: Job, cluster: Cluster) -> bool:
    """Whether the run's network is encrypted, its own or one that exists."""
    return job.network == "encrypted" or any(
        network.encrypted for network in cluster.networks if network.name == job.existing_network
    )


def _port(job: Job, coordinator: Node, cluster: Cluster) -> int:
    """On the host network, where runs share their nodes' ports: one that no other run's coordinator has."""
    if job.network != "host":
        return names.PORT
    taken = {service.labels.get(LABEL_PORT) for service in cluster.services}
    first = zlib.crc32(job.name.encode()) % 1000
    ports = (names.PORT + (first + step) % 1000 for step in range(1000))
    return next(port for port in ports if str(port) not in taken)
