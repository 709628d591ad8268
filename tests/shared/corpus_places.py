"""Where the trainings of tests/corpus run, this machine or a lab, and how a node is lost there with its disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from healed_swarm import agents_on

from swarmtrain.control.handle import RunHandle
from swarmtrain.lab.chaos import LabMachines
from swarmtrain.lab.lab import Lab
from swarmtrain.launchers.base import Machines
from swarmtrain.launchers.local import LocalLauncher
from swarmtrain.wire.disk.storage import Storage
from swarmtrain.wire.names import VOLUME


class Place(Protocol):
    """Where runs are."""

    on: str
    keys: Mapping[str, Any]  # of a job

    def layout(self, least: int, most: int) -> Mapping[str, Any]:
        """So many nodes, as keys of a job; no other machine may take the place of one."""

    def machines(self, handle: RunHandle) -> Machines:
        """A run's nodes from outside."""

    def replace(self, handle: RunHandle, node: str) -> None:
        """A node loses its processes, its memory and its disk at once, and begins anew with an empty one."""

    def lose(self, handle: RunHandle, node: str) -> None:
        """A node is gone for good."""


class OnThisMachine:
    """See Place."""

    on = "local"
    keys: Mapping[str, Any] = {}

    def layout(self, least: int, most: int) -> Mapping[str, Any]:
        return {"nodes": most if least == most else f"{least}..{most}"}

    def machines(self, handle: RunHandle) -> Machines:
        return LocalLauncher().machines(handle.run)

    def replace(self, handle: RunHandle, node: str) -> None:
        self.lose(handle, node)
        (self._storage().run(handle.id) / node).mkdir()
        LocalLauncher().start_node(handle.run, node)

    def lose(self, handle: RunHandle, node: str) -> None:
        storage, lineage = self._storage(), handle.status().lineage
        self.machines(handle).kinds["power-off"](node, "")
        shutil.rmtree(storage.run(handle.id) / node)
        shutil.rmtree(storage.work(lineage, node).parent)
        shutil.rmtree(storage.memory(handle.id, node), ignore_errors=True)

    def _storage(self) -> Storage:
        return Storage(Path(os.environ["SWARMTRAIN_HOME"]))


class OnALab:
    """See Place. The manager's machine has the coordinator alone: what becomes of that is tried elsewhere."""

    on = "swarm"

    def __init__(self, lab: Lab, image: str) -> None:
        self.lab = lab
        self.keys: Mapping[str, Any] = {"image": image}

    def layout(self, least: int, most: int) -> Mapping[str, Any]:
        if least < most:
            return {"nodes": f"{least}..{most}", "constraints": ("node.hostname!=lab-1",)}
        return {"nodes": [f"lab-{number}" for number in range(2, 2 + most)]}

    def machines(self, handle: RunHandle) -> Machines:
        return LabMachines(self.lab, handle.run)

    def replace(self, handle: RunHandle, node: str) -> None:
        machine, (volume,) = self.lab.node(node), self.lab.node(node).docker.json("volume", "inspect", VOLUME)
        kept = [f"runs/{handle.id}/{node}", f"data/{handle.status().lineage}/{node}"]
        agents = agents_on(self.lab, node, handle)
        assert agents, f"{node} has no agent"
        machine.docker.run("kill", "--signal", "KILL", *agents)
        machine.exec("rm", "-r", *(f"{volume['Mountpoint']}/{path}" for path in kept))

    def lose(self, handle: RunHandle, node: str) -> None:
        self.machines(handle).kinds["power-off"](node, "")
