"""The containers that Swarm has started for a run on one engine.

For what a coordinator has left, in `launchers.swarm`; for faults on purpose, in `control` and `lab`.
"""

from __future__ import annotations

from swarmtrain.docker.command import Docker
from swarmtrain.errors import ClusterError
from swarmtrain.launchers.base import Run
from swarmtrain.swarm.cluster import SECONDS, STACK_LABEL

_SERVICE_LABEL = "com.docker.swarm.service.name"


def ended(docker: Docker, stack: str, service: str) -> list[str]:
    """The ids of the containers of a stack's service that have ended well on an engine, the newest first."""
    label = f"label={_SERVICE_LABEL}={stack}_{service}"
    chosen = ("--filter", label, "--filter", "exited=0")
    return docker.run("ps", "--all", "--quiet", "--no-trunc", *chosen, timeout=SECONDS).split()


def running(docker: Docker, stack: str, role: str = "") -> list[str]:
    """The ids of a stack's running containers on an engine, of all its services or of those with a role."""
    label = f"label={STACK_LABEL}={stack}"
    shown = f'{{{{.ID}}}} {{{{.Label "{_SERVICE_LABEL}"}}}}'
    listed = docker.run("ps", "--no-trunc", "--filter", label, "--format", shown, timeout=SECONDS)
    rows = [line.split() for line in listed.splitlines()]
    return [row[0] for row in rows if len(row) == 2 and row[1].startswith(f"{stack}_{role}")]


def kill(docker: Docker, run: Run, role: str) -> None:
    """``docker kill`` a run's agents or its coordinator on an engine; Swarm starts others in their place.

    Raises:
        ClusterError: it runs none.
    """
    found = running(docker, run.stack, role)
    if not found:
        raise ClusterError(f"{docker.host or 'this engine'} runs no {role} of {run.id}")
    docker.run("kill", "--signal", "KILL", *found, timeout=SECONDS)
