"""Joining a lab's nodes in one Swarm, and mending that Swarm after anything that was done to its machines."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from swarmtrain.docker.command import DockerFailed
from swarmtrain.errors import ClusterError
from swarmtrain.lab import gossip
from swarmtrain.lab.node import ELECTION_PATIENCE, PATIENCE, LabNode, wait_until

SWARM_PORT = 2377
# A node that comes back is Ready within a heartbeat or two (5 s each); forming a Swarm anew takes as long.
READY_SECONDS = 60.0
# A join takes well under a second, another start of an engine a dozen.
GATHER_SECONDS = 60.0


def form_swarm(nodes: Sequence[LabNode]) -> None:
    """Make these nodes one Swarm, with the first as its manager and nobody else in it, and wait until it is whole.

    That is: all are Ready, and all take part in the overlay networks' gossip.
    """
    manager, workers = nodes[0], nodes[1:]
    _ensure_manager(manager)
    address = f"{manager.address()}:{SWARM_PORT}"
    token = manager.docker.run("swarm", "join-token", "--quiet", "worker").strip()
    known = {row["ID"] for row in manager.docker.json_lines("node", "ls")}

    def ensure_member(node: LabNode) -> None:
        state = _settled(node)
        if state["NodeID"] in known and state["LocalNodeState"] == "active":
            return
        if state["LocalNodeState"] != "inactive":
            node.docker.run("swarm", "leave", "--force")
        join(node, address, token)

    with ThreadPoolExecutor(len(nodes)) as pool:
        list(pool.map(ensure_member, workers))
    _tidy(manager, {node.swarm()["NodeID"] for node in nodes})
    wait_until(
        lambda: all(manager.swarm_states().get(node.name) == "Ready" for node in nodes),
        READY_SECONDS,
        "the Swarm's nodes are not all Ready",
    )
    _gather(nodes)


def _gather(nodes: Sequence[LabNode]) -> None:
    """Wait until every engine knows every other in the overlay networks' gossip, and help those that do not."""
    addresses = {node.address(): node for node in nodes}

    def gathered() -> bool:
        together = True
        for address, node in addresses.items():
            found = node.peers()
            together &= found.issuperset(addresses)
            if found and address not in found:
                node.restart()
            else:
                gossip.join(node.exec, set(addresses) - found)
        return together

    wait_until(
        gathered, GATHER_SECONDS, "the engines do not know one another in the overlay networks' gossip"
    )


def _settled(node: LabNode) -> dict[str, Any]:
    """The node's Swarm state once it is no longer on its way into or out of one."""
    wait_until(
        lambda: node.swarm()["LocalNodeState"] != "pending", PATIENCE, f"{node.name} does not find its Swarm"
    )
    return node.swarm()


def _ensure_manager(node: LabNode) -> None:
    state = _settled(node)
    if not (state["LocalNodeState"] == "active" and state["ControlAvailable"]):
        if state["LocalNodeState"] != "inactive":
            node.docker.run("swarm", "leave", "--force")
        node.docker.run("swarm", "init", "--advertise-addr", node.address())

    def leads() -> bool:
        try:
            node.swarm_states()
        except DockerFailed:  # "has no leader", for a moment after the manager's machine was started again
            return False
        return True

    wait_until(leads, ELECTION_PATIENCE, f"the Swarm of {node.name} has no leader")


def _tidy(manager: LabNode, members: set[str]) -> None:
    """Strike off nodes that are no more, and put drained ones back to work."""
    for row in manager.docker.json_lines("node", "ls"):
        if row["ID"] not in members:
            manager.docker.run("node", "rm", "--force", row["ID"])
        elif row["Availability"] != "Active":
            manager.docker.run("node", "update", "--availability", "active", row["ID"])


def join(node: LabNode, manager: str, token: str) -> None:
    """Join a node to a Swarm as a worker.

    By the engine's API, because the token would stand in the arguments of ``docker swarm join``.
    """
    request = {"RemoteAddrs": [manager], "JoinToken": token}
    request |= {"AdvertiseAddr": node.address(), "ListenAddr": f"0.0.0.0:{SWARM_PORT}"}
    connection = _UnixConnection(node.socket)
    try:
        connection.request("POST", "/swarm/join", json.dumps(request), {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read().decode(errors="replace").strip()
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise ClusterError(f"{node.name} could not join the Swarm: {answer}")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over an engine's socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
