"""Argument lists and configuration of the lab's parts: pure builders, run by `lab` and `node`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address

from swarmtrain.errors import RequestError
from swarmtrain.lab.gossip import DIAGNOSTIC_PORT
from swarmtrain.lab.names import (
    LABEL_ADDRESS,
    LABEL_ENGINE,
    LABEL_GPUS,
    LABEL_LAB,
    LABEL_NODE,
    LABEL_SETTINGS,
    LabNames,
    hostname,
    pretend_gpus,
)
from swarmtrain.swarm.cluster import LABEL_PRETEND

# What a Docker Engine in a container needs, where the host's engine may not hand out everything (--privileged).
CAPABILITIES = ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "SYS_CHROOT", "MKNOD", "IPC_LOCK")
UNCONFINED = ("seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined")

# A link-local address for a node's own resolver: nothing else on a network uses it, and it is routed to from the
# containers of the node's engine, through their gateway.
RESOLVER = "169.254.53.53"

# A token bucket must hold what the link sends between two timer ticks, 4 ms apart on a slow kernel (tc-tbf(8)).
TICKS_PER_SECOND = 250
SMALLEST_BURST = 512 * 1024
LATENCY = "100ms"
UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}


@dataclass(frozen=True)
class NodeSettings:
    """All that a node's container is made from. A node whose settings differ from the wanted ones is made anew.

    Args:
        image: id of the node image.
        engine: the Debian release whose engine it has; a disk goes with it, since no engine reads a newer one's.
        address: its address in the lab's network, kept over unplugging and power cuts.
        cpus: how many CPUs' worth of time it may use.
        gpus: how many pretend GPUs it declares.
        offline: no registry can be reached, so every name outside of the Swarm is refused at once.
        privileged: whether the host's engine hands out all rights; explicit capabilities otherwise.
        group: the host's group that may speak to the node's engine.
    """

    image: str
    engine: str
    address: IPv4Address
    cpus: float
    gpus: int
    offline: bool
    privileged: bool
    group: int


def daemon_config(names: LabNames, index: int, settings: NodeSettings) -> dict[str, object]:
    """The daemon.json of a node's engine."""
    config: dict[str, object] = {
        # The first is for people who look around in the node, the second is mounted from the host.
        "hosts": ["unix:///var/run/docker.sock", "unix:///lab/docker.sock"],
        "group": str(settings.group),
        "storage-driver": "overlay2",
        "log-driver": "json-file",
        "log-opts": {"max-size": "10m", "max-file": "2"},
        # On the node's loopback: who takes part in the overlay networks' gossip, which the Swarm's own list hides.
        "network-diagnostic-port": DIAGNOSTIC_PORT,
    }
    if settings.gpus:
        gpus = pretend_gpus(names.lab, index, settings.gpus)
        config["node-generic-resources"] = [f"gpu={gpu}" for gpu in gpus]
        config["labels"] = [f"{LABEL_PRETEND}=gpu"]
    if settings.offline:
        config["dns"] = [RESOLVER]
    return config


def run_node(names: LabNames, index: int, settings: NodeSettings) -> list[str]:
    """``docker run`` of a node, labelled with the digest of what it is made from."""
    label = ["--label", f"{LABEL_SETTINGS}={digest(names, index, settings)}"]
    return ["run", "--detach", *label, *_node_options(names, index, settings), settings.image]


def digest(names: LabNames, index: int, settings: NodeSettings) -> str:
    """A hash of all that a node is made from, by which a node is known that is no longer as it should be."""
    parts = [settings.image, _node_options(names, index, settings), daemon_config(names, index, settings)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _node_options(names: LabNames, index: int, settings: NodeSettings) -> list[str]:
    name, directory = names.container(index), names.node_directory(index)
    options = ["--name", name, "--hostname", hostname(index)]
    options += ["--label", f"{LABEL_LAB}={names.lab}", "--label", f"{LABEL_NODE}={index}"]
    options += ["--label", f"{LABEL_ADDRESS}={settings.address}", "--label", f"{LABEL_GPUS}={settings.gpus}"]
    options += ["--label", f"{LABEL_ENGINE}={settings.engine}"]
    options += ["--network", names.project, "--ip", str(settings.address)]
    options += ["--cpus", f"{settings.cpus:g}", "--cgroupns", "private", "--sysctl", "net.ipv4.ip_forward=1"]
    if settings.privileged:
        options += ["--privileged"]
    else:
        for capability in CAPABILITIES:
            options += ["--cap-add", capability]
        for option in UNCONFINED:
            options += ["--security-opt", option]
        options += ["--device-cgroup-rule", "a *:* rwm"]
    options += ["--tmpfs", "/run", "--volume", f"{name}:/var/lib/docker", "--volume", f"{directory}:/lab"]
    if settings.offline:
        options += ["--volume", f"{directory}/resolv.conf:/etc/resolv.conf:ro"]
    return options


def create_network(names: LabNames, subnet: str | None) -> list[str]:
    """``docker network create`` of the lab's network; fixed addresses need a subnet that was asked for by name."""
    label = f"{LABEL_LAB}={names.lab}"
    chosen = ["--subnet", subnet] if subnet else []
    return ["network", "create", "--driver", "bridge", "--label", label, *chosen, names.project]


def limit_link(container: str, interface: str, rate: str | None) -> list[str]:
    """``docker exec`` that limits what a node may send (as tc writes rates: ``1gbit``), or lifts the limit."""
    tc = ["exec", container, "tc", "qdisc"]
    if rate is None:
        return [*tc, "delete", "dev", interface, "root"]
    burst = max(SMALLEST_BURST, int(bits_per_second(rate) / 8 / TICKS_PER_SECOND))
    shape = ["tbf", "rate", rate, "burst", str(burst), "latency", LATENCY]
    return [*tc, "replace", "dev", interface, "root", *shape]


def bits_per_second(rate: str) -> float:
    """The value of a rate as tc writes it, in bits: ``200mbit``, ``2.5gbit``."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kmgt]?)bit", rate.lower())
    if not found or not float(found[1]):
        raise RequestError(f"{rate!r} is no rate of a link", "write it like 200mbit or 1gbit")
    return float(found[1]) * UNITS[found[2]]


def build_image(
    tag: str, base: str, directory: str, labels: Iterable[str] = (), arguments: Iterable[str] = ()
) -> list[str]:
    """``docker build``; an argument without a value (a proxy) is one whose value docker takes from its environment."""
    command = ["build", "--network", "host", "--tag", tag, "--build-arg", f"BASE_IMAGE={base}"]
    for label in labels:
        command += ["--label", label]
    for argument in arguments:
        command += ["--build-arg", argument]
    return [*command, directory]
