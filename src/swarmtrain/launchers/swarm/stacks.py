"""A run's stack as the swarm launcher handles it: deployed, scaled, and removed with its files on every node."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from swarmtrain.docker.command import Docker, DockerFailed
from swarmtrain.errors import ClusterError
from swarmtrain.launchers.swarm import scratch
from swarmtrain.launchers.swarm.helpers import Helper, await_helpers
from swarmtrain.swarm import cluster as facts
from swarmtrain.swarm import stack, tasks
from swarmtrain.swarm.cluster import SECONDS, STACK_LABEL, Node, Service
from swarmtrain.swarm.obstacles import cannot_start
from swarmtrain.swarm.plan import Plan
from swarmtrain.wire import names
from swarmtrain.wire.run_spec import RunSecret

_DEPLOY_SECONDS = 120.0
# What `stack deploy` says when another one of the same name is at work: its secret, network or services are there.
_TAKEN = re.compile(
    r"only updates to Labels are allowed|already (exists|in use)|name conflicts|out of sequence"
)
_REMOVE_SECONDS = 120.0  # for one `docker stack rm`
_GONE_SECONDS = 60.0
_POLL_SECONDS = 0.5


class CoordinatorPlace(NamedTuple):
    """Where a run's coordinator is.

    Args:
        address: host and port, as everybody in its network knows it.
        network: that network's name; empty for the machine's own.
        node: the id of its machine.
    """

    address: str
    network: str
    node: str


class Stack:
    """One run's stack.

    Args:
        docker: a manager of the Swarm.
        name: the stack's, ``digits-3``.
    """

    def __init__(self, docker: Docker, name: str) -> None:
        self.docker = docker
        self.name = name

    def deploy(self, plan: Plan, secret: RunSecret) -> None:
        """``docker stack deploy`` of a plan, under this name.

        Docker reads the secret from its standard input: a client that is killed meanwhile leaves its files until the
        next one comes, and this is in none of them.

        Raises:
            ClusterError: another one of this name has just come, or Docker does not take it; then nothing of it stays.
        """
        with scratch.directory() as directory:
            path = replace(plan, secret=None).write(directory)
            (path.parent / stack.SECRET).symlink_to("/dev/stdin")
            args = ("stack", "deploy", *stack.DEPLOY_FLAGS, "--compose-file", str(path), self.name)
            try:
                self.docker.run(*args, input=secret.dump().encode(), timeout=_DEPLOY_SECONDS)
            except DockerFailed as error:
                if _TAKEN.search(error.stderr):
                    raise ClusterError(
                        f"{secret.run} was started by somebody else at this moment", "try again"
                    ) from error
                self.remove()  # a part of it may be there
                raise
            except KeyboardInterrupt:
                if not self.services():  # nobody could find what there is of it, nor use its id again
                    self.remove()
                raise

    def services(self, *roles: str) -> list[Service]:
        """Its services, in the order of their names; those with one of these roles, where any is named."""
        found = facts.read_services(self.docker, f"label={STACK_LABEL}={self.name}")
        return sorted(
            (each for each in found if not roles or role_of(each) in roles), key=lambda each: each.name
        )

    def model(self, *roles: str) -> dict[str, Any]:
        """A service as Docker inspects it, which helpers are made after: of the first role that has one.

        Raises:
            ClusterError: there is none.
        """
        services = self.services()
        for role in roles:
            ids = [each.id for each in services if role_of(each) == role]
            if found := facts.inspect(self.docker, "service", ids[:1]):
                return found[0]
        raise ClusterError(f"the stack {self.name} has no {' or '.join(roles)}", "was it removed by hand?")

    def coordinator(self) -> CoordinatorPlace:
        """Where its coordinator is. Raises ClusterError where it has none."""
        spec = self.model(names.COORDINATOR_SERVICE)["Spec"]
        task = spec["TaskTemplate"]
        container = task["ContainerSpec"]
        address = dict(each.split("=", 1) for each in container["Env"])[names.ENV_COORDINATOR]
        ids = [each["Target"] for each in task.get("Networks") or ()]
        networks = [
            each for each in facts.inspect(self.docker, "network", ids) if each["Driver"] == "overlay"
        ]
        (pin,) = (rule for rule in task["Placement"]["Constraints"] if rule.startswith("node.id"))
        if networks:  # by the service's full name: the short one may be that of several
            address = f"{spec['Name']}:{address.rpartition(':')[2]}"
        name = str(networks[0]["Name"]) if networks else ""
        return CoordinatorPlace(address, name, pin.partition("==")[2].strip())

    def scale(self, services: Sequence[Service], replicas: int) -> None:
        """Have this many tasks of each; returns before they are there. Raises ClusterError."""
        if services:
            wanted = (f"{each.name}={replicas}" for each in services)
            self.docker.run("service", "scale", "--detach", *wanted, timeout=SECONDS)

    def wake(self) -> None:
        """Start the coordinator of a run that has ended once more, so that it can be asked. Raises ClusterError."""
        for service in self.services(names.COORDINATOR_SERVICE):
            self.docker.run("service", "update", "--detach", "--force", service.name, timeout=SECONDS)

    def clear(self, run: str, members: set[str]) -> None:
        """Empty a run's directories on every node that may have them, then remove everything of the stack.

        Args:
            run: its id, ``digits.3``.
            members: names or ids of nodes that are known to have taken part.

        Raises:
            ClusterError: something of it stays.
        """
        machines = self._machines(members)
        self.scale(self.services(names.AGENT_SERVICE, names.COORDINATOR_SERVICE, names.DASHBOARD_SERVICE), 0)
        self._await_idle()
        cleaners = [Helper(self.docker, self.name, "clean", machine) for machine in machines]
        if cleaners:
            model = self.model(names.COORDINATOR_SERVICE, names.AGENT_SERVICE)
            for cleaner in cleaners:
                cleaner.start(model, [run])
        failed = await_helpers(self.docker, self.name, cleaners, ("complete",))
        self.remove()
        # Where the bundle cannot start it never has, so nothing is there; but a member has been there.
        left = {
            cleaner.node.hostname: why
            for cleaner, why in failed.items()
            if cleaner.node.hostname in members or not cannot_start(why)
        }
        if left:
            where = "; ".join(f"{hostname} ({why})" for hostname, why in left.items())
            raise ClusterError(
                f"the run is removed, but its files stay on {where}",
                f"there they lie in the volume {names.VOLUME}, under runs/{run} and data/{run}",
            )

    def remove(self) -> None:
        """``docker stack rm`` until nothing is left: a network goes only after its last task has.

        Raises:
            ClusterError: something stays.
        """
        deadline = time.monotonic() + _GONE_SECONDS
        while True:
            self.docker.completed("stack", "rm", self.name, timeout=_REMOVE_SECONDS)
            try:
                left = [kind for kind in ("service", "network", "config", "secret") if self._has(kind)]
            except DockerFailed:  # an engine that is busy may hang up on one question
                if time.monotonic() > deadline:
                    raise
            else:
                if not left:
                    return
                if time.monotonic() > deadline:
                    raise ClusterError(
                        f"the stack {self.name} was removed, but its {left[0]} stays",
                        f"try later: docker stack rm {self.name}",
                    )
            time.sleep(_POLL_SECONDS)

    def _machines(self, members: set[str]) -> list[Node]:
        """The nodes that may hold something of the run."""
        known = {task.node.id for task in tasks.read(self.docker, self.name) if task.node and task.has_run}
        nodes = facts.read(self.docker).nodes
        return [node for node in nodes if node.id in known or members & {node.hostname, node.id}]

    def _await_idle(self) -> None:
        """Until no process of the run writes any more; what is on a node that is down cannot be waited for."""
        deadline = time.monotonic() + _GONE_SECONDS
        while time.monotonic() < deadline:
            busy = [
                task
                for task in tasks.read(self.docker, self.name)
                if task.state in ("starting", "running") and task.node and task.node.state == "ready"
            ]
            if not busy:
                return
            time.sleep(_POLL_SECONDS)

    def _has(self, kind: str) -> bool:
        label = f"label={STACK_LABEL}={self.name}"
        return bool(self.docker.run(kind, "ls", "--quiet", "--filter", label, timeout=SECONDS).strip())


def role_of(service: Service) -> str:
    """What a service is for: one of `wire.names`, ``helper``, or nothing."""
    return service.labels.get(names.LABEL_ROLE, "")


def constraints(spec: Mapping[str, Any]) -> list[str]:
    """The placement constraints of a service's specification."""
    return list(spec["TaskTemplate"].get("Placement", {}).get("Constraints") or ())


def moves(spec: Mapping[str, Any]) -> int:
    """How often the coordinator was moved, by its service's specification: the Swarm counts, not anybody's clock."""
    container = spec["TaskTemplate"]["ContainerSpec"]
    variables = dict(each.partition("=")[::2] for each in container.get("Env") or ())
    return int(variables.get(names.ENV_MOVED) or 0)


def is_on_host(service: Mapping[str, Any]) -> bool:
    """Whether a service, by its spec, uses the network of its machines."""
    return any(each["Target"] == "host" for each in service["TaskTemplate"].get("Networks") or ())
