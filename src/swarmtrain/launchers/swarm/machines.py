"""The nodes of a run on a Swarm, from outside: as far as the machine reaches that is spoken to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from swarmtrain.docker.command import Docker
from swarmtrain.errors import ClusterError
from swarmtrain.launchers.base import Act, Run
from swarmtrain.launchers.swarm import containers
from swarmtrain.wire import names

_SECONDS = 30.0


class SwarmMachines:
    """A Swarm's: containers on the machine that is spoken to, and no more than that."""

    mix = ("kill-worker", "stop-worker", "corrupt-snapshot")
    hint = "this Swarm's machines cannot be switched from here: try it on a lab, with `swarmtrain lab up`"

    def __init__(self, docker: Docker, run: Run) -> None:
        self._docker, self._run = docker, run
        self._name = ""
        self.kinds: Mapping[str, Act] = {
            "kill-container": lambda node, rate: containers.kill(docker, run, names.AGENT_SERVICE),
            "kill-coordinator": lambda node, rate: containers.kill(docker, run, names.COORDINATOR_SERVICE),
        }

    def nodes(self, kind: str, nodes: Sequence[str]) -> Sequence[str]:
        """The one that is spoken to."""
        return [node for node in nodes if node == self._here()]

    def check(self, kind: str, node: str) -> None:
        """A container can only be killed where it is."""
        if kind == "kill-container" and node not in ("random", self._here()):
            raise ClusterError(
                f"the container on {node} cannot be killed from {self._here()}",
                f"point DOCKER_HOST at {node}, or name {self._here()}",
            )

    def _here(self) -> str:
        if not self._name:
            self._name = str(self._docker.json_lines("info", timeout=_SECONDS)[0]["Name"])
        return self._name
