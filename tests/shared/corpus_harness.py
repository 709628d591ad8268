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
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from corpus_places import Place
from waiting import until
from worker_harness import environment, free_port

from swarmtrain import Client, Job
from swarmtrain.control.chaos.faults import Fault
from swarmtrain.control.chaos.sites import place_of

SCRIPTS = Path(__file__).parents[1] / "corpus" / "scripts"
_BESIDE = ("common.py", "hydra_conf")
_GOES_ON = 300.0  # seconds that a training may take from its start, and again from a fault, to its end
# Seconds between two checkpoints: more than the first takes to be on another node, also on a machine that is busy.
_FAR_APART = 6.0 * min(5.0, max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0))))
NAME = "corpus"  # of the runs


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

    def __init__(
        self, script: str, directory: Path, nodes: int, workers: int, counts: Sequence[int] = ()
    ) -> None:
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
                        env=environment() | _variables(counts),
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
    """A training as a run of swarmtrain. It is started from the current directory.

    Args:
        nodes: at least, and at most.
        counts: after how many checkpoints each of its first attempts is to be broken.
    """

    def __init__(
        self,
        place: Place,
        script: str,
        nodes: tuple[int, int],
        workers: int = 1,
        counts: Sequence[int] = (),
    ) -> None:
        lay_out(script, Path.cwd())
        job: dict[str, Any] = {
            "workers_per_node": workers,
            "share": "auto",
            **place.keys,
            **place.layout(*nodes),
        }
        files = (f"{script}.py", "common.py", "hydra_conf/**")
        variables = {"OMP_NUM_THREADS": "1", **_variables(counts)}
        self.place = place
        self.handle = Client(on=place.on).run(
            Job(name=NAME, script=f"{script}.py", files=files, env=variables, **job)
        )
        self._lines: list[tuple[int, str]] = []
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        for piece in self.handle.logs(follow=True):
            self._lines += [(line.generation, line.text) for line in piece]

    def lines(self) -> Iterable[tuple[int, str]]:
        """See Training.lines."""
        return list(self._lines)

    def kill_worker(self, rank: int) -> None:
        """See Training.kill_worker."""
        site = place_of(self.handle, self.place.machines(self.handle))
        site.inflict(Fault("kill-worker", str(rank)), str(rank), self.handle.status())

    def replace_node(self, rank: int) -> None:
        """A rank's node loses all that it holds, and begins anew."""
        self.place.replace(self.handle, self._node_of(rank))

    def lose_node(self, rank: int) -> None:
        """A rank's node is gone for good."""
        self.place.lose(self.handle, self._node_of(rank))

    def _node_of(self, rank: int) -> str:
        return next(worker.node for worker in self.handle.status().workers if worker.rank == rank)

    def wait(self) -> None:
        """See Training.wait."""
        result = self.handle.wait(timeout=_GOES_ON)
        assert result.state == "succeeded", f"{result.reason}\n{self._story()}"
        self._lines = [(line.generation, line.text) for piece in self.handle.logs() for line in piece]

    def _story(self) -> str:
        return "\n".join(f"{event.time:.2f} {event.kind}: {event.text}" for event in self.handle.events())


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


def break_between_checkpoints(
    training: Training,
    counts: Sequence[int],
    faults: Sequence[Callable[[], object]],
    chance: random.Random,
) -> None:
    """Break one attempt of a training after the other, each after so many checkpoints, then wait for its end."""
    for number, (count, fault) in enumerate(zip(counts, faults, strict=True)):
        until(
            partial(_has_saved, training, number, count), _GOES_ON, f"checkpoint {count} of attempt {number}"
        )
        time.sleep(chance.uniform(0.5, _FAR_APART))
        fault()
    training.wait()


def _has_saved(training: Training, number: int, count: int) -> bool:
    found = told(training)
    return len(found) > number and len(found[number].saved) >= count


def _variables(counts: Sequence[int]) -> dict[str, str]:
    """Have the checkpoint after which an attempt is broken, and the one before it, set apart from the next."""
    holds = [[0.0] * (count - 2) + [_FAR_APART] * (count > 1) + [2 * _GOES_ON] for count in counts]
    return {"CORPUS_HOLDS": ";".join(" ".join(map(str, each)) for each in holds)}


def _variable(pid: int, name: str) -> str:
    """A variable of a process's environment, or nothing."""
    entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(entry.decode().partition("=")[::2] for entry in entries).get(name, "")
