"""A lab: several nodes joined in one Swarm. `up` repairs what is missing and leaves the rest as it is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TypeVar

from swarmtrain.docker.command import DockerFailed
from swarmtrain.errors import ClusterError, RequestError
from swarmtrain.lab import commands, formation, images, releases
from swarmtrain.lab.base import Say, registry_answers
from swarmtrain.lab.commands import NodeSettings
from swarmtrain.lab.host import Found, Host, find_engine
from swarmtrain.lab.names import (
    FIRST_ADDRESS,
    LABEL_ENGINE,
    LABEL_SETTINGS,
    LabNames,
    default_name,
    node_index,
    state_directory,
)
from swarmtrain.lab.node import PATIENCE, LabNode, NodeStatus
from swarmtrain.wire.disk import private

MOST_NODES = 20
DEFAULT_NODES = 3
DEFAULT_GPUS = 2
# Of the host's CPUs: the rest is for the host's own engine and for whoever drives the lab.
CPU_SHARE = 0.9

T = TypeVar("T")
R = TypeVar("R")


def _to_stderr(words: str) -> None:
    print(f"lab: {words}", file=sys.stderr, flush=True)


class Lab:
    """A Swarm of engines on this machine.

    Args:
        name: which lab; by default the one of the checkout that holds the working directory.
        say: is told each step that takes a while, and each automatic choice with its reason.
    """

    def __init__(self, name: str | None = None, say: Say = _to_stderr) -> None:
        self.names = LabNames(name or default_name(), state_directory())
        self.engine = find_engine(self.names)
        self._host = Host(self.names, self.engine)
        self._say = say

    @property
    def host(self) -> str:
        """The manager's address, as in DOCKER_HOST."""
        return self.names.host(1)

    @property
    def context(self) -> str:
        """The name of the docker context that leads to the manager."""
        return self.names.project

    @property
    def manager(self) -> LabNode:
        return self.node(1)

    def node(self, which: int | str) -> LabNode:
        """A node by its number or name: ``2``, ``"lab-2"``."""
        index = which if isinstance(which, int) else node_index(which)
        return LabNode(self.names, index, self.engine)

    def nodes(self) -> list[LabNode]:
        """The nodes there are, in order."""
        return [self.node(index) for index in sorted(self._host.containers())]

    def up(
        self,
        nodes: int = DEFAULT_NODES,
        cpus: float | None = None,
        gpus: int = DEFAULT_GPUS,
        engines: Sequence[str] = (),
    ) -> None:
        """Bring up a lab of this many nodes, or make the one there is like that.

        Args:
            nodes: how many; node 1 is the manager.
            cpus: CPU time of each node; by default nearly all of the host's in equal shares.
            gpus: pretend GPUs that each node declares as the generic resource ``gpu``.
            engines: the Debian release whose engine they have: one for all, or one for each. Without any, nodes keep
                what they have, and a new lab has `releases.DEFAULT`.
        """
        if not 1 <= nodes <= MOST_NODES:
            raise RequestError(f"a lab has 1 to {MOST_NODES} nodes, not {nodes}")
        if (cpus is not None and cpus <= 0) or gpus < 0:
            raise RequestError("a node has more than 0 CPUs, and 0 GPUs or more")
        with self._locked():
            before = self._host.containers()
            of_nodes = releases.of_nodes(
                engines, nodes, {index: _engine(each) for index, each in before.items()}
            )
            made = {
                name: images.ensure_node_image(self.engine, releases.RELEASES[name], self._say)
                for name in sorted(set(of_nodes.values()))
            }
            created: list[int] = []
            try:
                parts = {index: (name, made[name]) for index, name in of_nodes.items()}
                wanted = self._settings(before, parts, cpus, gpus)
                for index in sorted(set(before) - set(wanted), reverse=True):
                    self._dismiss(index)
                _together(lambda index: self._ensure_node(index, wanted[index], before, created), wanted)
                formation.form_swarm([self.node(index) for index in wanted])
                self._host.ensure_context()
            except BaseException:
                self._say("that failed: removing what was just made")
                with contextlib.suppress(DockerFailed):  # the first error is the one to tell
                    _together(self._host.destroy, created)
                    if not before:
                        self._host.remove_rest()
                raise

    def down(self) -> None:
        """Remove the lab: containers, volumes, network, docker context, files. Its images stay."""
        with self._locked():
            _together(self._host.destroy, self._host.containers())
            self._host.remove_rest()
            self.names.lock.unlink()

    def status(self) -> list[NodeStatus]:
        """What is known of each node, in order; empty where there is no lab."""
        nodes = self.nodes()
        swarm: dict[str, str] = {}
        if nodes and nodes[0].index == 1 and nodes[0].machine() == "running":
            with contextlib.suppress(DockerFailed):  # no manager to ask: the states are "unknown"
                swarm = nodes[0].swarm_states()
        return _together(lambda node: node.status(swarm.get(node.name, "unknown")), nodes)

    def training_image(self) -> str:
        """The demo's image, where the manager holds it; empty where it does not."""
        held = images.fingerprint(self.manager.docker, images.TORCH_IMAGE)
        return images.TORCH_IMAGE if held is not None else ""

    def load(self, *tags: str) -> None:
        """Bring images from the host's engine to every running node that does not hold them yet."""
        with self._locked():
            running = [node for node in self.nodes() if node.machine() == "running"]
            if not running:
                raise ClusterError("there is no lab to load images into", "bring it up: swarmtrain lab up")
            for tag in tags:
                self._load(tag, running)

    def _load(self, tag: str, nodes: list[LabNode]) -> None:
        wanted = images.fingerprint(self.engine, tag)
        if wanted is None:
            raise RequestError(
                f"this machine's Docker Engine holds no image {tag}",
                "build it with docker build, or the demo's image with: swarmtrain lab build",
            )
        held = _together(lambda node: images.fingerprint(node.docker, tag), nodes)
        targets = [node for node, has in zip(nodes, held, strict=True) if has != wanted]
        if targets:
            self._say(f"loading {tag} into {', '.join(node.name for node in targets)}")
            images.copy_image(self.engine, tag, [node.docker for node in targets])
            _together(lambda node: images.remove_replaced(node.docker), targets)

    def _settings(
        self, before: dict[int, Found], parts: Mapping[int, tuple[str, str]], cpus: float | None, gpus: int
    ) -> dict[int, NodeSettings]:
        """What each node is to be made from, by its number; ``parts`` are its engine and its image."""
        subnet = self._host.ensure_network()
        offline, privileged = self._circumstances(before, parts[1][1])
        share = cpus or self._cpu_share(len(parts), aloud=not before)
        return {
            index: NodeSettings(
                image=image,
                engine=engine,
                address=subnet.network_address + FIRST_ADDRESS + index,
                cpus=share,
                gpus=gpus,
                offline=offline,
                privileged=privileged,
                group=os.getgid(),
            )
            for index, (engine, image) in parts.items()
        }

    def _circumstances(self, before: dict[int, Found], image: str) -> tuple[bool, bool]:
        """Whether no registry can be reached, and whether the host's engine gives all rights.

        As the nodes there are have it; found out only for the first.
        """
        if before:
            index, found = min(before.items())
            return self._host.is_offline(index), bool(found["HostConfig"]["Privileged"])
        offline = not registry_answers()
        if offline:
            self._say("no image registry can be reached: nodes refuse names outside of the Swarm at once")
        privileged = self._host.gives_all_rights(image)
        if privileged:
            self._say("nodes run with --privileged")
        else:
            self._say("nodes run with explicit capabilities: --privileged is refused here")
        return offline, privileged

    def _cpu_share(self, nodes: int, aloud: bool) -> float:
        cpus = self._host.cpus()
        share = max(0.1, round(CPU_SHARE * cpus / nodes, 1))
        if aloud:
            self._say(f"each node has {share:g} CPUs: nearly all of this machine's {cpus}, in equal shares")
        return share

    def _ensure_node(
        self, index: int, settings: NodeSettings, before: dict[int, Found], created: list[int]
    ) -> None:
        """Make one node run as it should; its number goes to ``created`` when it has a new disk."""
        node, found = self.node(index), before.get(index)
        wanted = commands.digest(self.names, index, settings)
        if found and (found["Config"]["Labels"][LABEL_SETTINGS] != wanted or not self._host.has_files(index)):
            if _engine(found) != settings.engine:
                self._say(
                    f"{node.name} is made anew, with an empty disk: its engine is to be {settings.engine}'s"
                )
                self._host.destroy(index)
            else:
                self._say(f"{node.name} is made anew: its settings changed")
                self.engine.run("rm", "--force", node.container)
            found = None
        if found is None:
            if self._host.ensure_volume(index):
                created.append(index)
            self._say(f"starting {node.name} at {settings.address}")
            self._host.write_files(index, settings)
            self.engine.run(*commands.run_node(self.names, index, settings))
        else:
            if found["State"]["Status"] == "paused":
                node.unpause()
            elif found["State"]["Status"] != "running":
                self.engine.run("start", node.container)
            if self.names.project not in found["NetworkSettings"]["Networks"]:
                node.plug()
        node.wait_for_engine()

    def _dismiss(self, index: int) -> None:
        """Take a node out of the Swarm, then away."""
        node = self.node(index)
        self._say(f"removing {node.name}")
        with contextlib.suppress(DockerFailed):  # no manager may be there to ask; it is struck off later
            self.manager.docker.run("node", "rm", "--force", node.name, timeout=PATIENCE)
        self._host.destroy(index)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One change of a lab at a time."""
        private.make(self.names.state)
        while True:
            with open(self.names.lock, "w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    self._say("somebody else is changing this lab: waiting for them")
                    fcntl.flock(lock, fcntl.LOCK_EX)
                if _is_at(lock, self.names.lock):
                    yield
                    return


def _engine(found: Found) -> str:
    """The Debian release whose engine a node has; nodes from before there was a choice have bookworm's."""
    return str(found["Config"]["Labels"].get(LABEL_ENGINE, "bookworm"))


def _is_at(file: IO[str], path: Path) -> bool:
    """Whether an open file is the one of that name; whoever held the lock may have removed it with the lab."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _together(act: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Do the same to several things at the same time; results in order, or the first error once all are done."""
    items = list(items)
    if not items:
        return []
    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(act, items))
