"""Helpers of the swarm launcher at work: short-lived services that clean a node or serve its files."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swarmtrain.docker.command import Docker
from swarmtrain.swarm import helpers, tasks
from swarmtrain.swarm.cluster import SECONDS, Node

_PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Helper:
    """One helper on one node.

    Args:
        stack: the run's stack, which the helper belongs to.
        part: what the bundle is to do, ``clean``, ``files`` or ``relay``.
    """

    docker: Docker
    stack: str
    part: str
    node: Node

    @property
    def name(self) -> str:
        """The name of its service."""
        return helpers.service_name(self.stack, self.part, self.node)

    def is_alive(self) -> bool:
        """Whether it is at work or on its way. Raises ClusterError."""
        return any(task.alive for task in tasks.read(self.docker, self.stack) if task.service == self.name)

    def start(
        self, model: Mapping[str, Any], words: Sequence[str], env: Mapping[str, str] | None = None
    ) -> None:
        """Start it; one that was left from before makes way.

        Args:
            model: the inspected service that it is made after.
            words: what follows ``part``.

        Raises:
            ClusterError: Docker does not take it.
        """
        self.docker.completed("service", "rm", self.name, timeout=SECONDS)
        args = helpers.create(self.stack, model, self.node, [self.part, *words], env)
        self.docker.run(*args, timeout=SECONDS)

    def __hash__(self) -> int:
        return hash(self.name)


def await_helpers(
    docker: Docker, stack: str, working: Sequence[Helper], states: tuple[str, ...]
) -> dict[Helper, str]:
    """Wait until the helpers are in one of ``states``; those that do not come there, each with the reason."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    waiting = {helper.name: helper for helper in working if helper.node.state == "ready"}
    failed = {helper: f"it is {helper.node.state}" for helper in working if helper.node.state != "ready"}
    while waiting and time.monotonic() < deadline:
        for task in tasks.read(docker, stack):
            if task.service in waiting and (task.state in states or not task.alive):
                helper = waiting.pop(task.service)
                if task.state not in states:
                    failed[helper] = task.error or task.state
        time.sleep(_POLL_SECONDS if waiting else 0)
    return failed | dict.fromkeys(waiting.values(), "it did not answer in time")
