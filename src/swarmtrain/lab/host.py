"""What a lab has on its host: the engine that holds its nodes, their containers, disks and network, and its context.

Everything carries the lab's label, by which it is found again: there is no record to lose.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import shutil
from typing import Any

from swarmtrain.docker.command import Docker, DockerFailed
from swarmtrain.errors import ClusterError
from swarmtrain.lab import commands
from swarmtrain.lab.commands import NodeSettings
from swarmtrain.lab.names import LABEL_LAB, LABEL_NODE, PREFIX, LabNames

LOCAL_ENGINE = "unix:///var/run/docker.sock"

# A container as `docker inspect` shows it.
Found = dict[str, Any]


def find_engine(names: LabNames) -> Docker:
    """The engine for the nodes: the one that the environment names, unless that is itself a node of a lab.

    It stays this one when the environment changes.
    """
    if os.environ.get("DOCKER_CONTEXT", "").startswith(PREFIX):
        return Docker(host=LOCAL_ENGINE)
    docker = Docker()
    address = docker.run("context", "inspect", "--format", "{{.Endpoints.docker.Host}}").strip()
    if address.startswith(f"unix://{names.state}/"):
        return Docker(host=LOCAL_ENGINE)
    if not address.startswith("unix://"):
        raise ClusterError(
            f"a lab needs the Docker Engine of this machine, and docker points at {address}",
            "unset DOCKER_HOST and DOCKER_CONTEXT, or: docker context use default",
        )
    return Docker(host=address)


class Host:
    """One lab's things on the host.

    Args:
        names: what they are called.
        engine: where they are.
    """

    def __init__(self, names: LabNames, engine: Docker) -> None:
        self.names = names
        self.engine = engine
        self._label = f"{LABEL_LAB}={names.lab}"

    def containers(self) -> dict[int, Found]:
        """The nodes' containers, running or not, by their node's number."""
        ids = self.engine.run("ps", "--all", "--quiet", "--filter", f"label={self._label}").split()
        found: list[Found] = self.engine.json("container", "inspect", *ids) if ids else []
        return {int(each["Config"]["Labels"][LABEL_NODE]): each for each in found}

    def cpus(self) -> int:
        """How many CPUs the host's engine has."""
        return int(self.engine.json_lines("info")[0]["NCPU"])

    def gives_all_rights(self, image: str) -> bool:
        """Whether the engine starts privileged containers; one that is confined itself cannot."""
        command = ["run", "--rm", "--privileged", "--entrypoint", "true", image]
        return self.engine.completed(*command).returncode == 0

    def ensure_network(self) -> ipaddress.IPv4Network:
        """The lab's network; its subnet is one that Docker found to be free, asked for by name the second time."""
        name = self.names.project
        if self.engine.completed("network", "inspect", name).returncode != 0:
            self.engine.run(*commands.create_network(self.names, None))
            subnet = self._subnet()
            self.engine.run("network", "rm", name)
            self.engine.run(*commands.create_network(self.names, str(subnet)))
        return self._subnet()

    def _subnet(self) -> ipaddress.IPv4Network:
        network = self.engine.json("network", "inspect", self.names.project)[0]
        return ipaddress.IPv4Network(network["IPAM"]["Config"][0]["Subnet"])

    def ensure_volume(self, index: int) -> bool:
        """Make a node's disk where it is missing; whether it was."""
        name = self.names.container(index)
        if self.engine.completed("volume", "inspect", name).returncode == 0:
            return False
        self.engine.run("volume", "create", "--label", self._label, name)
        return True

    def write_files(self, index: int, settings: NodeSettings) -> None:
        """Write what a node finds in /lab."""
        directory = self.names.node_directory(index)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700, parents=True)
        config = commands.daemon_config(self.names, index, settings)
        (directory / "daemon.json").write_text(json.dumps(config, indent=2) + "\n")
        if settings.offline:
            (directory / "resolver").write_text(commands.RESOLVER + "\n")
            (directory / "resolv.conf").write_text(f"nameserver {commands.RESOLVER}\n")

    def has_files(self, index: int) -> bool:
        return (self.names.node_directory(index) / "daemon.json").exists()

    def is_offline(self, index: int) -> bool:
        """Whether a node was made for a host that reaches no registry."""
        return (self.names.node_directory(index) / "resolver").exists()

    def ensure_context(self) -> None:
        """Make the docker context that leads to the manager."""
        name, address = self.names.project, self.names.host(1)
        known = self._contexts().get(name)
        if known != address:
            verb = "create" if known is None else "update"
            about = f"Manager of the lab {self.names.lab}"
            self.engine.run("context", verb, name, "--description", about, "--docker", f"host={address}")

    def _contexts(self) -> dict[str, str]:
        """The docker contexts of this user: their engines' addresses by their names."""
        return {row["Name"]: row["DockerEndpoint"] for row in self.engine.json_lines("context", "ls")}

    def destroy(self, index: int) -> None:
        """Remove a node with its disk and files."""
        name = self.names.container(index)
        # it may never have come to be; its volume says whether it is gone
        with contextlib.suppress(DockerFailed):
            self.engine.run("rm", "--force", "--volumes", name)
        self.engine.run("volume", "rm", "--force", name)
        shutil.rmtree(self.names.node_directory(index), ignore_errors=True)

    def remove_rest(self) -> None:
        """Remove what there is besides the nodes: left volumes, network, context, files."""
        wanted = ("--quiet", "--filter", f"label={self._label}")
        if volumes := self.engine.run("volume", "ls", *wanted).split():
            self.engine.run("volume", "rm", "--force", *volumes)
        if networks := self.engine.run("network", "ls", *wanted).split():
            self.engine.run("network", "rm", *networks)
        if self.names.project in self._contexts():
            self.engine.run("context", "rm", "--force", self.names.project)
        shutil.rmtree(self.names.directory, ignore_errors=True)
