"""The nodes of a run in containers, from outside: on one engine, or on the machine of a Swarm that is spoken to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from swarmtrain.errors import ClusterError
from swarmtrain.launchers import containers
from swarmtrain.wire import names

if TYPE_CHECKING:
    from swarmtrain.control.chaos_places import Act, Undo
    from swarmtrain.launchers.base import Run
    from swarmtrain.launchers.docker import DockerLauncher
    from swarmtrain.swarm.docker import Docker

_SECONDS = 30.0


class EngineMachines:
    """The docker launcher's: every node is a container of one engine."""

    mix = ("kill-worker", "stop-worker", "kill-container", "kill-coordinator", "freeze", "corrupt-snapshot")
    hint = (
        "a node is a container here, without a machine of its own: try it on a lab, with `swarmtrain lab up`"
    )

    def __init__(self, launcher: DockerLauncher, run: Run) -> None:
        self._launcher, self._run, self._docker = launcher, run, launcher.docker
        self.kinds: Mapping[str, Act] = {
            "kill-container": lambda node, rate: self._kill(node),
            "kill-coordinator": lambda node, rate: self._kill(""),
            "freeze": lambda node, rate: self._freeze(node),
        }

    def nodes(self, kind: str, nodes: Sequence[str]) -> Sequence[str]:
        """All of them."""
        return nodes

    def check(self, kind: str, node: str) -> None:
        """A container belongs to one run."""

    def _kill(self, node: str) -> None:
        """``docker kill``, and a start: the engine restarts what crashed, but not what this command has ended."""
        container = self._launcher.container(self._run, node)
        self._docker.run("kill", "--signal", "KILL", container, timeout=_SECONDS)
        self._docker.run("wait", container, timeout=_SECONDS)
        self._docker.run("start", container, timeout=_SECONDS)

    def _freeze(self, node: str) -> Undo:
        container = self._launcher.container(self._run, node)
        self._docker.run("pause", container, timeout=_SECONDS)
        return lambda: self._docker.run("unpause", container, timeout=_SECONDS)


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
