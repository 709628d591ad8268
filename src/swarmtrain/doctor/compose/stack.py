"""A Compose file as the checks see it: services with what torchrun, Swarm and the network make of them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from swarmtrain.doctor.compose.source import ComposeSource, Written
from swarmtrain.doctor.compose.torchrun import Launch, launch_of
from swarmtrain.swarm.cluster import Cluster

_CONSTRAINT = re.compile(r"\s*([\w.\-]+)\s*(==|!=)\s*(.*?)\s*")


@dataclass(frozen=True)
class Variable:
    """A variable of a service's environment; no value where it is taken from who deploys."""

    value: str | None
    written: Written


@dataclass(frozen=True)
class StackMount:
    """Where something is mounted.

    Args:
        kind: ``bind``, ``volume`` or ``tmpfs``.
    """

    kind: str
    source: str
    target: str
    line: int


@dataclass(frozen=True)
class StackService:
    """A service of the file."""

    name: str
    written: Written
    launch: Launch | None
    environment: Mapping[str, Variable]
    networks: Mapping[str, Written]
    mounts: tuple[StackMount, ...]
    constraints: tuple[Written, ...]

    @property
    def line(self) -> int:
        """Of its name."""
        return self.written.line

    def line_of(self, *path: str) -> int:
        """The line of the innermost of these keys that is there."""
        while path and self.written.get(*path) is None:
            path = path[:-1]
        here = self.written.get(*path)
        return here.line if here is not None else self.line

    @property
    def mode(self) -> str:
        """``deploy.mode``."""
        return self.written.text("deploy", "mode") or "replicated"

    @property
    def replicas(self) -> int:
        """How many tasks it has; 1 where that is a variable."""
        text = self.written.text("deploy", "replicas")
        return int(text) if text.isdecimal() else 1

    @property
    def is_vip(self) -> bool:
        """Whether its name leads to a virtual address."""
        return self.written.text("deploy", "endpoint_mode") != "dnsrr"

    @property
    def names(self) -> set[str]:
        """Under which others find it."""
        aliases = {item.text() for each in self.networks.values() for item in _aliases(each)}
        hostname = self.written.text("hostname")
        return {self.name, f"tasks.{self.name}", *aliases, *([hostname] if hostname else [])}

    @property
    def pinned(self) -> str:
        """The node that it is pinned to, as its constraint names it; empty where it is not."""
        for each in self.constraints:
            key, operator, value = constraint(each.text())
            if key in ("node.hostname", "node.id") and operator == "==":
                return value
        return ""

    @property
    def gpus(self) -> int | None:
        """How many GPUs are reserved for a task; None where none are."""
        listed = self.written.get("deploy", "resources", "reservations", "generic_resources")
        values = [item.text("discrete_resource_spec", "value") for item in listed.items()] if listed else []
        return sum(int(value) for value in values if value.isdecimal()) if values else None


def _aliases(network: Written) -> tuple[Written, ...]:
    aliases = network.get("aliases")
    return aliases.items() if aliases is not None else ()


@dataclass(frozen=True)
class HandWrittenStack:
    """A file, and what is known of the Swarm that it is for.

    Args:
        cluster: None where nobody was asked.
        beside: by name, the texts of files beside it of which an image is built.
    """

    source: ComposeSource
    services: tuple[StackService, ...]
    cluster: Cluster | None = None
    beside: Mapping[str, str] = field(default_factory=dict)
    training: tuple[StackService, ...] = field(init=False)  # those that start torchrun

    def __post_init__(self) -> None:
        object.__setattr__(self, "training", tuple(each for each in self.services if each.launch is not None))

    @property
    def launches(self) -> list[tuple[StackService, Launch]]:
        """The services that start torchrun, and how."""
        return [(each, each.launch) for each in self.training if each.launch is not None]

    @property
    def networks(self) -> dict[str, Written]:
        """The networks at the top of the file."""
        return self.source.root.entries("networks")

    def called(self, name: str) -> StackService | None:
        """The service that others find under a name."""
        return next((each for each in self.services if name in each.names), None)

    def on_host(self, service: StackService) -> bool:
        """Whether a service is on its node's own network, where names of services lead nowhere."""
        return any(self.is_host(name) for name in service.networks)

    def is_host(self, network: str) -> bool:
        """Whether this name at the top of the file stands for the nodes' own network."""
        written = self.networks.get(network)
        name = (written.text("name") if written else "") or network
        return network == "host" or (name == "host" and written is not None)

    def is_internal(self, network: str) -> bool:
        """Whether a network has no way to the outside, and so no second interface."""
        written = self.networks.get(network)
        return written is not None and written.is_true("internal")


def stack_of(
    source: ComposeSource, cluster: Cluster | None = None, beside: Mapping[str, str] | None = None
) -> HandWrittenStack:
    """The services of a file."""
    entries = source.root.entries("services")
    services = tuple(_service(source, name, written) for name, written in entries.items())
    return HandWrittenStack(source, services, cluster, beside or {})


def constraint(text: str) -> tuple[str, str, str]:
    """A constraint's key, operator and value; empty ones where Swarm cannot read it."""
    found = _CONSTRAINT.fullmatch(text)
    return (found[1], found[2], found[3]) if found else ("", "", "")


def _service(source: ComposeSource, name: str, written: Written) -> StackService:
    placed = written.get("deploy", "placement", "constraints")
    return StackService(
        name,
        written,
        launch_of(source, written),
        _environment(written),
        written.entries("networks"),
        tuple(_mounts(written)),
        placed.items() if placed is not None else (),
    )


def _environment(service: Written) -> dict[str, Variable]:
    written = service.get("environment")
    if written is None:
        return {}
    if isinstance(written.value, Mapping):
        return {
            name: Variable(each.value if isinstance(each.value, str) else None, each)
            for name, each in written.value.items()
        }
    variables = {}
    for item in written.items():
        name, given, value = item.text().partition("=")
        variables[name] = Variable(value if given else None, item)
    return variables


def _mounts(service: Written) -> list[StackMount]:
    found = []
    volumes = service.get("volumes")
    for item in volumes.items() if volumes is not None else ():
        if isinstance(item.value, Mapping):
            found.append(
                StackMount(item.text("type") or "volume", item.text("source"), item.text("target"), item.line)
            )
        elif text := item.text():
            source, _, rest = text.partition(":")
            target = rest.partition(":")[0]
            kind = "bind" if source.startswith((".", "/", "~")) and target else "volume"
            found.append(StackMount(kind, source if target else "", target or source, item.line))
    return found
