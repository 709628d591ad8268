"""Trainings on the lab that are to be broken: ours, and those of stock torchrun."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Protocol

from recover_stacks import RIVALS, stack
from recover_stamps import Log, Stuck

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle
from swarmtrain.docker.command import Docker
from swarmtrain.errors import ClusterError
from swarmtrain.lab.images import ensure_torch_image
from swarmtrain.lab.lab import Lab
from swarmtrain.launchers.swarm import SwarmLauncher, containers

HERE = Path(__file__).resolve().parent
JOB = "recover"
NODES = 3
MOUNT = "/lab/bench:/bench"  # /lab in a node is a directory of the host's


class Training(Protocol):
    """One training on the lab, ours or a rival's."""

    stack: str
    log: Log

    def alive(self) -> None:
        """Raises Stuck when it has ended."""

    def journal(self) -> list[dict[str, Any]]:
        """What it says itself about what happened."""

    def remove(self) -> None:
        """With everything that belongs to it."""


class Bench:
    """The lab, and what is on it."""

    def __init__(self) -> None:
        self.lab = Lab(os.environ.get("SWARMTRAIN_LAB"))
        self.lab.up(NODES)
        self.image = ensure_torch_image(self.lab.engine, print)
        self.lab.load(self.image)
        self.docker = Docker(host=self.lab.host)
        self.client = Client(on="swarm", launchers={"swarm": SwarmLauncher(self.docker)})
        self._count = 0

    def stamps(self) -> tuple[str, Log]:
        """A fresh directory for stamps, as containers see it, and the reader of it."""
        self._count += 1
        tag = f"{int(time.time())}-{self._count}"
        directories = [self.lab.names.node_directory(index) / "bench" / tag for index in range(1, NODES + 1)]
        for directory in directories:
            directory.mkdir(parents=True)
            directory.chmod(0o777)
        return f"/bench/{tag}", Log(directories)

    def clean(self) -> None:
        """Make the lab as it was: nodes repaired, trainings and stamps gone."""
        if any(status.machine != "running" or status.swarm != "Ready" for status in self.lab.status()):
            self.lab.up(NODES)
        for handle in self.client.runs():
            if handle.run.job == JOB:
                handle.remove(force=True)
        for rival in RIVALS:
            self.remove_stack(f"rival-{rival}")
        for node in self.lab.nodes():
            node.exec("rm", "-rf", "/lab/bench")

    def remove_stack(self, name: str) -> None:
        self.docker.run("stack", "rm", name)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            left = any(containers.running(node.docker, name) for node in self.lab.nodes())
            if not left and name not in self.docker.run("network", "ls", "--format", "{{.Name}}"):
                return
            time.sleep(0.5)


class Ours:
    """A run of swarmtrain."""

    def __init__(self, bench: Bench, **settings: Any) -> None:
        stamps, self.log = bench.stamps()
        job = Job(
            name=JOB,
            script="recover_train.py",
            args=("trainer",),
            files=("recover_train.py",),
            image=bench.image,
            env={"OMP_NUM_THREADS": "1", "STAMPS": stamps},
            volumes=(MOUNT,),
            workers_per_node=1,
            **settings,
        )
        self.handle: RunHandle = bench.client.run(job)
        self.stack = self.handle.run.stack

    def alive(self) -> None:
        with contextlib.suppress(ClusterError):
            status = self.handle.status()
            if status.has_ended:
                raise Stuck(f"{self.handle.id} {status.state}: {status.reason}")

    def journal(self) -> list[dict[str, Any]]:
        deadline = time.monotonic() + 30  # the coordinator may just be starting
        while True:
            try:
                return [event.dump() for event in self.handle.events()]
            except ClusterError as error:
                if time.monotonic() > deadline:
                    return [{"t": time.time(), "kind": "silent", "text": str(error)}]
                time.sleep(0.5)

    def remove(self) -> None:
        self.handle.remove(force=True)


class Rival:
    """A stack of stock torchrun."""

    def __init__(self, bench: Bench, rival: str) -> None:
        self._bench = bench
        self.stack = f"rival-{rival}"
        stamps, self.log = bench.stamps()
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "stack.json"
            path.write_text(stack(rival, bench.image, str(HERE / "recover_train.py"), stamps, MOUNT))
            bench.docker.run("stack", "deploy", "--resolve-image", "never", "-c", str(path), self.stack)

    def alive(self) -> None:
        """Nobody tells."""

    def journal(self) -> list[dict[str, Any]]:
        return []

    def remove(self) -> None:
        self._bench.remove_stack(self.stack)
