"""Kills at random moments, while checkpoints of all kinds are written on nodes that share no disk.

What each rank finds at the start of each generation is whole, of one step, the same everywhere, and no older than what
was complete when it was broken, less the moment in which a checkpoint comes to rest and is copied.
"""

from __future__ import annotations

import json
import math
import os
import random
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from healed import story
from healed_local import agent_of, lose
from waiting import check_nothing_left, until

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle
from swarmtrain.job import Restart
from swarmtrain.launchers.local import LocalLauncher
from swarmtrain.wire.machine.processes import descendants, kill_all

SCRIPT = Path(__file__).parent / "scripts" / "checkpoints.py"
RUN = 12  # kills of one run, of which the last takes a node with its disk
# Seconds in which what is complete comes to rest and is known for that; where its disk is lost, has been copied, too.
# More on a machine that has more to do than it can.
RESTS, COPIED = 5.0, 8.0

Found = Mapping[str, int]  # the newest step of each kind


@dataclass
class Ledger:
    """What was complete, and what was found: kept by the script."""

    directory: Path
    floor: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("starts", "parts"):
            (self.directory / name).mkdir(parents=True)
        (self.directory / "began").write_text(str(time.time()))
        (self.directory / "complete").touch()

    def starts(self, generation: str) -> list[dict[str, Any]]:
        paths = (self.directory / "starts").glob(f"{generation}-r*.json")
        return [json.loads(path.read_text()) for path in paths]

    def complete(self, generation: str, ago: float) -> dict[str, int]:
        """The newest step of each kind that was complete some time ago, and had not been written over so soon."""
        found, latest = dict(self.floor), time.time() - ago
        lines = [line.split() for line in (self.directory / "complete").read_text().splitlines()]
        mine = [(float(when), kind, int(step)) for when, kind, step, its in lines if its == generation]
        for number, (when, kind, step) in enumerate(mine):
            over = next((each for each, its, new in mine[number:] if its == kind and not new), math.inf)
            if when <= latest and over - when >= ago:
                found[kind] = max(found.get(kind, 0), step)
        return found

    def check(self, generation: str, least: Mapping[str, int], what: str) -> None:
        """What a generation has found, after what had happened."""
        starts = self.starts(generation)
        wrong = [each["wrong"] for each in starts if each["wrong"]]
        assert not wrong, f"{generation}, after {what}: {wrong}"
        # A log is brought as it is, from whoever is there, and not where a node has written its own: it is in order.
        found = [{kind: step for kind, step in each["found"].items() if kind != "log"} for each in starts]
        least = {kind: step for kind, step in least.items() if kind != "log"}
        assert all(each == found[0] for each in found), f"{generation}, after {what}: ranks differ: {found}"
        old = {kind: (found[0][kind], step) for kind, step in least.items() if found[0][kind] < step}
        assert not old, f"{generation}, after {what}: an older one than the newest complete: {old}"
        self.floor = found[0]


class Scene:
    """Runs of the script, one after the other, on the same nodes."""

    def __init__(self, directory: Path, home: Path, nodes: int, seed: str) -> None:
        self.directory, self.home, self.nodes = directory, home, nodes
        self.draw = random.Random(seed)
        self.stop = directory / "stop"
        self.ledger = Ledger(directory / "ledger")
        (directory / "checkpoints.py").write_text(SCRIPT.read_text())
        self.handle: RunHandle | None = None
        self.killed = 0
        self.last = ""  # the generation that has begun last

    def live(self, kills: int) -> None:
        """One run, from what the one before it has left, with so many kills."""
        least, again = dict(self.ledger.floor), self.handle is not None
        if again:
            least = self.ledger.complete(self.last, 0.0)
        self.stop.unlink(missing_ok=True)
        job = Job(
            name="kills",
            script="checkpoints.py",
            files=("checkpoints.py",),
            args=(str(self.ledger.directory), str(self.stop)),
            nodes=f"1..{self.nodes}",
            workers_per_node=1,
            start="cold",
            share="auto",
            restart=Restart(max=100),
        )
        self.handle = Client(on="local").run(job, resume=again)
        what = "a run that ended well" if again else "nothing"
        for number in range(kills + 1):
            self.begun(self.handle, least, what)
            if number < kills:
                time.sleep(self.draw.uniform(0.0, 10.0))
                what, slack = self.hit(self.handle, last=number == kills - 1)
                crowd = min(6.0, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))
                least = self.ledger.complete(self.last, slack * crowd)
                self.killed += 1
        time.sleep(self.draw.uniform(0.0, 3.0))
        self.stop.touch()
        assert self.handle.wait(timeout=60).state == "succeeded", story(self.handle)
        check_nothing_left(self.directory, self.home)

    def begun(self, handle: RunHandle, least: Mapping[str, int], what: str) -> None:
        """All ranks of the next generation have looked at what they find."""

        def is_there() -> bool:
            status = handle.status()
            assert status.state in ("starting", "running", "stopping"), f"{status.reason}\n{story(handle)}"
            generation = f"{handle.id}-g{status.generation}"
            starts = self.ledger.starts(generation)
            if generation == before or not starts or len(starts) < starts[0]["world"]:
                return False
            self.last = generation
            return True

        before = self.last
        until(is_there, 150, "the next generation")  # one node alone that is cut off is given up after 90
        self.ledger.check(self.last, least, what)

    def hit(self, handle: RunHandle, *, last: bool) -> tuple[str, float]:
        """Break something; in words, and in what time what is complete survives it."""
        workers = handle.status().workers
        if last:
            lose(self.home, handle, workers[0].node)
            return f"the loss of {workers[0].node}", COPIED
        victim = self.draw.choice(workers)
        how = self.draw.choice(["worker", "worker", "agent", "node", "coordinator and worker"])
        if how == "agent":
            os.kill(agent_of(handle, victim.node), signal.SIGKILL)
        elif how == "node":
            kill_all(descendants(LocalLauncher().roots(handle.run)[victim.node]))
        else:
            if how != "worker":
                os.kill(agent_of(handle, ""), signal.SIGKILL)
            assert victim.pid is not None
            os.kill(victim.pid, signal.SIGKILL)
        return f"the kill of {how}, of rank {victim.rank}", RESTS


@pytest.mark.parametrize(
    ("nodes", "kills"),
    [
        pytest.param(2, 3, id="2x1"),
        pytest.param(2, 50, id="2x1, 50 kills", marks=pytest.mark.long),
        pytest.param(3, 50, id="3x1, 50 kills", marks=pytest.mark.long),
    ],
)
@pytest.mark.timeout(3600)
def test_what_is_found_after_a_kill_is_whole_and_the_newest(
    home: Path, tmp_path: Path, nodes: int, kills: int
) -> None:
    scene = Scene(tmp_path, home, nodes, os.environ.get("SWARMTRAIN_TEST_SEED", "5"))
    while scene.killed < kills:
        scene.live(min(RUN, kills - scene.killed))
