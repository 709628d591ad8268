"""Checks of a stack file: networks, names, ports. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from swarmtrain.doctor.check import Check, Flaw, Severity
from swarmtrain.doctor.compose.stack import HandWrittenStack

_OVERLAY_MTU = 1450
_DNSRR = "deploy: {endpoint_mode: dnsrr}"


def _vip(stack: HandWrittenStack) -> Iterator[Flaw]:
    met = {launch.meeting[0] for _, launch in stack.launches}
    for service in stack.services:
        if not service.is_vip or stack.on_host(service) or service.mode.startswith("global"):
            continue
        if service.names.isdisjoint(met):
            continue
        elastic = any(
            not launch.is_static and launch.meeting[0] in service.names for _, launch in stack.launches
        )
        if elastic and service.launch is not None:
            yield Flaw(
                str(service.line_of("deploy", "endpoint_mode")),
                f"{service.name} is found at a virtual address, which is none of its own: no node takes "
                "itself for the store's host",
                _DNSRR,
                severity=Severity.ERROR,
            )
        else:
            yield Flaw(
                str(service.line_of("deploy", "endpoint_mode")),
                f"{service.name} is found at a virtual address, which drops connections that rest for 15 "
                "minutes",
                _DNSRR,
            )


def _ports(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service in stack.training:
        if ports := service.written.get("ports"):
            refused = not service.is_vip and any(item.text("mode") != "host" for item in ports.items())
            yield Flaw(
                str(ports.line),
                "ports are published to everybody who reaches a node, and training needs none: nodes of "
                "one network reach every port" + ("; with dnsrr Swarm refuses them" if refused else ""),
                "leave ports: out",
                severity=Severity.ERROR if refused else None,
            )


def _drivers(stack: HandWrittenStack) -> Iterator[Flaw]:
    for name, written in stack.networks.items():
        driver = written.text("driver")
        if driver and driver != "overlay" and not written.is_true("external"):
            yield Flaw(
                str(written.line), f"the network {name} is a {driver} of one machine", "driver: overlay"
            )


def _undeclared(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service in stack.services:
        for name, written in service.networks.items():
            if name not in stack.networks and name != "default":
                yield Flaw(
                    str(written.line),
                    f"the network {name} is not declared: the file is refused",
                    f"networks: {{{name}: {{driver: overlay}}}} at the top",
                )


def _apart(stack: HandWrittenStack) -> Iterator[Flaw]:
    """Nodes that share no network with where they meet."""
    for service, launch in stack.launches:
        master = stack.called(launch.meeting[0])
        if master is None or master is service:
            continue
        ours, theirs = (set(each.networks) or {"default"} for each in (service, master))
        if ours.isdisjoint(theirs):
            sentence = f"{service.name} shares no network with {master.name}, where the nodes meet"
            yield Flaw(str(service.line_of("networks")), sentence, "the same network in every service")


def _made_by_hand(stack: HandWrittenStack) -> Iterator[Flaw]:
    known = {network.name for network in stack.cluster.networks} if stack.cluster else set()
    for name, written in stack.networks.items():
        if (
            written.is_true("external")
            or written.get("external") is not None
            or written.get("name") is not None
        ):
            continue
        if name in known:
            yield Flaw(
                str(written.line),
                f"there is a network {name} already; the stack makes another, STACK_{name}, and the first "
                "stays unused",
                f"networks: {{{name}: {{external: true}}}}, or docker network rm {name}",
                severity=Severity.WARNING,
            )
        elif written.is_true("attachable") and not written.is_true("internal"):
            yield Flaw(
                str(written.line),
                f"the stack makes this network, by the name STACK_{name}: one that `docker network create "
                f"{name}` makes is another",
                "nothing, if none is made by hand; else external: true",
            )


def _external_exists(stack: HandWrittenStack) -> Iterator[Flaw]:
    if stack.cluster is None:
        return
    known = {network.name: network for network in stack.cluster.networks}
    for key, written in stack.networks.items():
        name = written.text("name") or key
        if (
            written.is_true("external")
            and name not in ("host", "none")
            and "$" not in name
            and name not in known
        ):
            yield Flaw(
                str(written.line),
                f"there is no network {name} here",
                f"docker network create --driver overlay --attachable {name}",
            )


def _mtu(stack: HandWrittenStack) -> Iterator[Flaw]:
    for written in stack.networks.values():
        value = written.get("driver_opts", "com.docker.network.driver.mtu")
        if value is not None and value.text().isdecimal() and int(value.text()) > _OVERLAY_MTU:
            wanted = int(value.text()) + 50
            yield Flaw(
                str(value.line),
                f"an MTU of {value.text()} needs {wanted} bytes on every machine and switch in between: "
                "else small messages pass and training hangs at its first large one",
                "swarmtrain doctor --image IMAGE tries it; leave it out for Ethernet's 1500",
            )


def _encrypted(stack: HandWrittenStack) -> Iterator[Flaw]:
    for written in stack.networks.values():
        if value := written.get("driver_opts", "encrypted"):
            yield Flaw(
                str(value.line),
                "an encrypted network costs much of the bandwidth",
                "leave it out where the wires are yours",
            )


def _host_names(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service in stack.services:
        if stack.on_host(service) and (written := service.written.get("hostname")):
            yield Flaw(
                str(written.line), "`hostname:` beside the nodes' own network is refused", "leave it out"
            )


def _traefik(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service in stack.services:
        labels = service.written.entries("deploy", "labels")
        texts = {key.partition("=")[0]: written for key, written in labels.items()}
        on = texts.get("traefik.enable")
        if on is not None and not any(".loadbalancer.server.port" in key for key in texts):
            yield Flaw(
                str(on.line),
                "in a Swarm Traefik cannot know a service's port without a label; and training serves "
                "nothing",
                "traefik.http.services.NAME.loadbalancer.server.port=PORT, on a service that serves pages",
            )


CHECKS: tuple[Check[HandWrittenStack], ...] = (
    Check(
        "virtual-address",
        Severity.WARNING,
        "names that lead to a virtual address instead of the container",
        _vip,
    ),
    Check("ports", Severity.WARNING, "published ports", _ports),
    Check("network-driver", Severity.ERROR, "networks that reach one machine only", _drivers),
    Check("network-undeclared", Severity.ERROR, "networks that are not declared", _undeclared),
    Check("network-apart", Severity.ERROR, "nodes without a common network", _apart),
    Check("network-twice", Severity.NOTE, "a network that is made by hand and by the stack", _made_by_hand),
    Check("network-missing", Severity.ERROR, "external networks that are not there", _external_exists),
    Check("mtu", Severity.WARNING, "packets that are larger than the path carries", _mtu),
    Check("encrypted", Severity.NOTE, "what encryption costs", _encrypted),
    Check("host-name", Severity.WARNING, "`hostname` on the nodes' own network", _host_names),
    Check("traefik", Severity.WARNING, "Traefik's labels without a port", _traefik),
)
