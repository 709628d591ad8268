"""A run's containers on one engine, as ``docker inspect`` shows them: whose they are, and how they fare. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from swarmtrain.job.origin import Origin
from swarmtrain.swarm.stack import LABEL_ORIGIN
from swarmtrain.wire import names

Container = Mapping[str, Any]

TOLD_TO_LEAVE = 143  # the exit code of an agent that somebody stops


def origin(containers: Sequence[Container]) -> Origin | None:
    """Where a run comes from; None where nobody wrote it down."""
    labels = (each["Config"]["Labels"].get(LABEL_ORIGIN, "") for each in containers)
    return next(filter(None, map(Origin.load, labels)), None)


def agents(containers: Iterable[Container]) -> list[Container]:
    """Those of the nodes."""
    return [each for each in containers if _role(each) == names.AGENT_SERVICE]


def coordinators(containers: Iterable[Container]) -> list[Container]:
    """That of the coordinator, if it is there."""
    return [each for each in containers if _role(each) == names.COORDINATOR_SERVICE]


def _role(container: Container) -> str:
    return str(container["Config"]["Labels"].get(names.LABEL_ROLE, ""))


def rests(coordinator: Container) -> bool:
    """Whether a run's coordinator has gone some time after the end, as it does by itself."""
    state = coordinator["State"]
    return bool(state["Status"] == "exited" and state["ExitCode"] == 0 and not state["Error"])


def is_up(container: Container) -> bool:
    """Whether its process is there, or about to be."""
    return container["State"]["Status"] in ("running", "restarting", "paused")


def is_unstarted(container: Container) -> bool:
    """Whether it has been made, and not started yet."""
    return bool(container["State"]["Status"] == "created")


def name(container: Container) -> str:
    """As it was created under."""
    return str(container["Name"]).lstrip("/")


def ending(container: Container) -> str:
    """How a container that does not run has ended, in words."""
    state = container["State"]
    if state["Error"]:
        return str(state["Error"])
    return f"it is {state['Status']}" + (f" with exit code {state['ExitCode']}" if state["ExitCode"] else "")


def trouble(container: Container) -> str:
    """What is wrong with a container; empty while it runs or has done its work."""
    state, who = container["State"], name(container)
    if state["Status"] == "exited" and state["ExitCode"] == TOLD_TO_LEAVE:
        return ""
    if state["OOMKilled"]:
        return f"{who} ran out of memory; raise resources.memory"
    if state["Status"] in ("created", "exited") and state["Error"]:
        return f"{who} did not start: {state['Error']}"
    if state["Status"] in ("dead", "paused"):
        return f"{who} is {state['Status']}"
    again = container.get("RestartCount", 0)
    if state["ExitCode"] and (state["Status"] == "exited" or (state["Status"] == "restarting" and again > 1)):
        often = f", {again} times" if again > 1 else ""
        return f"{who} ended with exit code {state['ExitCode']}{often}; docker logs {who} shows what it said"
    return ""
