"""Which interface and address a node's ranks talk through.

On an overlay network a container has two interfaces, in any order: the overlay, and the bridge to the outside
(docker_gwbridge), which looks like a network and reaches nobody. Names such as eth0 are luck. What cannot lie is the
route: the kernel says from which address it would talk to a peer, and the interface that has this address is the one.
"""

from __future__ import annotations

import fcntl
import ipaddress
import random
import socket
import struct
from collections.abc import Sequence

from swarmtrain.errors import ClusterError
from swarmtrain.structs import Struct

_SIOCGIFADDR = 0x8915
_SIOCGIFNETMASK = 0x891B
_DEAD_ENDS = ("docker_gwbridge", "docker0")
# below Linux's ephemeral ports, so that no outgoing connection takes one
_MASTER_PORTS = range(20_000, 32_000)


class Interface(Struct):
    """A network interface with its IPv4 address."""

    name: str
    address: str
    prefix: int

    def contains(self, address: str) -> bool:
        """Whether ``address`` is in this interface's network."""
        network = ipaddress.ip_network(f"{self.address}/{self.prefix}", strict=False)
        return ipaddress.ip_address(address) in network


class Choice(Struct):
    """The interface that was chosen, and the reason in words."""

    interface: str
    address: str
    why: str


def choose(interfaces: Sequence[Interface], source: str, peer: str, *, same_machine: bool = False) -> Choice:
    """The interface to use for training traffic.

    Args:
        interfaces: what this node has.
        source: the address from which the kernel talks to ``peer``.
        peer: the address of somebody who takes part in the run, on another node as a rule.
        same_machine: every node of the run is on this machine, so loopback is right.

    Raises:
        ClusterError: the route leads through loopback or Docker's own bridge, where no other node is.
    """
    owner = next((each for each in interfaces if each.address == source), None)
    if same_machine:
        name = owner.name if owner else "lo"
        return Choice(name, source, "every node is on this machine")
    if ipaddress.ip_address(source).is_loopback:
        raise ClusterError(
            f"the route to {peer} leads through loopback, where no other node can be reached",
            "does the machine's name stand for 127.0.1.1 in /etc/hosts?",
        )
    if owner is None:
        raise ClusterError(f"no interface has the address {source}, from which {peer} is reached")
    if owner.name in _DEAD_ENDS:
        raise ClusterError(
            f"the route to {peer} leads through {owner.name}, which connects no machines",
            "is the node's advertised address one of Docker's own networks?",
        )
    why = "in its network" if owner.contains(peer) else "by its route"
    others = [each.name for each in interfaces if each.name not in (owner.name, "lo")]
    unused = f", not {', '.join(others)}" if others else ""
    return Choice(owner.name, source, f"reaches {peer} {why}{unused}")


def interfaces() -> list[Interface]:
    """The interfaces of this machine or container that have an IPv4 address."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                address = _ioctl(probe, _SIOCGIFADDR, name)
                mask = _ioctl(probe, _SIOCGIFNETMASK, name)
            except OSError:
                continue  # no IPv4 address on it
            found.append(Interface(name, address, int(ipaddress.ip_address(mask)).bit_count()))
    return found


def source_address(peer: str) -> str:
    """The address from which the kernel would talk to ``peer``; nothing is sent. Raises OSError: no route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((peer, 9))
        return str(probe.getsockname()[0])


def free_port(address: str) -> int:
    """A port that is free on ``address`` now. Raises OSError when none of many is."""
    for port in random.SystemRandom().sample(_MASTER_PORTS, 200):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return port
    raise OSError(f"none of 200 ports on {address} is free")


def _ioctl(probe: socket.socket, request: int, name: str) -> str:
    answer = fcntl.ioctl(probe.fileno(), request, struct.pack("256s", name.encode()[:15]))
    return socket.inet_ntoa(answer[20:24])
