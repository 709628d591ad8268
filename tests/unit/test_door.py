"""The coordinator's door, with real sockets: strangers keep nobody out, and who is inside can only hurt himself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import virtual_time
from virtual_time import now

from swarmtrain.agent.services import files as files_helper
from swarmtrain.coordinator.agents.connections import AgentConnections
from swarmtrain.coordinator.clients import actions
from swarmtrain.coordinator.clients.requests import ClientRequests
from swarmtrain.coordinator.core.model import Phase
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.coordinator.store.metrics import MetricsStore
from swarmtrain.coordinator.store.output import Filter, OutputStore, Reader
from swarmtrain.coordinator.store.run_paths import RunPaths
from swarmtrain.protocol.facts import Outcome
from swarmtrain.protocol.journal.events import NodeJoined
from swarmtrain.protocol.journal.remarks import StrangerRefused, Warned
from swarmtrain.wire import door, frames, names
from swarmtrain.wire.channel import Channel, accept, initiate
from swarmtrain.wire.disk.records import RecordsReader
from swarmtrain.wire.disk.storage import Storage
from swarmtrain.wire.run_spec import RunSecret, RunSpec
from swarmtrain.wire.sockets import dial, serve

Scene = Callable[["House"], Awaitable[None]]
Make = Callable[[int], RunController]


class House:
    """A run's coordinator on a port of its own, and those who come to it."""

    def __init__(self, run: RunController, port: int) -> None:
        self.run, self.port = run, port
        self.opened: list[Channel] = []

    async def stranger(self, address: str = "127.0.0.1") -> Channel:
        """Somebody who connects from a loopback address and says nothing."""
        streams = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(address, 0))
        self.opened.append(Channel(*streams))
        return self.opened[-1]

    async def agent(self, node: str = "a", **said: Any) -> Channel:
        """An agent that has joined."""
        channel = await self.stranger()
        await initiate(channel, self.run.secret.token)
        await channel.send({"join": JOIN | {"node": node, "node_id": node, "incarnation": node} | said})
        return channel


JOIN: dict[str, Any] = dict(
    [
        *(("role", "agent"), ("slot", 0), ("workers", 1), ("gpus", 0), ("backend", "gloo")),
        *(("address", "10.0.0.1"), ("interface", "eth0"), ("why", "a test"), ("port", 20_000)),
        *(("time", time.time()), ("generation", 0), ("states", []), ("idle", True)),
        *(("warm", True), ("leaving", False), ("journal", 0), ("moved", 0)),
    ]
)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes a run of so many nodes, and closes its files afterwards."""
    made: list[RunController] = []

    def run(nodes: int) -> RunController:
        task = RunSpec("t", "script", "train.py", nodes_min=nodes, nodes_max=nodes)
        place = RunPaths(Storage(tmp_path), "t.1", "t.1", "")
        place.path.mkdir(parents=True)
        made.append(RunController(task, RunSecret("t.1", "token"), place))
        return made[-1]

    yield run
    for each in made:
        for store in (each.journal, each.output, each.progress):
            store.close()


def play(run: RunController, scene: Scene) -> RunController:
    """One scene at the door of a run."""

    @contextlib.asynccontextmanager
    async def house() -> AsyncIterator[House]:
        server = await serve("127.0.0.1:0", AgentConnections(run, ClientRequests(run).attend).serve)
        made = House(run, server.sockets[0].getsockname()[1])
        try:
            yield made
        finally:
            for channel in made.opened:
                channel.abort()
            server.close()
            await asyncio.sleep(0.05)  # those who were inside see it

    async def act() -> None:
        async with house() as made:
            await scene(made)

    virtual_time.run(act())
    return run


@pytest.mark.parametrize("addresses", [1, 100])
def test_silent_strangers_keep_no_agent_out(
    make: Make, addresses: int, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scene(house: House) -> None:
        many = asyncio.Event()

        async def silence() -> None:
            for number in range(3000):  # while they come no time passes, so that no deadline lets anybody in
                await house.stranger(f"127.0.0.{number % addresses + 1}")
                if number == 200:
                    many.set()

        crowd = asyncio.ensure_future(silence())
        await many.wait()
        for node in ("a", "b", "c"):
            welcome = await (await house.agent(node)).receive()
            assert welcome is not None and "welcome" in welcome
        assert not crowd.done()
        crowd.cancel()

    run = play(make(3), scene)
    assert len(run.journal.all(NodeJoined)) == 3
    assert len(run.journal.all(StrangerRefused)) == 1
    assert capsys.readouterr().err.count("refused") == 1  # hundreds were


@pytest.mark.parametrize("words", [0, 1, 2])
def test_one_deadline_holds_for_all_that_comes_before_the_join(
    make: Make, monkeypatch: pytest.MonkeyPatch, words: int
) -> None:
    monkeypatch.setattr(door, "OPENING_SECONDS", 0.4)

    async def scene(house: House) -> None:
        stranger = await house.stranger()
        began = now()
        await asyncio.sleep(0.3)
        if words == 1:
            await stranger.send({"swarmtrain": names.PROTOCOL_VERSION, "nonce": "00"})
            assert await stranger.receive() is not None
        elif words == 2:  # one that knows the token, and then has nothing to say
            await initiate(stranger, house.run.secret.token)
        assert await stranger.receive() is None
        assert now() - began == pytest.approx(0.4, abs=0.01)

    play(make(1), scene)


def test_who_has_to_make_room_as_he_comes_in_is_turned_away_like_all_others(
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def crowded(channel: Channel, token: str, *, readers: bool = False) -> None:
        await accept(channel, token, readers=readers)
        await asyncio.sleep(0.1)  # what he says first is here
        channel.abort()
        await asyncio.sleep(0.1)

    monkeypatch.setattr(door, "accept", crowded)

    async def scene(house: House) -> None:
        assert await (await house.agent()).receive() is None
        await asyncio.sleep(1)

    assert play(make(1), scene).journal.all(NodeJoined) == []
    assert "refused" in capsys.readouterr().err and "Unhandled" not in caplog.text


def test_many_processes_of_one_machine_come_in_at_once(tmp_path: Path, make: Make) -> None:
    """By a Unix socket, where no stranger can be, nobody is turned away for coming with others."""
    run = make(24)

    async def act() -> None:
        server = await serve(
            f"unix:{tmp_path / 'agents'}", AgentConnections(run, ClientRequests(run).attend).serve
        )
        channels = [Channel(*await dial(f"unix:{tmp_path / 'agents'}")) for _ in range(24)]
        await asyncio.gather(*(initiate(channel, run.secret.token) for channel in channels))
        for index, channel in enumerate(channels):
            node = {"node": f"n{index}", "node_id": f"n{index}", "incarnation": f"n{index}"}
            await channel.send({"join": JOIN | node})
            assert await channel.receive() is not None
        for channel in channels:
            channel.abort()
        server.close()
        await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(act(), 20))
    assert len(run.journal.all(NodeJoined)) == 24


@pytest.mark.parametrize(
    "said",
    [
        {"worker": 5},
        {"worker": {"g": 1}},
        {"beat": "noon", "pulses": []},
        {"beat": 1.0, "pulses": [[1, 0], [1, 1]]},
        {"beat": 1.0, "pulses": 3},
        {"output": {"g": 1, "r": 0, "o": "here", "t": 1.0, "d": "x"}},
        {"output": {"g": 1, "r": 0, "o": 0, "t": 1.0, "d": None}},
        {"metrics": {"g": [], "r": 0, "o": 0, "d": "{}"}},
        {"stacks": []},
        {"note": {"kind": "note"}},
        {"nothing": "of the kind"},
        {"reply": {}},
    ],
)
def test_an_agent_that_talks_nonsense_loses_its_connection_and_nothing_else(
    make: Make, said: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    async def scene(house: House) -> None:
        good = await house.agent("good")
        mad = await house.agent("mad")
        while (message := await good.receive()) is not None and "start" not in message:
            pass
        await mad.send(said)
        while await mad.receive() is not None:
            pass
        assert house.run.members.connected["good"].channel is not None
        assert house.run.phase is Phase.RUNNING

    play(make(2), scene)
    assert "refused a connection from 127.0.0.1: the agent on mad sent" in capsys.readouterr().err


@pytest.mark.parametrize("field", ["node", "slot", "workers", "idle", "time"])
def test_who_joins_without_saying_who_he_is_does_not_come_in(make: Make, field: str) -> None:
    async def scene(house: House) -> None:
        assert await (await house.agent(**cast(dict[str, Any], {field: None}))).receive() is None

    run = play(make(1), scene)
    assert not run.members.connected
    refused = run.journal.all(StrangerRefused)[0].text
    assert f"an agent joined without saying who it is: join.{field}" in refused


def test_a_frame_that_is_too_large_is_not_read(make: Make) -> None:
    async def scene(house: House) -> None:
        agent = await house.agent()
        assert await agent.receive() is not None
        agent._writer.write((frames.MAX_FRAME + 1).to_bytes(4, "big"))
        while await agent.receive() is not None:
            pass
        assert house.run.members.connected["a"].channel is None

    play(make(2), scene)


def test_a_helper_that_nobody_asks_says_little_and_goes(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It once took the answer to its beat for a question, and asked on for ever."""
    monkeypatch.setattr(files_helper, "_IDLE_SECONDS", 0.5)
    monkeypatch.setattr(files_helper, "_BEAT_SECONDS", 0.1)

    async def scene(house: House) -> None:
        actions.refuse(house.run, "this run is over")
        heard: list[float] = []
        monkeypatch.setattr(house.run.incidents, "look_for_steps", lambda _: heard.append(now()))
        began = now()
        env = {
            names.ENV_COORDINATOR: f"127.0.0.1:{house.port}",
            names.ENV_NODE: "lab-2",
            names.ENV_STORAGE: str(tmp_path),
        }
        assert await files_helper._serve(RunSecret("t.1", house.run.secret.token), env) == 0
        assert now() - began == pytest.approx(0.5, abs=0.05)
        assert 3 <= len(heard) <= 8

    play(make(1), scene)


def test_what_an_agent_has_delivered_to_another_connection_is_asked_again(make: Make) -> None:
    """This coordinator may have lost what it had, or be another one."""

    async def scene(house: House) -> None:
        run = house.run
        first = await house.agent("a")
        await first.send({"drained": 0})
        while "start" not in (await first.receive() or {}):
            pass
        first.abort()
        exited = {"g": 1, "rank": 0, "state": "exited", "code": 0, "signal": None, "t": 1.0}
        again = await house.agent("a", generation=1, states=[exited])
        await again.send({"idle": {"g": 1, "port": 1}})
        await again.send({"drained": 0})
        await again.send({"beat": 1.0, "pulses": []})
        while "beat" not in (await again.receive() or {}):
            pass
        assert run.current.over() and run.phase is Phase.RUNNING
        await again.send({"output": {"g": 1, "r": 0, "o": 0, "d": "its last line\n"}})
        await again.send({"drained": 1})
        while "end" not in (await again.receive() or {}):
            pass
        assert run.output.offsets == {(1, 0): 14}

    assert play(make(1), scene).state.outcome is Outcome.SUCCEEDED


LONG = "line " * 9 + "ends\n"


def test_what_a_full_disk_does_not_take_is_asked_for_again_and_not_acknowledged(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    async def scene(house: House) -> None:
        agent = await house.agent("a")

        async def tell(kind: str, rank: int, text: str, offset: int = 0) -> dict[str, Any]:
            await agent.send({kind: {"g": 1, "r": rank, "o": offset, "d": text}})
            while not (answer := await agent.receive() or {"ack": None}).keys() & {"ack", "later"}:
                pass
            return answer

        def known(kind: str, rank: int, offset: int) -> dict[str, Any]:
            return {"ack": {"kind": kind, "g": 1, "r": rank, "o": offset}}

        many = LONG * 30_000
        assert await tell("output", 0, "first\n") == known("output", 0, 6)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            for _ in range(2):
                for rank, offset in ((0, 6), (1, 0)):
                    later = {"later": {"kind": "output", "g": 1, "r": rank}}
                    assert await tell("output", rank, many, offset) == later
                assert await tell("metrics", 0, '{"kind":"step","step":3}\n') == {
                    "later": {"kind": "metrics", "g": 1, "r": 0}
                }
        for rank, offset in ((0, 6), (1, 0)):
            assert await tell("output", rank, many, offset) == known("output", rank, offset + len(many))
        assert await tell("metrics", 0, '{"kind":"step","step":3}\n') == known("metrics", 0, 25)

    run = play(make(2), scene)
    texts = [(line.rank, line.text) for line in Reader(run.output.path, Filter()).lines()]
    assert texts == [(0, "first"), *30_000 * [(0, LONG[:-1])], *30_000 * [(1, LONG[:-1])]]
    assert [record["step"] for record in RecordsReader(run.progress.path).read(9)] == [3]
    assert len([warned for warned in run.journal.all(Warned) if "disk" in warned.text]) == 1


def test_an_agent_hears_how_much_is_known_of_its_own_node(make: Make) -> None:
    """What is known of all nodes and generations may be more than a message has room for."""

    async def scene(house: House) -> None:
        for rank, node in enumerate(("a", "b")):
            agent = await house.agent(node)
            for kind, text in (("output", "a line\n"), ("metrics", "{}\n")):
                await agent.send({kind: {"g": 1, "r": rank, "o": 0, "d": text}})
                while "ack" not in (await agent.receive() or {"ack": None}):
                    pass
        welcome = cast(Any, await (await house.agent("b")).receive())["welcome"]
        assert welcome["offsets"] == [["output", 1, 1, 7], ["metrics", 1, 1, 3]]

    run = play(make(2), scene)
    for store in (OutputStore(run.output.path), MetricsStore(run.progress.path, time.time)):
        with contextlib.closing(store):
            assert store.offsets_of("b").keys() == {(1, 1)}
