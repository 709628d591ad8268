"""Lives of runs on a lab: how they are broken there, what is left of them, and what that burns. See lives.py."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from healed_swarm import check_output
from lives import Break

from swarmtrain.control.chaos.faults import Fault
from swarmtrain.control.chaos.sites import place_of
from swarmtrain.control.handle import RunHandle
from swarmtrain.lab.chaos import LabMachines
from swarmtrain.lab.lab import Lab
from swarmtrain.lab.node import LabNode
from swarmtrain.wire.names import VOLUME


class OnALab:
    """See lives.Place. A container is killed as a whole, as only its engine can."""

    on, pause, patience = "swarm", 0.2, 150.0
    variables: Mapping[str, str] = {}

    def __init__(self, lab: Lab, image: str) -> None:
        self._lab = lab
        self.flags: Sequence[str] = ("--on", "swarm", "--image", image, "-j", "2x1")
        self.breaks: Mapping[str, Break] = {
            "worker": lambda handle: self._inflict(handle, "kill-worker", "1"),
            "agent": lambda handle: self._inflict(handle, "kill-container", _node_of(handle, 1)),
            "coordinator": lambda handle: self._inflict(handle, "kill-coordinator", ""),
        }

    def is_whole(self, handle: RunHandle) -> bool:
        return True  # what is left to do is docker's, which outlives whoever asked for it

    def check_output(self, handle: RunHandle) -> None:
        check_output(self._lab, handle)

    def _inflict(self, handle: RunHandle, kind: str, target: str) -> None:
        place = place_of(handle, LabMachines(self._lab, handle.run))
        place.inflict(Fault(kind, target), target, handle.status())


def _node_of(handle: RunHandle, rank: int) -> str:
    return next(each.node for each in handle.status().workers if each.rank == rank)


def everything(lab: Lab) -> set[str]:
    """All that runs could leave on the machines of a lab, by kind, name and node."""
    found = set()
    for kind, words in (
        ("service", ("service", "ls", "--format", "{{.Name}}")),
        ("config", ("config", "ls", "--format", "{{.Name}}")),
        ("secret", ("secret", "ls", "--format", "{{.Name}}")),
    ):
        found |= {f"{kind} {name}" for name in lab.manager.docker.run(*words).split()}
    for node in lab.nodes():
        for kind, words in (
            ("container", ("ps", "--all", "--format", "{{.Names}}")),
            ("network", ("network", "ls", "--format", "{{.Name}}")),
            ("volume", ("volume", "ls", "--format", "{{.Name}}")),
        ):
            found |= {f"{kind} {name} on {node.name}" for name in node.docker.run(*words).split()}
        found.discard(f"volume {VOLUME} on {node.name}")  # a node keeps it: see stored
        found |= {f"/dev/shm/{name} on {node.name}" for name in node.exec("ls", "-A", "/dev/shm").split()}
        found |= {f"process {each} on {node.name}" for each in _processes(node)}
    return found


def stored(lab: Lab) -> set[str]:
    """What is kept of runs in the nodes' volumes: their directories, and those of their data."""
    found = set()
    for node in lab.nodes():
        if VOLUME not in node.docker.run("volume", "ls", "--quiet").split():
            continue  # it never took part
        (volume,) = node.docker.json("volume", "inspect", VOLUME)
        listed = node.exec("sh", "-c", f"cd {volume['Mountpoint']} && ls -Ad runs/* data/* 2>/dev/null; true")
        found |= {f"{name} on {node.name}" for name in listed.split()}
    return found


def running(lab: Lab) -> set[str]:
    """The names of the containers that run."""
    return {name for node in lab.nodes() for name in _containers(node)}


def burnt(lab: Lab, seconds: float) -> dict[str, float]:
    """Which part of one processor each container takes over the next seconds, all of its processes together."""
    before, began = _processor_seconds(lab), time.monotonic()
    time.sleep(seconds)
    after, took = _processor_seconds(lab), time.monotonic() - began
    return {name: (after[name] - before[name]) / took for name in after if name in before}


def _processor_seconds(lab: Lab) -> dict[str, float]:
    """Seconds that each container has run so far, by its cgroup, without starting anything in it."""
    found = {}
    for node in lab.nodes():
        for name in _containers(node):
            told = _asked(node, f"/containers/{name}/stats?stream=false&one-shot=true")
            found[f"{name} on {node.name}"] = told["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9
    assert any(found.values()), f"these are no figures: {found}"
    return found


def _containers(node: LabNode) -> list[str]:
    return node.docker.run("ps", "--format", "{{.Names}}").split()


def _asked(node: LabNode, path: str) -> Any:
    """What a node's engine answers; the command line has no raw figures."""
    connection = _Engine(node.socket)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


class _Engine(http.client.HTTPConnection):
    """HTTP over an engine's socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _processes(node: LabNode) -> list[str]:
    """Processes of ours on a machine, in whatever container."""
    return node.exec("sh", "-c", "grep -l 'bundle[.]zip' /proc/[0-9]*/cmdline 2>/dev/null; true").split()
