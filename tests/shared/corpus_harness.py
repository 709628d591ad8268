"""Trainings of the scripts of tests/corpus, under torchrun and under swarmtrain: how they break, and what they tell.

The scripts know nothing of either. A rank prints ``saved MARK`` when a checkpoint of its framework has been written,
and ends with a `Report`.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from healed_local import worker_of
from waiting import until
from worker_harness import environment, free_port

from swarmtrain import Client, Job
from swarmtrain.errors import ClusterError
from swarmtrain.launchers.local import LocalLauncher
from swarmtrain.wire.disk.storage import Storage

SCRIPTS = Path(__file__).parents[1] / "corpus" / "scripts"
_BESIDE = ("common.py", "hydra_conf")
_GOES_ON = 240.0  # seconds that a training may take from its start, and again from a fault, to its end


@dataclass(frozen=True)
class Report:
    """What a rank tells at its end.

    Attributes:
        resumed: the mark of the checkpoint that it went on from; 0 for none.
        losses: its own, of each step since then.
        weights: a hash of those that it ended with.
    """

    rank: int
    world: int
    resumed: int
    losses: list[float]
    weights: str


@dataclass
class Attempt:
    """What the ranks of one generation, or of one of torchrun's attempts, have told."""

    saved: set[int] = field(default_factory=set)
    reports: dict[int, Report] = field(default_factory=dict)


class Training(Protocol):
    """One training, wherever it was started."""

    def lines(self) -> Iterable[tuple[int, str]]:
        """What its ranks have written so far, each line with the number of its attempt."""

    def kill_worker(self, rank: int) -> None:
        """Kill a worker, as a lack of memory would."""

    def wait(self) -> None:
        """Wait for its end, which must be a success."""


class Torchrun:
    """A training under torchrun: one for each node, in a directory of its own."""

    def __init__(self, script: str, directory: Path, nodes: int, workers: int) -> None:
        self._directory, self._ranks = directory, nodes * workers
        address = f"127.0.0.1:{free_port()}"
        self._nodes = []
        for node in range(nodes):
            place = directory / f"node{node}"
            lay_out(script, place)
            words = [
                *("--nnodes", nodes, "--nproc-per-node", workers, "--rdzv-backend", "c10d"),
                *("--rdzv-endpoint", address, "--rdzv-id", "corpus", "--local-addr", "127.0.0.1"),
                *("--max-restarts", 3, "--redirects", 3, "--log-dir", directory / f"log{node}"),
                f"{script}.py",
            ]
            with (directory / f"torchrun{node}.out").open("wb") as output:
                self._nodes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "torch.distributed.run", *map(str, words)],
                        cwd=place,
                        env=environment(),
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=output,
                    )
                )

    def lines(self) -> Iterable[tuple[int, str]]:
        """See Training.lines."""
        for path in self._directory.glob("log*/*/attempt_*/*/stdout.log"):
            number = int(path.parent.parent.name.removeprefix("attempt_"))
            whole = path.read_text().split("\n")[:-1]
            yield from ((number, line) for line in whole)

    def kill_worker(self, rank: int) -> None:
        """See Training.kill_worker; the workers of the first node alone are known by their ranks."""
        agent = self._nodes[0].pid
        children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
        (worker,) = (pid for pid in map(int, children) if _variable(pid, "LOCAL_RANK") == str(rank))
        os.kill(worker, signal.SIGKILL)

    def wait(self) -> None:
        """See Training.wait. Ranks that have reported need not end: torch 2.13 may deadlock as it is taken apart."""
        try:
            until(lambda: self._has_reported() or self._has_failed(), _GOES_ON, "the end")
            assert self._has_reported(), self._errors()
        finally:
            for node in self._nodes:
                node.terminate()  # its workers end with it
                node.wait()

    def _has_reported(self) -> bool:
        found = told(self)
        return bool(found) and len(found[-1].reports) == self._ranks

    def _has_failed(self) -> bool:
        return any(node.poll() for node in self._nodes)

    def _errors(self) -> str:
        texts = [path.read_text() for path in sorted(self._directory.glob("log*/*/attempt_*/*/stderr.log"))]
        return "\n".join(texts)[-5000:]


class Swarmtrain:
    """A training as a run on this machine. It is started from the current directory."""

    def __init__(self, script: str, nodes: int | str, workers: int) -> None:
        lay_out(script, Path.cwd())
        job: dict[str, Any] = {"nodes": nodes, "workers_per_node": workers, "env": {"OMP_NUM_THREADS": "1"}}
        files = (f"{script}.py", "common.py", "hydra_conf/**")
        self._handle = Client(on="local").run(Job(name="corpus", script=f"{script}.py", files=files, **job))

    def lines(self) -> Iterable[tuple[int, str]]:
        """See Training.lines."""
        return [(line.generation, line.text) for piece in self._handle.logs() for line in piece]

    def kill_worker(self, rank: int) -> None:
        """See Training.kill_worker."""
        os.kill(worker_of(self._handle, rank), signal.SIGKILL)

    def lose_node(self, rank: int, *, replace: bool) -> None:
        """Lose a rank's machine for good: all its processes at once, its disk and its memory.

        Args:
            replace: have another machine of the same name, with an empty disk, in its place.
        """
        status, storage = self._handle.status(), Storage(Path(os.environ["SWARMTRAIN_HOME"]))
        node = next(worker.node for worker in status.workers if worker.rank == rank)
        launcher, run = LocalLauncher(), self._handle.run
        launcher.machines(run).kinds["power-off"](node, "")
        shutil.rmtree(storage.run(run.id) / node)
        shutil.rmtree(storage.work(status.lineage, node).parent)
        shutil.rmtree(storage.memory(run.id, node), ignore_errors=True)
        if replace:
            (storage.run(run.id) / node).mkdir()
            launcher.start_node(run, node)

    def wait(self) -> None:
        """See Training.wait."""
        try:
            result = self._handle.wait(timeout=_GOES_ON)
        except (TimeoutError, ClusterError):
            self._handle.kill()
            raise
        assert result.state == "succeeded", f"{result.reason}\n{self._story()}"

    def _story(self) -> str:
        return "\n".join(f"{event.time:.2f} {event.kind}: {event.text}" for event in self._handle.events())


def lay_out(script: str, directory: Path) -> None:
    """Put a script and what it imports into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in (f"{script}.py", *_BESIDE):
        source = SCRIPTS / name
        shutil.copytree(source, directory / name) if source.is_dir() else shutil.copy(source, directory)


def told(training: Training) -> list[Attempt]:
    """What a training's ranks have told so far, attempt by attempt; those before the last were broken."""
    found: dict[int, Attempt] = {}
    for number, line in training.lines():
        attempt = found.setdefault(number, Attempt())
        word, _, rest = line.partition(" ")
        if word == "saved":
            attempt.saved.add(int(rest))
        elif word == "report":
            report = Report(**json.loads(rest))
            attempt.reports[report.rank] = report
    return [found[number] for number in sorted(found)]


def break_between_checkpoints(training: Training, chance: random.Random, fault: Callable[[], object]) -> None:
    """Break a training after one of its first checkpoints, and well before the next, then wait for its end.

    What is written in place and torn by its end is its script's own loss, under torchrun too.
    """
    count = chance.randint(1, 4)

    def are_there() -> bool:
        found = told(training)
        return bool(found) and len(found[0].saved) >= count

    until(are_there, _GOES_ON, f"checkpoint {count}")
    time.sleep(chance.uniform(0.05, 0.4))
    fault()
    training.wait()


def _variable(pid: int, name: str) -> str:
    """A variable of a process's environment, or nothing."""
    entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(entry.decode().partition("=")[::2] for entry in entries).get(name, "")
