"""Generations on one node, begun and ended in every order: nothing of an old one reaches a new one."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_fakes import agent_in

from swarmtrain.agent.worker_group import spawner, spawner_command
from swarmtrain.agent.worker_group.usage import ProcessUsage, Tree
from swarmtrain.protocol.from_agent import FromAgent, WorkerEnd, WorkerReport
from swarmtrain.protocol.to_agent import TO_AGENT
from swarmtrain.wire.disk.storage import Storage
from swarmtrain.wire.machine.processes import began, halted

# In place of a spawner: it says that workers run, and that they end when they are signalled. It ends them itself,
# all at once, when the test writes the number of a generation; it dies or stops when told so.
STAND_IN = """
import json, os, select, signal, socket, subprocess, sys
agent = socket.socket(fileno=int(os.environ["SWARMTRAIN_SPAWNER_FD"]))
heard, orders = open("heard", "a", buffering=1), os.open("orders", os.O_RDWR)
def tell(what, **fields):
    agent.sendall(json.dumps({what: fields}).encode() + b"\\n")
worker = subprocess.Popen(["cat"], stdin=subprocess.PIPE).pid  # goes with this one
tell("ready", torch=None, seconds=0, error=None)
lines, live = agent.makefile("r"), set()
os.set_blocking(agent.fileno(), True)
while True:
    for ready in select.select([agent, orders], [], [])[0]:
        if ready == orders:
            for order in os.read(orders, 100).decode().split():
                if order == "die":
                    os.kill(os.getpid(), signal.SIGKILL)
                if order == "stop":
                    os.kill(os.getpid(), signal.SIGSTOP)
                for key in sorted(live):
                    tell("exited", key=key, pid=worker, code=0, signal=None)
                live.clear()
            continue
        data = agent.recv(1 << 16)
        if not data:
            sys.exit()
        while not data.endswith(b"\\n"):
            data += agent.recv(1 << 16)
        for message in map(json.loads, data.splitlines()):
            (what, fields), = message.items()
            if what == "ping":
                tell("pong")
                continue
            print(what, fields["key"], file=heard)
            if what == "spawn":
                live.add(fields["key"])
                tell("started", key=fields["key"], pid=worker, start="cold", why=None)
            elif fields["key"] in live:
                live.remove(fields["key"])
                tell("exited", key=fields["key"], pid=worker, code=None, signal=fields.get("signal", 15))
"""


class Node:
    """An agent whose spawner is the stand-in, in a generation of one rank after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "stand_in.py").write_text(STAND_IN)
        self.agent = agent_in(path)
        self.group, self.said = self.agent.group, list[FromAgent]()
        assert self.group.directories is not None
        self.group.directories.lay_out((), "token")
        self.group._prepared.set()
        self.agent.uplink.post = self.said.append  # type: ignore[method-assign, assignment]

    def order(self, **message: Any) -> None:
        self.agent.session.hear(TO_AGENT.load(message))

    def start(self, g: int) -> None:
        master = {"node": "a", "address": "127.0.0.1", "port": 1}
        part = {"ranks": [0], "group_rank": 0, "nodes": 1, "world_size": 1, "backend": "gloo"}
        self.order(start={"g": g, "master": master, **part})

    def stop(self, g: int, how: str = "kill", grace: float = 0.0) -> None:
        self.order(stop={"g": g, "grace": grace, "how": how})

    def tell_spawner(self, word: str) -> None:
        with (self.path / "orders").open("r+b", buffering=0) as orders:
            orders.write(word.encode() + b" ")

    async def until_running(self) -> None:
        await self.until(lambda: any(each.state == "running" for each in self.group._workers.states.values()))

    async def until(self, holds: Callable[[], object]) -> None:
        async def look() -> None:
            while not holds():
                await asyncio.sleep(0.001)

        await asyncio.wait_for(look(), 10)

    def signalled(self) -> set[str]:
        """The workers that the spawner was asked to signal."""
        lines = (self.path / "heard").read_text().splitlines()
        return {line.split()[1] for line in lines if not line.startswith("spawn")}


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    monkeypatch.setattr(
        spawner_command, "entrance", lambda what: [sys.executable, str(tmp_path / "stand_in.py")]
    )
    os.mkfifo(tmp_path / "orders")
    yield Node(tmp_path)
    Storage(tmp_path).clear_memory("t.1")


def test_a_stop_that_is_read_together_with_the_next_start_does_not_reach_it(node: Node) -> None:
    async def act() -> None:
        await node.group.open()
        node.start(1)
        await node.until_running()
        node.tell_spawner("1")
        await node.until(lambda: node.group.idle)
        node.stop(1, grace=0.02)  # the failure of another rank was heard late
        node.start(2)
        await node.until_running()
        await asyncio.sleep(0.1)
        assert (node.group.generation, node.group.idle) == (2, False)
        node.stop(2)
        await node.until(lambda: node.group.idle)
        await node.group.close()
        assert node.signalled() == {"g2-r0"}

    asyncio.run(act())


def _late(node: Node, g: int, chance: random.Random) -> list[Callable[[], None]]:
    """Orders and questions of a generation that is over, in any order, some of them twice."""
    return chance.sample(
        [
            *[lambda: node.stop(g, "term", chance.choice([0.0, 0.001]))] * 2,
            lambda: node.stop(g, "kill"),
            lambda: node.order(pause={"g": g, "on": chance.random() < 0.5}),
            lambda: node.order(stacks={"g": g}),
            lambda: node.start(g),
        ],
        chance.randint(0, 6),
    )


def test_no_order_of_an_older_generation_reaches_a_newer_one_in_any_schedule(node: Node) -> None:
    chance = random.Random(18)

    async def act() -> None:
        await node.group.open()
        stopped: list[str] = []
        for g in range(1, 40):
            late = _late(node, g - 1, chance) if g > 1 else []
            late.insert(chance.randint(0, len(late)), lambda: node.start(g))  # noqa: B023 - called at once
            for order in late:
                order()
                if chance.random() < 0.3:  # else they are read together
                    await asyncio.sleep(0)
            await node.until_running()
            assert node.group.generation == g
            if chance.random() < 0.5:
                stopped.append(f"g{g}-r0")
                node.stop(g, chance.choice(["term", "save", "kill"]))
            else:
                node.tell_spawner(str(g))
            await node.until(lambda: node.group.idle)
        await node.group.close()
        assert node.signalled() == set(stopped)
        ends = {said.generation: said.end for said in node.said if isinstance(said, WorkerReport)}
        assert [f"g{g}-r0" for g, end in ends.items() if end is not None and end.signal] == stopped

    asyncio.run(act())


def test_a_generation_whose_end_is_ordered_before_it_began_never_begins(node: Node) -> None:
    async def act() -> None:
        node.start(1)  # there is no spawner yet
        node.stop(1, "term", 30.0)
        assert node.group.idle
        await node.group.open()
        node.start(2)
        await node.until_running()
        node.stop(2)
        await node.until(lambda: node.group.idle)
        await node.group.close()
        assert (node.path / "heard").read_text().splitlines()[0] == "spawn g2-r0"

    asyncio.run(act())


def test_a_generation_that_was_given_up_before_it_began_is_not_begun_by_a_late_word(node: Node) -> None:
    async def act() -> None:
        await node.group.open()
        node.group._prepared.clear()  # a slow disk
        node.start(1)
        node.stop(1)
        node.order(pause={"g": 1, "on": False})  # said to whoever joins again
        node.group._prepared.set()
        await asyncio.sleep(0.01)
        node.start(2)
        await node.until_running()
        node.stop(2)
        await node.until(lambda: node.group.idle)
        await node.group.close()
        assert (node.path / "heard").read_text().splitlines()[0] == "spawn g2-r0"

    asyncio.run(act())


def test_a_spawner_that_dies_takes_its_own_generation_along_and_the_next_one_gets_another(node: Node) -> None:
    async def act() -> None:
        await node.group.open()
        for g in (1, 2):
            node.start(g)
            await node.until_running()
            node.tell_spawner("die")
            await node.until(lambda: node.group.idle)
            end = node.group._workers.states[0].end
            assert node.group.generation == g
            assert end == WorkerEnd(None, 9, why="with the process that starts the workers")
        notes = json.dumps(node.agent.uplink._notes)
        assert notes.count("was killed by SIGKILL; it is started again") == 2
        node.start(3)
        await node.until_running()
        node.tell_spawner("3")
        await node.until(lambda: node.group.idle)
        assert node.group._workers.states[0].end == WorkerEnd(0, None)
        await node.group.close()

    asyncio.run(act())


@pytest.mark.parametrize("wanted", ["a worker", "its end"])
def test_a_spawner_that_stands_still_when_it_is_wanted_is_replaced(
    node: Node, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    monkeypatch.setattr(spawner, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(spawner, "_STILL_SECONDS", 0.1)

    async def act() -> None:
        await node.group.open()
        node.start(1)
        await node.until_running()
        node.tell_spawner("stop")
        stopped = node.group.spawner._life
        await node.until(lambda: stopped and halted(stopped._process.pid))
        await asyncio.sleep(0.3)
        assert not node.group.idle  # its workers train on: nothing is wanted of it
        node.stop(1)
        if wanted == "its end":
            await node.group.close()
        else:
            await node.until(lambda: node.group.idle)
            end = node.group._workers.states[0].end
            assert end is not None and end.why == "with the process that starts the workers"
            assert "showed no sign of life" in json.dumps(node.agent.uplink._notes)
            node.start(2)
            await node.until_running()
            node.stop(2)
            await node.until(lambda: node.group.idle)
            await node.group.close()
        assert stopped and not began(stopped._process.pid)

    asyncio.run(act())


def test_a_spawner_that_does_not_answer_is_let_work_as_long_as_it_does(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It imports torch from a slow disk, say."""
    reads, looks = True, list[int]()

    def used(pid: int, without: object) -> Tree:
        looks.append(pid)
        return {pid: ProcessUsage({pid: 0}, len(looks) if reads else 0)}

    monkeypatch.setattr(spawner, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(spawner, "_STILL_SECONDS", 0.05)
    monkeypatch.setattr(spawner, "tree", used)

    async def act() -> None:
        nonlocal reads
        await node.group.open()
        node.start(1)
        await node.until_running()
        node.tell_spawner("stop")
        life = node.group.spawner._life
        await node.until(lambda: life and halted(life._process.pid))
        node.stop(1)
        await node.until(lambda: len(looks) > 30)
        assert not node.group.idle
        reads = False
        await node.until(lambda: node.group.idle)
        await node.group.close()

    asyncio.run(act())


def test_a_spawner_that_cannot_be_kept_alive_is_a_trouble_of_its_node(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spawner, "_AGAIN_SECONDS", 0.001)
    (node.path / "stand_in.py").write_text("import sys; sys.exit(3)")

    async def act() -> None:
        await node.group.open()
        await asyncio.wait_for(node.agent.uplink.troubled.wait(), 10)
        await node.group.close()

    asyncio.run(act())


def test_a_node_that_rests_grows_by_nothing_over_generations(node: Node) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def act() -> None:
        await node.group.open()
        counts = []
        for g in range(1, 30):
            node.start(g)
            await node.until_running()
            node.tell_spawner(str(g))
            await node.until(lambda: node.group.idle)
            counts.append((descriptors(), len(asyncio.all_tasks()), len(node.group.delivery.tails._tails)))
        assert min(counts[10:]) <= max(counts[:10])  # what grows does so in each
        memory = node.group.directories.memory if node.group.directories else Path()
        assert [path.name for path in memory.glob("*.pulse")] == ["g29-r0.pulse"]
        await node.group.close()

    asyncio.run(act())
