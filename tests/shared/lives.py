"""Lives of runs, one after the other and beside each other, by a plan that is drawn from a seed.

What tests of single faults do not see is what is left to the next run: numbers, snapshots, directories, processes. So a
job is submitted, broken, stopped, resumed, removed and resumed again, by clients that die and with clocks that jump;
and after each life everything of the job that is listed must be there. What differs between this machine and a Swarm is
said by a `Place`; that of a lab is in lives_swarm.py.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from healed import SCRIPT, story
from healed_local import agent_of, check_output, worker_of
from waiting import until

from swarmtrain import Client
from swarmtrain.control.handle import RunHandle
from swarmtrain.control.snapshots.retention import complete
from swarmtrain.errors import SwarmtrainError
from swarmtrain.launchers.local import LocalLauncher
from swarmtrain.trainer.snapshots import files as snapshot_files

COMMAND = str(Path(sys.executable).with_name("swarmtrain"))

# Loaded by every interpreter that finds it on PYTHONPATH: client, coordinator, agents and workers.
_CLOCK = """
import time

def _shifted(told, unit):
    def now():
        try:
            with open({file!r}) as file:
                return told() + unit(float(file.read() or 0))
        except (OSError, ValueError):
            return told()
    return now

time.time = _shifted(time.time, float)
time.time_ns = _shifted(time.time_ns, lambda seconds: int(seconds * 1e9))
"""


class Clock:
    """A clock that can be set while programs look at it: the Unix time of all that is started with ``variables``."""

    def __init__(self, directory: Path) -> None:
        (directory / "clock").mkdir()
        self._file = directory / "clock" / "seconds"
        (directory / "clock" / "sitecustomize.py").write_text(_CLOCK.format(file=str(self._file)))
        self.variables = {"PYTHONPATH": str(directory / "clock")}

    def jump(self, seconds: float) -> None:
        aside = self._file.with_suffix(".new")
        aside.write_text(str(seconds))
        aside.replace(self._file)


Break = Callable[[RunHandle], object]


class Place(Protocol):
    """Where jobs live.

    Attributes:
        on: the launcher.
        flags: of `swarmtrain run` there.
        variables: of the clients that submit.
        pause: seconds of a step: a life is to be long enough to be broken.
        patience: seconds in which a run is on its way there; what else is waited for is twice of that at most.
        breaks: what can be broken in a run, and how.
    """

    on: str
    flags: Sequence[str]
    variables: Mapping[str, str]
    pause: float
    patience: float
    breaks: Mapping[str, Break]

    def is_whole(self, handle: RunHandle) -> bool:
        """Whether the client has started all that there is to start: it may die now."""
        ...

    def check_output(self, handle: RunHandle) -> None:
        """Every line that a rank wrote is there once, whole, and its own."""
        ...


class ThisMachine:
    """See Place.

    Args:
        clock: of clients, agents and coordinator; it jumps now and then.
    """

    on, pause, patience = "local", 0.03, 90.0
    flags: Sequence[str] = ("--on", "local", "-j", "2x1")

    def __init__(self, home: Path, clock: Clock | None = None) -> None:
        self._home = home
        self.variables: Mapping[str, str] = clock.variables if clock is not None else {}
        breaks: dict[str, Break] = {
            "worker": lambda handle: os.kill(worker_of(handle, 1), signal.SIGKILL),
            "agent": lambda handle: os.kill(agent_of(handle, "node1"), signal.SIGKILL),
            "coordinator": lambda handle: os.kill(agent_of(handle, ""), signal.SIGKILL),
        }
        if clock is not None:
            jumps = random.Random("jumps")
            breaks["clock"] = lambda handle: clock.jump(jumps.choice((-3600.0, 3600.0)))
        self.breaks: Mapping[str, Break] = breaks

    def is_whole(self, handle: RunHandle) -> bool:
        return len(LocalLauncher().roots(handle.run)) == 3

    def check_output(self, handle: RunHandle) -> None:
        check_output(self._home, handle)


@dataclass
class Job:
    """One job's lives.

    Attributes:
        random: draws its plan.
        steps: that the training has come to, at least: no life may end with fewer.
        told: what was done so far, for the message of a failed test.
    """

    name: str
    directory: Path
    place: Place
    random: random.Random
    steps: int = 0
    lives: int = 0
    told: list[str] = field(default_factory=list)

    def live(self) -> None:
        """One life: submitted or resumed, broken or left alone, ended, looked through, and some older ones removed."""
        draw, goal = self.random, self.steps + self.random.choice((30, 60))
        handle = self._submit(goal)
        until(
            lambda: self._has_come_to(handle, self.steps + 8),
            2 * self.place.patience,
            f"steps of {handle.id}",
        )
        if draw.random() < 0.7:
            self._break(handle, draw.choice(list(self.place.breaks)))
        if draw.random() < 0.3:
            self._tell(f"stop {handle.id}")
            handle.stop()
            assert handle.status().state in ("stopped", "succeeded"), story(handle)
        else:
            result = handle.wait(2 * self.place.patience)
            assert result.state == "succeeded", f"{result.reason}\n{story(handle)}"
        self._look_through(handle, goal)
        self._remove_some()
        self.lives += 1

    def runs(self) -> list[RunHandle]:
        """Its runs that are kept, the newest last."""
        return [each for each in Client(self.place.on).runs() if each.run.job == self.name]

    def load_all(self) -> None:
        """Each snapshot that is listed loads, and is what it is listed as."""
        snapshots, aside = self.runs()[-1].snapshots, self.directory / "pulled"
        found = snapshots.listing()
        steps = {step for _, step in complete(found.snapshots)}
        assert not found.silent and max(steps) >= self.steps, found
        for step in steps:
            snapshots.pull(step, to=aside)
        for manifest in snapshot_files.listed(aside):
            assert snapshot_files.load(aside, manifest)["step"] == manifest.step
            steps.remove(manifest.step)
        assert not steps

    def _submit(self, goal: int) -> RunHandle:
        """By a client of its own, which may be killed once the run is there."""
        settings = {"steps": goal, "epochs": None, "pause": self.place.pause, "disk": 10, "memory": 5}
        (self.directory / "train.py").write_text(SCRIPT.read_text())
        before = {run.id for run in self.runs()}
        words = ["run", *self.place.flags, "--name", self.name, "-e", "OMP_NUM_THREADS=1"]
        words += ["--resume"] if before else []
        how = self.random.choice(("detached", "detached", "its starter is killed", "its watcher is killed"))
        self._tell(f"run to {goal}{' --resume' if before else ''}, {how}")
        command = [COMMAND, *words, *(["-d"] if how != "its watcher is killed" else [])]
        said = self.directory / "client.log"
        with said.open("w") as log:
            client = subprocess.Popen(
                [*command, "train.py", json.dumps(settings)],
                cwd=self.directory,
                env={**os.environ, **self.place.variables},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            if how == "detached":
                assert client.wait(self.place.patience) == 0, said.read_text()

            def submitted() -> bool:
                gone = client.poll() is not None  # a short run may be over before it is looked for
                new = self._new(before)
                return len(new) == 1 and (gone or self.place.is_whole(new[0]))

            until(submitted, self.place.patience, f"{self.name}'s submission")
        finally:
            client.kill()
            client.wait()
        (handle,) = self._new(before)
        return handle

    def _new(self, before: set[str]) -> list[RunHandle]:
        return [each for each in self.runs() if each.id not in before]

    def _has_come_to(self, handle: RunHandle, step: int) -> bool:
        """Whether it has made so many steps, or all: a short life may be over before it is looked at."""
        status = handle.status()
        assert not status.has_ended or status.state == "succeeded", f"{status.reason}\n{story(handle)}"
        return status.state == "succeeded" or (status.step or 0) >= step

    def _break(self, handle: RunHandle, what: str) -> None:
        self._tell(f"{what} of {handle.id} at step {handle.status().step}")
        try:
            self.place.breaks[what](handle)
        except (ProcessLookupError, KeyError, ValueError, StopIteration, SwarmtrainError) as error:
            self._tell(f"too late: {error!r}")  # it has come to its end meanwhile

    def _look_through(self, handle: RunHandle, goal: int) -> None:
        """Nothing of the job is lost."""
        status = handle.status()
        found = handle.snapshots.verify()
        assert not found.damaged and not found.silent, found
        assert found.snapshots, f"{handle.id} has no snapshots\n{story(handle)}"
        newest = max(found.snapshots, key=lambda each: each.key)
        assert newest.step == max(each.step for each in found.snapshots), found
        assert newest.step >= self.steps, f"{newest.step} of {self.steps} steps\n{story(handle)}"
        if status.state == "succeeded":
            assert newest.step == goal, f"{newest.step} of {goal} steps\n{story(handle)}"
        self.steps = newest.step
        self.place.check_output(handle)

    def _remove_some(self) -> None:
        """Older runs go, also the newest one but never all: the numbers that they had may be given again."""
        runs = self.runs()
        if len(runs) > 1 and self.random.random() < 0.5:
            gone = self.random.choice(runs)
            self._tell(f"rm {gone.id}")
            gone.remove()

    def _tell(self, what: str) -> None:
        self.told.append(what)


def drawn(seed: int, directory: Path, places: Mapping[str, Place]) -> list[Job]:
    """Jobs by these names, each in a directory of its own, with a plan that is drawn from the seed and its name."""
    for name in places:
        (directory / name).mkdir()
    return [
        Job(name, directory / name, place, random.Random(f"{seed} {name}")) for name, place in places.items()
    ]


def live_for(seconds: float, jobs: Sequence[Job]) -> None:
    """The jobs live beside each other, one life at least; what they did is printed."""
    end = time.monotonic() + seconds

    def lives(job: Job) -> None:
        while job.lives == 0 or time.monotonic() < end:
            job.live()

    with ThreadPoolExecutor(len(jobs)) as pool:
        living = [pool.submit(lives, job) for job in jobs]
    for job in jobs:
        print(f"{job.name}, {job.lives} lives: {'; '.join(job.told)}")
    for each in living:
        each.result()
