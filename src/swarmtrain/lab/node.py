"""One node of a lab: a container with an engine in it, and what can be done to a machine.

Its container is handled through the host's engine; the engine inside is spoken to by its own socket.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from swarmtrain.docker.command import Docker, DockerFailed
from swarmtrain.errors import ClusterError, RequestError
from swarmtrain.lab import commands, gossip
from swarmtrain.lab.names import (
    LABEL_ADDRESS,
    LABEL_ENGINE,
    LABEL_GPUS,
    LABEL_LAB,
    LABEL_NODE,
    LabNames,
    hostname,
)

# An answer of an engine that shares its CPU with training.
PATIENCE = 30.0
# A manager that comes back may keep the others from electing a leader for the best part of a minute.
ELECTION_PATIENCE = 90.0
# Peers miss a machine after some seconds: a probe a second, and suspicion for a few.
FORGOTTEN_SECONDS = 20.0


@dataclass(frozen=True)
class NodeStatus:
    """What is known of a node.

    Args:
        name: its hostname, which is also its name in the Swarm.
        container: the container's name.
        machine: ``running``, ``paused``, ``exited`` (no power), ``missing``.
        swarm: ``Ready``, ``Down``, ..., as the manager sees it; ``unknown`` where no manager answers.
        role: ``manager`` or ``worker``.
        address: in the lab's network; empty while unplugged.
        rate: the limit of its link in bits per second, or None.
        gpus: its pretend GPUs.
        engine: the Debian release whose engine it has.
        host: its engine's address, as in DOCKER_HOST.
    """

    name: str
    container: str
    machine: str
    swarm: str
    role: str
    address: str
    rate: int | None
    gpus: int
    engine: str
    host: str

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


class LabNode:
    """A machine of the lab.

    Args:
        names: the lab's names.
        index: the node's number, from 1; node 1 is the manager.
        engine: the host's engine, in which the node is a container.
    """

    def __init__(self, names: LabNames, index: int, engine: Docker) -> None:
        self.index = index
        self.name = hostname(index)
        self.container = names.container(index)
        self.host = names.host(index)
        self.socket = names.socket(index)
        self.docker = Docker(host=self.host)
        self._names = names
        self._engine = engine

    def inspect(self) -> dict[str, Any] | None:
        """The container as ``docker inspect`` shows it, None where there is none."""
        try:
            found: dict[str, Any] = self._engine.json("container", "inspect", self.container)[0]
        except DockerFailed as error:
            if "no such container" in error.stderr.lower():
                return None
            raise
        return found

    def machine(self) -> str:
        """``running``, ``paused``, ``exited`` or ``missing``."""
        found = self.inspect()
        return str(found["State"]["Status"]) if found else "missing"

    def address(self) -> str:
        """The node's address in the lab's network, which it keeps while it is unplugged."""
        label = f'{{{{index .Config.Labels "{LABEL_ADDRESS}"}}}}'
        return self._engine.run("container", "inspect", "--format", label, self.container).strip()

    def status(self, swarm: str) -> NodeStatus:
        """What is known of the node, with its state in the Swarm as its manager told it."""
        found = self.inspect()
        assert found, f"{self.container} went away"
        machine = found["State"]["Status"]
        plugged = self._is_plugged(found)
        labels = found["Config"]["Labels"]
        return NodeStatus(
            name=self.name,
            container=self.container,
            machine=machine,
            swarm=swarm,
            role="manager" if self.index == 1 else "worker",
            address=labels[LABEL_ADDRESS] if plugged else "",
            rate=self.rate() if machine == "running" and plugged else None,
            gpus=int(labels[LABEL_GPUS]),
            engine=labels.get(LABEL_ENGINE, "bookworm"),
            host=self.host,
        )

    def exec(self, *command: str, timeout: float | None = None) -> str:
        """Run a command on the machine itself, not in one of its containers; what it printed."""
        return self._engine.run("exec", self.container, *command, timeout=timeout)

    def pause(self) -> None:
        """Freeze everything on the machine; its peers see silence, not a closed connection."""
        self._engine.run("pause", self.container)

    def unpause(self) -> None:
        self._engine.run("unpause", self.container)

    def kill(self) -> None:
        """Cut the power. What was written and not yet synced survives, for the page cache is the host's.

        The cable is out while the machine dies: a machine without power closes no connection, but the kernel would
        close those of a container, and peers would know at once what they have to find out.
        """
        found = self.inspect()
        if found is None or found["State"]["Status"] not in ("running", "paused"):
            return
        plugged = self._is_plugged(found)
        if plugged:
            self.unplug()
        try:
            self._engine.run("kill", self.container)
        finally:
            if plugged:
                self.plug()

    def start(self) -> None:
        """Power on, and wait until the engine answers and the Swarm has the node back.

        While the manager's own machine is off, there is no Swarm to wait for. A machine takes longer to boot than its
        peers take to see that it is gone, so this waits for them first: see `gossip`.
        """
        with contextlib.suppress(TookTooLong):  # peers of which each is frozen or alone see nothing
            wait_until(self._is_forgotten, FORGOTTEN_SECONDS, f"{self.name} is still known to its peers")
        self._engine.run("start", self.container)
        self.wait_for_engine()
        manager = LabNode(self._names, 1, self._engine)
        if manager.machine() != "running":
            return

        def is_back() -> bool:
            try:
                return manager.swarm_states().get(self.name) == "Ready"
            except DockerFailed:  # "has no leader", for a moment after the manager's machine was started
                return False

        wait_until(is_back, ELECTION_PATIENCE, f"{self.name} is not Ready again")

    def restart(self) -> None:
        """Shut the machine down in good order and power it on."""
        self._engine.run("stop", self.container)
        self.start()

    def peers(self) -> set[str]:
        """The addresses of the engines that this one knows in the overlay networks' gossip, with its own."""
        return gossip.peers(self.exec)

    def _is_forgotten(self) -> bool:
        running = ("--filter", "status=running", "--filter", f"label={LABEL_LAB}={self._names.lab}")
        shown = self._engine.run("ps", *running, "--format", f'{{{{.Label "{LABEL_NODE}"}}}}')
        others = [LabNode(self._names, int(index), self._engine) for index in shown.split()]
        return not any(self.address() in other.peers() for other in others if other.index != self.index)

    def unplug(self) -> None:
        """Pull the network cable."""
        self._engine.run("network", "disconnect", self._names.project, self.container)

    def plug(self) -> None:
        """Put the cable back; the address is the one it had. A limit of the link is gone."""
        network = self._names.project
        self._engine.run("network", "connect", "--ip", self.address(), network, self.container)

    def _is_plugged(self, found: dict[str, Any]) -> bool:
        return self._names.project in found["NetworkSettings"]["Networks"]

    def interface(self) -> str:
        """The network interface that holds the node's address; empty while it is unplugged.

        ``eth0`` at first; Docker counts on each time that the node is plugged in.
        """
        shown = self.exec("ip", "-json", "-4", "address", "show", "to", self.address())
        return next((link["ifname"] for link in json.loads(shown or "[]") if link), "")

    def limit(self, rate: str | None) -> None:
        """Limit what the machine can send (``1gbit``), or lift the limit with None."""
        if rate is None and self.rate() is None:
            return
        interface = self.interface()
        if not interface:
            raise RequestError(
                f"{self.name} is unplugged", f"plug it in first: swarmtrain lab plug {self.name}"
            )
        self._engine.run(*commands.limit_link(self.container, interface, rate))

    def rate(self) -> int | None:
        """The limit of the link in bits per second; None without one or without a link."""
        interface = self.interface()
        if not interface:
            return None
        for discipline in json.loads(self.exec("tc", "-json", "qdisc", "show", "dev", interface)):
            if discipline["kind"] == "tbf":
                return int(discipline["options"]["rate"]) * 8
        return None

    def engine_answers(self) -> bool:
        try:
            return self.docker.completed("version", timeout=PATIENCE).returncode == 0
        except DockerFailed:
            return False

    def wait_for_engine(self) -> None:
        def answers() -> bool:
            if self.machine() == "exited":
                raise self._engine_failed("its container ended")
            return self.engine_answers()

        try:
            wait_until(answers, PATIENCE, f"the engine of {self.name} does not answer")
        except TookTooLong as error:
            raise self._engine_failed("it does not answer") from error

    def _engine_failed(self, what: str) -> ClusterError:
        log = self._names.node_directory(self.index) / "dockerd.log"
        tail = log.read_text(errors="replace").splitlines()[-8:] if log.exists() else ["(no log)"]
        return ClusterError(
            f"the Docker Engine of {self.name} did not start: {what}\n" + "\n".join(tail),
            "the lab needs a Linux host whose own Docker Engine runs on this machine",
        )

    def swarm(self) -> dict[str, Any]:
        """The Swarm part of the engine's ``docker info``."""
        info: dict[str, Any] = self.docker.json_lines("info", timeout=PATIENCE)[0]["Swarm"]
        return info

    def swarm_states(self) -> dict[str, str]:
        """Every node's state as this manager sees it: ``{"lab-2": "Ready"}``."""
        return {
            row["Hostname"]: row["Status"] for row in self.docker.json_lines("node", "ls", timeout=PATIENCE)
        }


class TookTooLong(ClusterError):
    """Something that was waited for did not happen."""


def wait_until(holds: Callable[[], bool], seconds: float, complaint: str) -> None:
    """Wait until something holds.

    Raises:
        TookTooLong: it does not hold after ``seconds``, with the complaint.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TookTooLong(f"{complaint} after {seconds:g} s")
        time.sleep(0.1)
