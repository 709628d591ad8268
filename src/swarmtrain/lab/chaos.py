"""A lab's machines as `swarmtrain chaos` uses them: frozen, unplugged, without power, behind a slow link.

It has the shape of `launchers.base.Machines`; the command line, which knows both, brings them together.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence

from swarmtrain.docker.command import Docker
from swarmtrain.errors import ClusterError
from swarmtrain.lab.lab import Lab
from swarmtrain.lab.names import state_directory
from swarmtrain.lab.node import LabNode
from swarmtrain.launchers.base import Act, Run, Undo
from swarmtrain.launchers.swarm import containers
from swarmtrain.wire import names

_OF_MACHINES = ("freeze", "unplug", "power-off", "slow-link")


class LabMachines:
    """The machines that a run on a lab is on.

    Args:
        others: finds the other runs that are live on this lab; a machine that one of them is on is left alone.
    """

    mix = (
        *("kill-worker", "stop-worker", "kill-container", "kill-coordinator", "freeze", "unplug"),
        *("power-off", "slow-link", "corrupt-snapshot"),
    )
    hint = ""

    def __init__(self, lab: Lab, run: Run, others: Callable[[], Sequence[Run]] = list) -> None:
        self._lab, self._run, self._others = lab, run, others
        self._slowing = threading.Lock()
        # Of nodes behind slow links: the rate before, then that of each that lasts.
        self._rates: dict[str, list[str | None]] = {}
        self.kinds: Mapping[str, Act] = {
            "kill-container": lambda node, rate: self._kill(node, names.AGENT_SERVICE),
            "kill-coordinator": lambda node, rate: self._kill("", names.COORDINATOR_SERVICE),
            "freeze": lambda node, rate: self._switch(node, LabNode.pause, LabNode.unpause),
            "unplug": lambda node, rate: self._switch(node, LabNode.unplug, LabNode.plug),
            "power-off": lambda node, rate: self._switch(node, LabNode.kill, LabNode.start),
            "power-on": lambda node, rate: self._power_on(node),
            "slow-link": lambda node, rate: self._slow(node, rate),
        }

    def nodes(self, kind: str, nodes: Sequence[str]) -> Sequence[str]:
        """All of them."""
        return nodes

    def check(self, kind: str, node: str) -> None:
        """Leave alone the machines that other runs are on. Raises ClusterError."""
        if kind in _OF_MACHINES and node not in ("", "random"):
            self._refuse_shared(self._node(node))

    def _kill(self, node: str, role: str) -> None:
        engines = [self._node(node)] if node else self._lab.nodes()
        for each in engines:
            if each.machine() == "running" and containers.running(each.docker, self._run.stack, role):
                containers.kill(each.docker, self._run, role)
                return
        raise ClusterError(f"no {role} of {self._run.id} runs on {node or 'the lab'}")

    def _switch(self, name: str, off: Callable[[LabNode], None], on: Callable[[LabNode], None]) -> Undo:
        node = self._node(name)
        off(node)
        return lambda: on(node)

    def _power_on(self, name: str) -> None:
        node = self._node(name)
        if node.machine() != "running":
            node.start()

    def _slow(self, name: str, rate: str) -> Undo:
        node = self._node(name)
        with self._slowing:
            if name not in self._rates:
                before = node.rate()
                self._rates[name] = [f"{before}bit" if before else None]
            rates = self._rates[name]
            node.limit(rate)
            rates.append(rate)

        def undo() -> None:
            with self._slowing:
                rates.remove(rate)
                node.limit(rates[-1])
                if len(rates) == 1:
                    del self._rates[name]

        return undo

    def _refuse_shared(self, node: LabNode) -> None:
        """Raise ClusterError where another run is on this machine, too."""
        for other in self._others():
            if node.machine() == "running" and containers.running(node.docker, other.stack):
                raise ClusterError(
                    f"{node.name} is also a machine of {other.id}",
                    "wait for the end of that run, or let --force hit both",
                )

    def _node(self, name: str) -> LabNode:
        node = self._lab.node(name)
        if node.machine() == "missing":
            raise ClusterError(f"the lab has no node {name}")
        return node


def lab_of(docker: Docker) -> Lab | None:
    """The lab that an engine belongs to; None where it belongs to none. Raises ClusterError."""
    address = docker.host or os.environ.get("DOCKER_HOST", "")
    if docker.context or not address:
        address = docker.run("context", "inspect", "--format", "{{.Endpoints.docker.Host}}").strip()
    state = state_directory()
    for directory in sorted(state.iterdir()) if state.is_dir() else []:
        if address.startswith(f"unix://{directory}/"):
            return Lab(directory.name)
    return None
