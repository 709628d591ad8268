"""Lives of runs, one after the other and beside each other, by a plan that is drawn from a seed.

What tests of single faults do not see is what is left to the next run: numbers, snapshots, directories, processes. So a
job is submitted, broken, stopped, resumed, removed and resumed again, by clients that die and with clocks that jump;
and after each life everything of the job that is listed must be there.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from healed import SCRIPT, reach, story
from healed_local import agent_of, check_output, worker_of
from waiting import until

from swarmtrain import Client
from swarmtrain.control.handle import RunHandle
from swarmtrain.errors import SwarmtrainError

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


@dataclass
class Job:
    """One job's lives.

    Attributes:
        steps: that the training has come to, at least: no life may end with fewer.
        told: what was done so far, for the message of a failed test.
    """

    name: str
    directory: Path
    home: Path
    random: random.Random
    clock: Clock | None = None
    steps: int = 0
    lives: int = 0
    told: list[str] = field(default_factory=list)

    def live(self) -> None:
        """One life: submitted or resumed, broken or left alone, ended, looked through, and some older ones removed."""
        draw, goal = self.random, self.steps + self.random.choice((30, 60))
        handle = self._submit(goal)
        reach(handle, self.steps + 8, 120)
        if draw.random() < 0.7:
            self._break(handle, draw.choice(("worker", "agent", "coordinator", "clock")))
        if draw.random() < 0.3:
            self._tell(f"stop {handle.id}")
            handle.stop()
            assert handle.status()["state"] in ("stopped", "succeeded"), story(handle)
        else:
            result = handle.wait(180)
            assert result.state == "succeeded", f"{result.reason}\n{story(handle)}"
        self._look_through(handle, goal)
        self._remove_some()
        self.lives += 1

    def _submit(self, goal: int) -> RunHandle:
        """By a client of its own, which may be killed once the run is there."""
        settings = {"steps": goal, "epochs": None, "pause": 0.03, "disk": 10, "memory": 5}
        (self.directory / "train.py").write_text(SCRIPT.read_text())
        before = {run.id for run in self._runs()}
        words = ["run", "--on", "local", "--name", self.name, "-j", "2x1", "-e", "OMP_NUM_THREADS=1"]
        words += ["--resume"] if before else []
        how = self.random.choice(("detached", "detached", "its starter is killed", "its watcher is killed"))
        self._tell(f"run to {goal}{' --resume' if before else ''}, {how}")
        command = [COMMAND, *words, *(["-d"] if how != "its watcher is killed" else [])]
        clock = self.clock.variables if self.clock is not None else {}
        client = subprocess.Popen(
            [*command, "train.py", json.dumps(settings)],
            cwd=self.directory,
            env=os.environ | clock,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

        def submitted() -> bool:
            if how == "detached":
                output = client.communicate(timeout=90)[0]
                assert client.returncode == 0, output.decode(errors="replace")
            # on a busy machine a short run may be over before it is looked for
            ended = client.poll() is not None
            return len({run.id for run in self._runs()} - before) == 1 and (
                ended or "" in self._newest_roots(before)
            )

        until(submitted, 90, f"{self.name}'s submission")
        handle = self._new(before)
        until(lambda: len(handle.launcher.roots(handle.run)) == 3 or client.poll() is not None, 30, "3 roots")
        if how != "detached":
            client.send_signal(signal.SIGKILL)
            client.communicate()
        return handle

    def _new(self, before: set[str]) -> RunHandle:
        (handle,) = (each for each in self._runs() if each.id not in before)
        return handle

    def _newest_roots(self, before: set[str]) -> dict[str, int]:
        handle = self._new(before)
        return dict(handle.launcher.roots(handle.run))

    def _break(self, handle: RunHandle, what: str) -> None:
        self._tell(f"{what} of {handle.id} at step {handle.status().get('step')}")
        try:
            if what == "worker":
                os.kill(worker_of(handle, 1), signal.SIGKILL)
            elif what == "agent":
                os.kill(agent_of(handle, "node1"), signal.SIGKILL)
            elif what == "coordinator":
                os.kill(agent_of(handle, ""), signal.SIGKILL)
            elif self.clock is not None:
                self.clock.jump(self.random.choice((-3600.0, 3600.0)))
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
        if status["state"] == "succeeded":
            assert newest.step == goal, f"{newest.step} of {goal} steps\n{story(handle)}"
        self.steps = newest.step
        check_output(self.home, handle)

    def _remove_some(self) -> None:
        """Older runs go, also the newest one but never all: the numbers that they had may be given again."""
        runs = self._runs()
        if len(runs) > 1 and self.random.random() < 0.5:
            gone = self.random.choice(runs)
            self._tell(f"rm {gone.id}")
            gone.remove()

    def _runs(self) -> list[RunHandle]:
        return [each for each in Client("local").runs() if each.run.job == self.name]

    def _tell(self, what: str) -> None:
        self.told.append(what)
