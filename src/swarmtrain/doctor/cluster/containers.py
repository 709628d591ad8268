"""The argument lists of the doctor's network, configs and services. Pure.

All carry a stack's label, so that ``docker stack rm`` takes them together, also after a crash of who made them; and a
label that says who that was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swarmtrain.protocol.codec import dump
from swarmtrain.protocol.probes import reports
from swarmtrain.protocol.probes.reports import ProbePeer, ProbePort
from swarmtrain.swarm.cluster import STACK_LABEL, Node
from swarmtrain.swarm.parts import NO_GPU
from swarmtrain.wire import names

PREFIX = "swarmtrain-doctor-"
LABEL_OWNER = "swarmtrain.doctor"  # machine, process and start of who made it
GOSSIP, MANAGEMENT = 7946, 2377
HOST = "host"
GPUS = "gpus"  # the part that reserves some


@dataclass(frozen=True)
class DoctorStack:
    """Everything that is started for one look at a Swarm.

    Args:
        name: of the stack.
        owner: who started it, see `doctor.cluster.leftovers`.
        image: with Python, and for some checks torch.
        python: the interpreter in it.
        seconds: after which a container ends by itself.
    """

    name: str
    owner: str
    image: str
    python: str = "python3"
    seconds: float = 300.0

    @property
    def network(self) -> str:
        """The overlay network's name."""
        return f"{self.name}_way"

    @property
    def bundle(self) -> str:
        """The config's name."""
        return f"{self.name}_bundle"

    def service(self, part: str, gpu_kind: str = "") -> str:
        """The name of a part's service; of `GPUS` there is one for each kind."""
        return f"{self.name}_{part}{'-' if gpu_kind else ''}{re.sub('[^a-zA-Z0-9]', '', gpu_kind)}"

    def make_network(self) -> list[str]:
        """After ``docker``."""
        return ["network", "create", "--driver", "overlay", *self._labels(), self.network]

    def make_bundle(self) -> list[str]:
        """After ``docker``; the bundle is its input."""
        return ["config", "create", *self._labels(), self.bundle, "-"]

    def make_service(
        self, part: str, network: str = "", env: Mapping[str, str] | None = None, gpu_kind: str = ""
    ) -> list[str]:
        """A container of a part on every node, after ``docker``; of `GPUS` where one of the kind is free."""
        variables = {
            reports.ENV_NODE: "{{.Node.Hostname}}",
            reports.ENV_SECONDS: f"{self.seconds:.0f}",
            **({} if gpu_kind else NO_GPU),
            **(env or {}),
        }
        on_host = network == HOST
        return [
            *("service", "create", "--detach", "--quiet", "--no-resolve-image", "--with-registry-auth"),
            *("--name", self.service(part, gpu_kind), *self._labels()),
            *(("--generic-resource", f"{gpu_kind}=1") if gpu_kind else ()),
            *("--mode", "global", "--restart-condition", "none", "--no-healthcheck"),
            *("--user", "0:0", "--stop-grace-period", "2s"),
            *(() if on_host else ("--endpoint-mode", "dnsrr", "--hostname", hostname(part, "{{.Node.ID}}"))),
            *("--network", network or self.network),
            *("--config", f"source={self.bundle},target={names.BUNDLE},mode=0444"),
            *(word for key, value in variables.items() for word in ("--env", f"{key}={value}")),
            *("--entrypoint", f"{self.python} {names.BUNDLE}"),
            *(self.image, "probe", part),
        ]

    def _labels(self) -> list[str]:
        return ["--label", f"{STACK_LABEL}={self.name}", "--label", f"{LABEL_OWNER}={self.owner}"]


def hostname(part: str, node_id: str) -> str:
    """The name of a part's container on a node, in the overlay network."""
    return f"{part}-{node_id}"


def peers(nodes: Sequence[Node], addresses: Mapping[str, str], part: str = "answer") -> str:
    """What ``ask`` and ``collect`` are told: every container of a part, on the nodes whose ids have an address."""
    return json.dumps(
        [
            dump(ProbePeer(node.hostname, hostname(part, node.id), addresses[node.id]))
            for node in nodes
            if node.id in addresses
        ]
    )


def ports(nodes: Sequence[Node]) -> str:
    """What ``ports`` is told: the gossip of every node, and the management of managers."""
    wanted = [ProbePort(node.hostname, node.address, GOSSIP) for node in nodes if node.address]
    wanted += [
        ProbePort(node.hostname, node.address, MANAGEMENT)
        for node in nodes
        if node.address and node.is_manager
    ]
    return json.dumps([dump(each) for each in wanted])
