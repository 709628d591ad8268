"""The nodes of a run in containers of one engine, from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarmtrain.docker.command import Docker
    from swarmtrain.launchers.base import Act, Undo

_SECONDS = 30.0


class EngineMachines:
    """The docker launcher's: every node is a container of one engine.

    Args:
        container: the one of a node, or of the coordinator ("").
    """

    mix = ("kill-worker", "stop-worker", "kill-container", "kill-coordinator", "freeze", "corrupt-snapshot")
    hint = (
        "a node is a container here, without a machine of its own: try it on a lab, with `swarmtrain lab up`"
    )

    def __init__(self, docker: Docker, container: Callable[[str], str]) -> None:
        self._docker, self._container = docker, container
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
        container = self._container(node)
        self._docker.run("kill", "--signal", "KILL", container, timeout=_SECONDS)
        self._docker.run("wait", container, timeout=_SECONDS)
        self._docker.run("start", container, timeout=_SECONDS)

    def _freeze(self, node: str) -> Undo:
        container = self._container(node)
        self._docker.run("pause", container, timeout=_SECONDS)
        return lambda: self._docker.run("unpause", container, timeout=_SECONDS)
