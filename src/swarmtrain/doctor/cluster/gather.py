"""The facts of a Swarm, by the docker command line. Nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swarmtrain.docker import toolkit
from swarmtrain.docker.command import Docker, pointer
from swarmtrain.doctor.cluster.facts import SpokenTo, SwarmFacts
from swarmtrain.swarm import cluster
from swarmtrain.swarm.cluster import SECONDS


def gather(docker: Docker) -> SwarmFacts:
    """Ask a manager.

    Raises:
        ClusterError: Docker does not answer, or is not a manager of a Swarm.
    """
    read = cluster.read(docker)
    ids = [node.id for node in read.nodes]
    counted = {
        node["ID"]: kinds for node in cluster.inspect(docker, "node", ids) if (kinds := _counted(node))
    }
    return SwarmFacts(read, _spoken_to(docker), counted)


def _counted(node: Mapping[str, Any]) -> tuple[str, ...]:
    """The kinds of GPU that a node declares as ``gpu=2``, which tells nobody which they are."""
    resources = node.get("Description", {}).get("Resources", {}).get("GenericResources") or ()
    kinds = (each["DiscreteResourceSpec"]["Kind"] for each in resources if "DiscreteResourceSpec" in each)
    return tuple(sorted(kind for kind in kinds if "gpu" in kind.lower()))


def _spoken_to(docker: Docker) -> SpokenTo:
    versions = docker.json_lines("version", timeout=SECONDS)[0]
    client, server = versions.get("Client") or {}, versions.get("Server") or {}
    info = docker.json_lines("info", timeout=SECONDS)[0]
    spec = ((info.get("Swarm") or {}).get("Cluster") or {}).get("Spec") or {}
    # What is installed here says something of the engine where that is this machine's own.
    here = toolkit.version() if not pointer() else ""
    return SpokenTo(
        client=client.get("Version", ""),
        client_api=client.get("DefaultAPIVersion") or client.get("ApiVersion", ""),
        engine=server.get("Version", ""),
        api=server.get("ApiVersion", ""),
        least_api=server.get("MinAPIVersion", ""),
        default_runtime=info.get("DefaultRuntime", ""),
        firewall=(info.get("FirewallBackend") or {}).get("Driver", ""),
        live_restore=bool(info.get("LiveRestoreEnabled")),
        autolock=bool((spec.get("EncryptionConfig") or {}).get("AutoLockManagers")),
        toolkit=here,
    )
