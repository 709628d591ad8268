"""Checks of a Swarm by what its managers say of its nodes: who is there, and where. Pure."""

from __future__ import annotations

import ipaddress
from collections import Counter, defaultdict
from collections.abc import Iterator

from swarmtrain.doctor.check import Check, Flaw, Severity
from swarmtrain.doctor.cluster.facts import SwarmFacts, node_names
from swarmtrain.swarm.cluster import Node
from swarmtrain.wire.plural import counted

_UNEVEN = 2.0


def _managers(swarm: SwarmFacts) -> Iterator[Flaw]:
    many, total = len(swarm.managers), len(swarm.nodes)
    if many % 2 == 0:
        yield Flaw(
            node_names(swarm.managers),
            f"{many} managers survive the loss of {many // 2 - 1}, as {many - 1} would: an even number "
            "adds only one "
            "that may fail",
            "docker node demote NAME, or promote one more",
            severity=Severity.WARNING,
        )
    elif many == 1 and total > 2:
        yield Flaw(
            node_names(swarm.managers),
            "one manager: while its machine is off nothing is started or moved; what runs goes on",
            "docker node promote NAME on two more nodes that are always on",
        )
    if many > 7:
        yield Flaw(
            "",
            f"{many} managers agree on every change: more than 7 only slow that down",
            "docker node demote NAME",
        )


def _managers_good(swarm: SwarmFacts) -> str:
    return f"{counted(len(swarm.managers), 'manager')} of {counted(len(swarm.nodes), 'node')}"


def _unreachable(swarm: SwarmFacts) -> Iterator[Flaw]:
    for node in swarm.managers:
        if not node.reachable:
            yield Flaw(
                node.hostname,
                "this manager is not reached by the others: one more that fails may leave the Swarm "
                "without a majority",
                "on it: systemctl status docker; 2377/tcp must be open between managers",
            )


def _states(swarm: SwarmFacts) -> Iterator[Flaw]:
    for node in swarm.nodes:
        if node.state != "ready":
            yield Flaw(
                node.hostname,
                f"it is {node.state}: no manager hears from it",
                "on it: systemctl status docker; and whether it reaches a manager: nc -zv MANAGER 2377",
                (f"its address is {node.address}",) if node.address else (),
            )


def _states_good(swarm: SwarmFacts) -> str:
    return f"every node is ready: {node_names(swarm.nodes)}"


def _availability(swarm: SwarmFacts) -> Iterator[Flaw]:
    for node in swarm.nodes:
        if node.availability != "active":
            what = {"drain": "is drained", "pause": "is paused"}.get(node.availability, node.availability)
            yield Flaw(
                node.hostname,
                f"it {what}: it takes no tasks",
                f"docker node update --availability active {node.hostname}",
            )


def _same_names(swarm: SwarmFacts) -> Iterator[Flaw]:
    for name, count in Counter(node.hostname for node in swarm.nodes).items():
        if count > 1:
            states = {node.state for node in swarm.nodes if node.hostname == name}
            left = "down" in states
            yield Flaw(
                name,
                f"{count} nodes have this name, so none of them can be named"
                + (": a machine that joined anew leaves its old entry" if left else ""),
                "docker node rm ID (of the one that is down)"
                if left
                else "hostnamectl set-hostname NAME, then restart Docker",
            )


def _addresses(swarm: SwarmFacts) -> Iterator[Flaw]:
    by_address: dict[str, list[Node]] = defaultdict(list)
    for node in swarm.nodes:
        by_address[node.address].append(node)
        try:
            address = ipaddress.ip_address(node.address)
        except ValueError:
            continue
        if address.is_loopback or address.is_unspecified or address in ipaddress.ip_network("172.17.0.0/16"):
            yield Flaw(
                node.hostname,
                f"its address in the Swarm is {node.address}, where no other machine reaches it: no "
                "overlay network can",
                "docker swarm leave there, and join again with --advertise-addr ADDRESS",
            )
    for address_text, nodes in by_address.items():
        alive = [node for node in nodes if node.state == "ready"]
        if address_text and len(alive) > 1:
            yield Flaw(
                node_names(alive),
                f"they have the same address, {address_text}",
                "join again with --advertise-addr ADDRESS",
            )


def _autolock(swarm: SwarmFacts) -> Iterator[Flaw]:
    if swarm.spoken_to.autolock:
        yield Flaw(
            "",
            "managers are locked when they restart: until somebody types the key, they manage nothing",
            "docker swarm update --autolock=false, or keep: docker swarm unlock-key",
        )


def _architectures(swarm: SwarmFacts) -> Iterator[Flaw]:
    kinds: dict[str, list[Node]] = defaultdict(list)
    for node in swarm.nodes:
        kinds[node.arch].append(node)
    if len(kinds) > 1:
        yield Flaw(
            "",
            f"nodes of {counted(len(kinds), 'architecture')}: an image is for one unless it was built for "
            "all",
            "--constraint node.platform.arch==ARCH, or docker buildx build --platform",
            tuple(f"{arch or 'unknown'}: {node_names(nodes)}" for arch, nodes in sorted(kinds.items())),
        )


def _uneven(swarm: SwarmFacts) -> Iterator[Flaw]:
    if len(swarm.ready) < 2:
        return
    fewest, most = (choose(swarm.ready, key=lambda node: node.cpus) for choose in (min, max))
    if fewest.cpus and most.cpus / fewest.cpus > _UNEVEN:
        yield Flaw(
            fewest.hostname,
            f"it has {fewest.cpus:g} CPUs, and {most.hostname} {most.cpus:g}: all ranks wait for the slowest",
            "leave it out (--nodes), or give it less to do",
        )


CHECKS: tuple[Check[SwarmFacts], ...] = (
    Check(
        "managers",
        Severity.NOTE,
        "how many managers there are, and what their loss means",
        _managers,
        _managers_good,
    ),
    Check("manager-unreachable", Severity.ERROR, "managers that the others do not reach", _unreachable),
    Check("node-down", Severity.ERROR, "nodes that no manager hears from", _states, _states_good),
    Check("node-drained", Severity.WARNING, "nodes that take no tasks", _availability),
    Check("node-name", Severity.WARNING, "nodes of one name", _same_names),
    Check("node-address", Severity.ERROR, "addresses that no other machine reaches", _addresses),
    Check("autolock", Severity.NOTE, "managers that need a key when they restart", _autolock),
    Check("architectures", Severity.WARNING, "nodes of different architectures", _architectures),
    Check("uneven", Severity.NOTE, "nodes that the others would wait for", _uneven),
)
