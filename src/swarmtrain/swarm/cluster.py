"""What the Swarm says about itself, read once before a decision: nodes, networks, services.

`read` asks Docker; everything else here is a value, so that checks and rendering stay pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from swarmtrain.docker.command import Docker, DockerFailed
from swarmtrain.errors import ClusterError

LABEL_PRETEND = "swarmtrain.pretend"  # on an engine: its generic resources are there to be scheduled only
STACK_LABEL = "com.docker.stack.namespace"
SECONDS = 30.0  # an answer of the engine that takes longer is none


@dataclass(frozen=True)
class Node:
    """A machine of the Swarm."""

    id: str
    hostname: str
    role: str = "worker"  # or manager
    state: str = "ready"  # unknown, down, ready, disconnected
    availability: str = "active"  # active, pause, drain
    address: str = ""
    cpus: float = 0.0
    memory: int = 0  # bytes
    generic: Mapping[str, int] = field(default_factory=dict)  # kind of resource to how many
    labels: Mapping[str, str] = field(default_factory=dict)
    engine_labels: Mapping[str, str] = field(default_factory=dict)
    os: str = "linux"
    arch: str = "x86_64"
    engine: str = ""  # version
    reachable: bool = True  # of a manager: whether the others reach it

    @property
    def is_manager(self) -> bool:
        return self.role == "manager"


@dataclass(frozen=True)
class Network:
    """A network that Swarm or this engine knows."""

    name: str
    driver: str
    scope: str
    attachable: bool = False
    internal: bool = False
    encrypted: bool = False


@dataclass(frozen=True)
class Service:
    """A service, whoever made it."""

    id: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    created: str = ""  # RFC 3339
    image: str = ""
    replicas: int | None = None  # None: not replicated

    @property
    def stack(self) -> str:
        """The stack it belongs to, or nothing."""
        return self.labels.get(STACK_LABEL, "")


@dataclass(frozen=True)
class Cluster:
    """A Swarm as one of its managers sees it."""

    node_id: str  # the node whose engine was asked
    nodes: tuple[Node, ...]
    networks: tuple[Network, ...] = ()
    services: tuple[Service, ...] = ()

    @property
    def this(self) -> Node:
        """The node whose engine was asked."""
        return next(node for node in self.nodes if node.id == self.node_id)


def read(docker: Docker) -> Cluster:
    """Ask a manager for the cluster's facts: all questions at once, since behind ssh each takes a connection.

    Raises:
        ClusterError: Docker does not answer, or is not a manager of a Swarm.
    """
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(read_nodes, docker)
        networks, services = pool.submit(read_networks, docker), pool.submit(read_services, docker)
        info = pool.submit(docker.json_lines, "info", timeout=SECONDS)
    nodes = asked.result()  # first: it is what a node that is no manager says why of
    swarm = info.result()[0]["Swarm"]
    if swarm["LocalNodeState"] != "active":
        raise ClusterError(
            f"this node's part in the Swarm is {swarm['LocalNodeState']}: {swarm.get('Error') or 'no reason given'}",
            "look at: docker info",
        )
    return Cluster(
        swarm["NodeID"],
        tuple(sorted(nodes, key=lambda node: (node.hostname, node.id))),
        networks.result(),
        services.result(),
    )


def read_nodes(docker: Docker) -> list[Node]:
    """The machines. Raises ClusterError."""
    ids = docker.run("node", "ls", "--quiet", timeout=SECONDS).split()
    return list(map(node_of, inspect(docker, "node", ids)))


def read_networks(docker: Docker) -> tuple[Network, ...]:
    """The networks that this engine can see."""
    ids = docker.run("network", "ls", "--quiet", "--no-trunc", timeout=SECONDS).split()
    return tuple(
        Network(
            network["Name"],
            network["Driver"],
            network["Scope"],
            bool(network.get("Attachable")),
            bool(network.get("Internal")),
            "encrypted" in (network.get("Options") or {}),
        )
        for network in inspect(docker, "network", ids)
    )


def read_services(docker: Docker, *filters: str) -> tuple[Service, ...]:
    """The services, or those with these labels (``label=...``)."""
    flags = [word for each in filters for word in ("--filter", each)]
    ids = docker.run("service", "ls", "--quiet", *flags, timeout=SECONDS).split()
    return tuple(service_of(each) for each in inspect(docker, "service", ids))


def inspect(docker: Docker, kind: str, ids: Sequence[str]) -> list[dict[str, Any]]:
    """``docker inspect --type KIND``, without those that have gone since they were listed.

    Raises:
        ClusterError: Docker does not answer.
    """
    if not ids:
        return []
    args = ("inspect", "--type", kind, *ids)
    done = docker.completed(*args, timeout=SECONDS)
    stderr = done.stderr.decode(errors="replace").strip()
    if done.returncode != 0 and not re.search(r"no such|not found", stderr, re.IGNORECASE):
        raise DockerFailed(done.args, done.returncode, stderr)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def node_of(inspected: Mapping[str, Any]) -> Node:
    """A node from what ``docker node inspect`` says of it."""
    spec, description = inspected["Spec"], inspected.get("Description", {})
    resources, engine = description.get("Resources", {}), description.get("Engine", {})
    platform, manager = description.get("Platform", {}), inspected.get("ManagerStatus", {})
    return Node(
        id=inspected["ID"],
        hostname=description.get("Hostname", ""),
        role=spec["Role"],
        state=inspected["Status"]["State"],
        availability=spec["Availability"],
        address=_address(inspected["Status"].get("Addr", ""), manager.get("Addr", "")),
        cpus=resources.get("NanoCPUs", 0) / 1e9,
        memory=resources.get("MemoryBytes", 0),
        generic=_generic(resources.get("GenericResources") or ()),
        labels=spec.get("Labels") or {},
        engine_labels=engine.get("Labels") or {},
        os=platform.get("OS", ""),
        arch=platform.get("Architecture", ""),
        engine=engine.get("EngineVersion", ""),
        reachable=manager.get("Reachability", "reachable") == "reachable",
    )


def _address(own: str, as_manager: str) -> str:
    """A manager often says 0.0.0.0 or 127.0.0.1 of itself; what it tells other managers is right."""
    if own in ("", "0.0.0.0", "::", "127.0.0.1") and as_manager:
        return as_manager.rpartition(":")[0].strip("[]")
    return own


def _generic(resources: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for each in resources:
        if named := each.get("NamedResourceSpec"):
            counts[named["Kind"]] = counts.get(named["Kind"], 0) + 1
        elif discrete := each.get("DiscreteResourceSpec"):
            counts[discrete["Kind"]] = counts.get(discrete["Kind"], 0) + discrete["Value"]
    return counts


def service_of(inspected: Mapping[str, Any]) -> Service:
    """A service from what ``docker service inspect`` says of it."""
    spec = inspected["Spec"]
    return Service(
        id=inspected["ID"],
        name=spec["Name"],
        labels=spec.get("Labels") or {},
        created=inspected.get("CreatedAt", ""),
        image=spec["TaskTemplate"].get("ContainerSpec", {}).get("Image", ""),
        replicas=spec.get("Mode", {}).get("Replicated", {}).get("Replicas"),
    )
