"""Publishing a run's dashboard on its Swarm, and taking it away again; published.py renders what is deployed."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from swarmtrain.docker.command import DockerFailed
from swarmtrain.errors import ClusterError, RequestError
from swarmtrain.launchers.base import Run
from swarmtrain.launchers.swarm import published, scratch
from swarmtrain.launchers.swarm.launcher import SwarmLauncher
from swarmtrain.launchers.swarm.published import PublishedDashboard
from swarmtrain.launchers.swarm.stacks import Stack
from swarmtrain.payload import dashboard
from swarmtrain.protocol.ask import ask
from swarmtrain.protocol.requests import ReaderRequest
from swarmtrain.swarm import cluster as facts
from swarmtrain.swarm import stack, tasks
from swarmtrain.swarm.cluster import SECONDS, STACK_LABEL
from swarmtrain.wire import names

_TOKEN_BYTES = 24
_DEPLOY_SECONDS = 120.0
_START_SECONDS = 120.0  # the node may have to pull the image
_GONE_SECONDS = 60.0
_POLL_SECONDS = 0.5
_KINDS = ("config", "secret")


@dataclass(frozen=True)
class PublishWish:
    """What a person asks for; see the flags of `swarmtrain dashboard`.

    Args:
        image: the run's own where it is empty.
        python: the interpreter in it; that of the run's image where it is empty.
        hosts: names under which it is opened.
        port: of the coordinator's machine, to open.
        network: of a reverse proxy.
        labels: of the service.
    """

    image: str = ""
    python: str = ""
    hosts: tuple[str, ...] = ()
    port: int | None = None
    network: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PublishedPage:
    """Where a page is, and what opens it."""

    address: str
    token: str


class Publisher:
    """Publishes the dashboard of one run.

    Args:
        launcher: of the Swarm that the run is on.
    """

    def __init__(self, launcher: SwarmLauncher, run: Run) -> None:
        self._launcher, self._docker, self._run = launcher, launcher.docker, run

    def plan(self, wish: PublishWish) -> PublishedDashboard:
        """What would be deployed; nothing changes.

        Raises:
            RequestError: nobody could reach it. ClusterError: the run, its node or a network is not there.
        """
        if wish.port is None and not wish.network:
            raise RequestError(
                "nobody could open this page: it would listen in the run's network alone",
                "--network NETWORK --host NAME, for a Traefik in that network; or --port PORT, to open one",
            )
        if wish.network and not wish.hosts:
            raise RequestError(
                "a reverse proxy knows pages by their names", f"--network {wish.network} --host NAME"
            )
        ours = Stack(self._docker, self._run.stack)
        place = ours.coordinator()
        container = ours.model(names.COORDINATOR_SERVICE)["Spec"]["TaskTemplate"]["ContainerSpec"]
        cluster = facts.read(self._docker)
        _check_proxy(wish.network, cluster)
        own_image = container["Image"].partition("@")[0]
        return PublishedDashboard(
            run=self._run.id,
            stack=self._run.stack,
            created=self._run.created,
            image=wish.image or own_image,
            python=wish.python or ("python3" if wish.image else container["Command"][0]),
            node=next(node for node in cluster.nodes if node.id == place.node),
            coordinator=place.address,
            network=place.network,
            proxy=wish.network,
            hosts=wish.hosts,
            port=wish.port,
            labels=wish.labels,
            digest=dashboard.build().digest,
        )

    def publish(self, page: PublishedDashboard) -> PublishedPage:
        """Deploy it in place of an earlier one; return once it serves.

        Raises:
            ClusterError: it does not come up; then nothing of it stays.
        """
        key = self._reader_key()
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        self.unpublish()
        try:
            self._deploy(page, json.dumps({"token": token, "key": key}).encode())
            self._await_service(page)
        except BaseException:
            self.unpublish()
            raise
        return PublishedPage(page.address, token)

    def unpublish(self) -> bool:
        """Take it away with all that belongs to it; whether there was anything."""
        services = self._ids("service")
        running = (
            self._docker.run("service", "ps", "--quiet", "--no-trunc", *services, timeout=SECONDS).split()
            if services
            else []
        )
        left = {kind: ids for kind in ("service", *_KINDS) if (ids := self._ids(kind))}
        for kind, ids in left.items():
            self._docker.run(kind, "rm", *ids, timeout=SECONDS)
        deadline = time.monotonic() + _GONE_SECONDS
        while facts.inspect(self._docker, "task", running) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)  # its network and its port are free once its container has gone
        self._remove_network(deadline)
        return bool(left)

    def _remove_network(self, deadline: float) -> None:
        """The one of its own, where it had to have one; the engine may hold it a moment longer than its task.

        Raises:
            ClusterError: it stays.
        """
        while ids := self._ids("network"):
            self._docker.completed("network", "rm", *ids, timeout=SECONDS)
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"the dashboard of {self._run.id} is removed, but its network stays",
                    f"try later: docker network rm {' '.join(ids)}",
                )
            time.sleep(_POLL_SECONDS)

    def _reader_key(self) -> str:
        with self._launcher.connect(self._run) as link:
            key = "".join(reply.reader_key for reply in ask(link, ReaderRequest()))
        if not key:
            raise ClusterError(f"the coordinator of {self._run.id} gives no key to read it")
        return key

    def _deploy(self, page: PublishedDashboard, secret: bytes) -> None:
        """Docker reads the secret from its standard input, so that no file holds it."""
        with scratch.directory() as directory:
            (directory / "stack.yml").write_text(published.text_of(page))
            (directory / published.ARCHIVE).write_bytes(dashboard.build().data)
            (directory / published.SECRET).symlink_to("/dev/stdin")
            args = ("stack", "deploy", *stack.DEPLOY_FLAGS, "--compose-file", str(directory / "stack.yml"))
            self._docker.run(*args, page.stack, input=secret, timeout=_DEPLOY_SECONDS)

    def _await_service(self, page: PublishedDashboard) -> None:
        """Until it says that it serves. Raises ClusterError where it does not come to that."""
        deadline, why = time.monotonic() + _START_SECONDS, ""
        while time.monotonic() < deadline:
            ours = [each for each in tasks.read(self._docker, page.stack) if each.service == page.service]
            if any(each.state == "running" for each in ours) and names.DASHBOARD_SERVES in self._log(page):
                return
            if any(each.exit_code == dashboard.LACKS for each in ours):
                raise _lacks(page)
            why = next((each.error for each in ours if each.error), why)
            if sum(not each.alive for each in ours) > 1:
                break
            time.sleep(_POLL_SECONDS)
        said = self._log(page).strip().rpartition("\n")[2]
        reason = "; ".join(filter(None, [why, said])) or "it did not start in time"
        raise ClusterError(f"the dashboard of {page.run} does not come up on {page.node.hostname}: {reason}")

    def _log(self, page: PublishedDashboard) -> str:
        try:
            done = self._docker.completed("service", "logs", "--raw", page.service, timeout=SECONDS)
        except DockerFailed:
            return ""  # asked for again
        return (done.stdout + done.stderr).decode(errors="replace")

    def _ids(self, kind: str) -> list[str]:
        """What there is of it, of a kind."""
        labels = (f"{STACK_LABEL}={self._run.stack}", f"{names.LABEL_ROLE}={names.DASHBOARD_SERVICE}")
        filters = [word for each in labels for word in ("--filter", f"label={each}")]
        return self._docker.run(kind, "ls", "--quiet", *filters, timeout=SECONDS).split()


def _check_proxy(name: str, cluster: facts.Cluster) -> None:
    """Refuse a network of a reverse proxy that no service can join."""
    fit = sorted(
        each.name for each in cluster.networks if each.driver == "overlay" and each.name != "ingress"
    )
    if name and name not in fit:
        raise ClusterError(
            f"there is no overlay network {name} on this Swarm", f"there are: {', '.join(fit) or 'none'}"
        )


def _lacks(page: PublishedDashboard) -> ClusterError:
    """What is said of an image that cannot serve a page."""
    return ClusterError(
        f"{page.image} has no starlette and uvicorn, which serve the page",
        f"name an image that has them by --image, which {page.node.hostname} holds or can pull:\n"
        f"  FROM {page.image}\n"
        "  RUN pip install starlette uvicorn",
    )
