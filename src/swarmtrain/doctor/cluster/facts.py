"""What is known of a Swarm before anything is tried on it. Values; `doctor.cluster.gather` asks for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from swarmtrain.swarm.cluster import LABEL_PRETEND, Cluster, Node


@dataclass(frozen=True)
class SpokenTo:
    """The docker command line here, and the engine that it speaks to.

    Args:
        least_api: the oldest API that the engine speaks; empty where it does not say.
        toolkit: the version of this machine's NVIDIA Container Toolkit, where the engine is this machine's.
    """

    client: str = ""
    client_api: str = ""
    engine: str = ""
    api: str = ""
    least_api: str = ""
    default_runtime: str = ""
    firewall: str = ""
    live_restore: bool = False
    autolock: bool = False
    toolkit: str = ""


@dataclass(frozen=True)
class SwarmFacts:
    """A Swarm as a manager tells of it.

    Args:
        counted: by node id, the kinds of GPU that it declares by a number instead of by names.
    """

    cluster: Cluster
    spoken_to: SpokenTo = SpokenTo()
    counted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes."""
        return self.cluster.nodes

    @property
    def managers(self) -> list[Node]:
        """Those that manage."""
        return [node for node in self.nodes if node.is_manager]

    @property
    def ready(self) -> list[Node]:
        """Those that can be given tasks."""
        return [node for node in self.nodes if node.state == "ready" and node.availability == "active"]


def node_names(nodes: Iterable[Node]) -> str:
    """``alice, bob``."""
    return ", ".join(node.hostname for node in nodes)


def gpu_kinds(node: Node) -> dict[str, int]:
    """The generic resources of a node that look like GPUs, and how many there are of each."""
    return {kind: count for kind, count in node.generic.items() if "gpu" in kind.lower()}


def is_pretend(node: Node) -> bool:
    """Whether its GPUs are there to be scheduled only."""
    return LABEL_PRETEND in node.engine_labels
