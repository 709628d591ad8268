"""What an agent says on its connection to the coordinator; the coordinator is a stand-in on a socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import virtual_time
from agent_fakes import agent_in

from swarmtrain.agent import agent as agent_module
from swarmtrain.agent import session
from swarmtrain.agent.agent import Agent
from swarmtrain.agent.choices import Settings, choose
from swarmtrain.agent.journal_copy import JournalCopy
from swarmtrain.agent.run_directories import RunDirectories
from swarmtrain.agent.services import requests
from swarmtrain.agent.session import ended_here
from swarmtrain.agent.uplink import Uplink
from swarmtrain.agent.worker_group import tails
from swarmtrain.agent.worker_group.workers import Workers
from swarmtrain.coordinator.agents.connections import AgentConnections
from swarmtrain.coordinator.clients.requests import ClientRequests
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.coordinator.store.run_paths import RunPaths
from swarmtrain.errors import ChannelError
from swarmtrain.protocol.facts import MasterAddress
from swarmtrain.protocol.from_agent import TroubleReport, WorkerEnd, WorkerReport
from swarmtrain.protocol.to_agent import TO_AGENT, StartWorkers, ToAgent
from swarmtrain.wire import sockets
from swarmtrain.wire.channel import Channel, accept
from swarmtrain.wire.disk.storage import Storage
from swarmtrain.wire.machine.processes import halted
from swarmtrain.wire.pulse import Activity, Pulse
from swarmtrain.wire.run_spec import RunSecret, RunSpec

WELCOME = {
    "run": "t.1",
    "node": "a",
    "directory": "t.1",
    "lineage": "t.1",
    "lineage_owner": "",
    "offsets": [],
    "generation": 1,
    "moved": 0,
}


class Scene:
    """An agent, and a coordinator that reads its join, lets things happen, and welcomes it."""

    def __init__(self, path: Path) -> None:
        self.address = f"{sockets.UNIX}{path / 'socket'}"
        self.agent = agent_in(path, self.address)
        self.directories = RunDirectories(Storage(path), "t.1", "t.1", "a")

    async def session(
        self, meanwhile: Callable[[Agent], None], answer: dict[str, Any] | None = None, until: str = "reply"
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """What the agent says when it joins, and what after it was answered: welcomed, if nothing else is given.

        Args:
            until: the last word that is waited for. Without one it is the answer to a question, behind which nothing
                follows that was to be said at once.
        """
        joins: list[dict[str, Any]] = []
        heard: list[dict[str, Any]] = []

        async def play(channel: Channel, join: dict[str, Any]) -> None:
            joins.append(join)
            meanwhile(self.agent)
            await channel.send(answer or {"welcome": WELCOME})
            if until == "reply":
                await channel.send({"list": {"path": "nothing"}, "id": 1})
            while not heard or heard[-1].get(until, False) is False:
                heard.append(await said(channel))

        await self.meet(play)
        return joins[0], heard

    async def meet(self, play: Callable[[Channel, dict[str, Any]], Awaitable[None]]) -> None:
        """One session; the coordinator plays its part once the agent has said what it says to join."""
        played: list[asyncio.Future[None]] = []

        async def requests(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            channel = Channel(reader, writer)
            await accept(channel, "token")
            played.append(asyncio.ensure_future(play(channel, (await said(channel))["join"])))
            try:
                await asyncio.wait(played)
            finally:
                channel.abort()

        server = await sockets.serve(self.address, requests)
        await asyncio.wait_for(self.agent.session.once(), 20)
        server.close()
        played[0].result()


async def said(channel: Channel) -> dict[str, Any]:
    message = await channel.receive()
    assert message is not None
    return message


def workers_of(agent: Agent, generation: int, nodes: int = 1) -> Workers:
    """Workers as a start makes them."""
    return agent.group._workers_of(generation, nodes)


def running(g: int) -> WorkerReport:
    return WorkerReport(g, 0, "running", 1.0, pid=1)


def order(**message: Any) -> ToAgent:
    """What the coordinator says, as it comes over the wire."""
    return TO_AGENT.load(message)


def start(g: int) -> dict[str, Any]:
    master = {"node": "a", "address": "127.0.0.1", "port": 1}
    part = {"ranks": [0], "group_rank": 0, "nodes": 1, "world_size": 1, "backend": "gloo"}
    return {"g": g, "master": master, **part}


def test_a_worker_that_ends_while_its_agent_joins_is_not_forgotten(tmp_path: Path) -> None:
    scene = Scene(tmp_path)

    def worker_ends(agent: Agent) -> None:
        running = agent.group._workers.states[0]
        agent.group._workers.states[0] = replace(running, state="exited", end=WorkerEnd(1, None))
        agent.group._workers.done.set()
        agent.group._worker_changed(agent.group._workers.states[0])

    async def act() -> None:
        agent = scene.agent
        agent.group._workers = workers_of(agent, 3)
        agent.group._workers.states[0] = running(3)
        join, heard = await scene.session(worker_ends, until="drained")
        assert (join["idle"], join["generation"]) == (False, 3)
        assert join["states"][0]["state"] == "running"
        said = {kind: content for message in heard for kind, content in message.items()}
        assert (said["worker"]["state"], said["worker"]["code"]) == ("exited", 1)
        assert (said["idle"]["g"], said["drained"]) == (3, 3)

    asyncio.run(act())


@pytest.mark.parametrize("known", [0, 6, 12])
def test_an_agent_says_that_all_has_arrived_when_this_coordinator_has_it(tmp_path: Path, known: int) -> None:
    """One that was moved, or has lost what it had, does not have what the one before it had."""
    scene = Scene(tmp_path)
    scene.directories.output.mkdir(parents=True)
    (scene.directories.output / "g1-r0.out").write_text("first\nsecond")

    async def meet(known: int) -> list[str]:
        words: list[str] = []

        async def play(channel: Channel, join: dict[str, Any]) -> None:
            assert "drained" not in join
            offsets = [["output", 1, 0, known]] if known else []
            await channel.send({"welcome": WELCOME | {"offsets": offsets}})
            while "drained" not in words:
                message = await said(channel)
                words.append(kind := next(iter(message)))
                if kind == "output":
                    content = message["output"]
                    assert content["o"] == known and content["last"]
                    await channel.send({"list": {"path": "nothing"}, "id": 1})
                if kind == "reply":
                    await channel.send({"ack": {"kind": "output", "g": 1, "r": 0, "o": 12}})

        await scene.meet(play)
        return [word for word in words if word in ("output", "reply", "drained")]

    async def act() -> None:
        assert await meet(0) == ["output", "reply", "drained"]
        assert await meet(12) == ["drained"]
        assert await meet(known) == (["drained"] if known == 12 else ["output", "reply", "drained"])

    asyncio.run(act())


def test_what_the_coordinators_disk_did_not_take_is_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tails, "_LATER", 0.0)
    scene = Scene(tmp_path)
    scene.directories.output.mkdir(parents=True)
    (scene.directories.output / "g1-r0.out").write_text("first\nsecond")
    known = {"kind": "output", "g": 1, "r": 0, "o": 6}
    later: dict[str, Any] = {"later": {"kind": "output", "g": 1, "r": 0}}
    answers: list[dict[str, Any]] = [later, {"ack": known}, {"ack": known | {"o": 12}}]

    async def play(channel: Channel, join: dict[str, Any]) -> None:
        await channel.send({"welcome": WELCOME | {"offsets": [["output", 1, 0, 0]]}})
        while "drained" not in (message := await said(channel)):
            if "output" in message:
                sent.append((message["output"]["o"], message["output"]["d"]))
                await channel.send(answers.pop(0))
                if len(sent) == 2:
                    await channel.send(later)

    sent: list[tuple[int, str]] = []
    asyncio.run(scene.meet(play))
    assert sent == [(0, "first\nsecond"), (0, "first\nsecond"), (6, "second")]


def fetch(channel: Channel, number: int) -> Awaitable[None]:
    return channel.send({"fetch": {"path": "weights"}, "id": number})


def test_a_file_that_is_being_fetched_arrives_though_the_run_ends(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.directories.work.mkdir(parents=True)
    (scene.directories.work / "weights").write_bytes(bytes(20 << 20))

    async def play(channel: Channel, join: dict[str, Any]) -> None:
        await channel.send({"welcome": WELCOME})
        await fetch(channel, 1)
        await channel.send({"end": {"outcome": "succeeded"}})
        await asyncio.sleep(0)
        answer: dict[str, Any] = {}
        while "done" not in answer:
            answer = await said(channel)
            if "file" in answer:
                await fetch(channel, 2)
            assert not scene.agent.session.over.is_set()
            if answer.get("reply") == 1:
                await channel.send({"more": 1})
            elif answer.get("reply") == 2:  # the archive or a helper answers
                turned_away.append(answer["gone"])
        assert answer["done"]["bytes"] == 20 << 20
        await scene.agent.session.over.wait()

    turned_away: list[bool] = []
    asyncio.run(scene.meet(play))
    assert turned_away == [True]


def test_a_client_that_takes_nothing_more_holds_no_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "_TAKING", 0.05)
    scene = Scene(tmp_path)
    scene.directories.work.mkdir(parents=True)
    (scene.directories.work / "weights").write_bytes(bytes(20 << 20))

    async def play(channel: Channel, join: dict[str, Any]) -> None:
        await channel.send({"welcome": WELCOME})
        await fetch(channel, 1)
        await channel.send({"end": {"outcome": "succeeded"}})
        while not scene.agent.session.over.is_set():
            await asyncio.sleep(0.001)

    asyncio.run(scene.meet(play))


@pytest.mark.parametrize(
    ("owner", "known"), [("token", 1), ("of a run that was removed while this node was down", 0)]
)
def test_a_journal_that_a_run_of_the_same_id_has_left_is_not_handed_over(
    tmp_path: Path, owner: str, known: int
) -> None:
    Storage(tmp_path).adopt("t.1", "t.1", "a", RunSecret("t.1", owner).submission)
    event = {"seq": 1, "t": 1.0, "kind": "submitted", "text": "t.1 submitted"}
    (tmp_path / "runs" / "t.1" / "a" / "journal.jsonl").write_text(json.dumps(event) + "\n")

    async def act() -> None:
        _, heard = await Scene(tmp_path).session(lambda agent: None, {"salvage": True}, "done")
        assert sum(len(message["copy"]) for message in heard) == known

    asyncio.run(act())


@pytest.mark.parametrize("prepared", [False, True])
def test_an_agent_that_is_about_to_start_its_workers_is_not_idle(tmp_path: Path, prepared: bool) -> None:
    scene = Scene(tmp_path)

    async def act() -> None:
        agent = scene.agent
        if not prepared:  # its disk is slow
            agent.session.hear(order(start=start(4)))
        join, heard = await scene.session(lambda agent: None, until="drained" if prepared else "reply")
        assert join["idle"] is prepared
        assert any("idle" in message for message in heard) is prepared

    asyncio.run(act())


def test_an_order_to_stop_that_comes_right_behind_the_start_is_obeyed(tmp_path: Path) -> None:
    scene = Scene(tmp_path)

    async def act() -> None:
        agent = scene.agent
        agent.session.hear(order(start=start(5)))
        agent.session.hear(order(stop={"g": 5, "grace": 0.0, "how": "kill"}))
        assert agent.group.generation == 5 and agent.group.idle

    asyncio.run(act())


def test_an_agent_whose_coordinator_does_not_answer_joins_again(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path)
    joins = 0

    async def requests(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal joins
        channel = Channel(reader, writer)
        await accept(channel, "token")
        assert "join" in (await channel.receive() or {})
        joins += 1
        if joins == 2:
            await channel.send({"refuse": "enough"})
        assert await channel.receive() is None  # the first one was frozen: it never says a word
        channel.close()

    async def act() -> None:
        server = await sockets.serve(scene.address, requests)
        await scene.agent.session.stay_joined()
        server.close()

    virtual_time.run(act())
    assert joins == 2


def test_workers_that_are_busy_are_given_longer_where_others_would_notice_what_they_do(
    tmp_path: Path,
) -> None:
    agent = agent_in(tmp_path, "10.0.0.1:29400")
    group = agent.group
    group._workers = workers_of(agent, 1, nodes=2)
    pulse = group._workers._pulses[0] = Pulse.create(tmp_path / "pulse")
    assert agent._patience() == 600  # it starts
    pulse.activity = Activity.NONE
    pulse.stepped(1)
    assert agent._patience() == 60
    pulse.step, pulse.stepped_ns = 11, pulse.first_ns + 900 * 10**9
    assert agent._patience() == 180  # steps of 90 s
    pulse.activity = Activity.EVALUATION
    assert agent._patience() == 600
    group._workers.nodes = 1
    assert agent._patience() == 180


def test_workers_that_work_on_without_a_step_are_not_given_up_by_an_agent_that_is_cut_off(
    tmp_path: Path,
) -> None:
    agent = Scene(tmp_path).agent
    assert agent._last_move(10.0, 100.0, still=False) == 100.0  # steps, or output
    assert agent._last_move(10.0, 100.0, still=True) == 10.0
    agent.group._signs._last[0] = (95.0, "processor time")
    assert agent._last_move(10.0, 100.0, still=True) == 95.0


def test_what_takes_a_pause_back_leaves_an_agent_to_itself_again(tmp_path: Path) -> None:
    scene = Scene(tmp_path)

    async def act() -> None:
        for on in (True, False):
            scene.agent.session.hear(order(pause={"g": 0, "on": on}))
            assert scene.agent.group._workers.ordered.is_set() is on

    asyncio.run(act())


def test_an_agent_that_comes_when_the_run_is_over_and_its_coordinator_has_left_goes_too(
    tmp_path: Path,
) -> None:
    place = tmp_path / "runs" / "t.1" / "coordinator"
    place.mkdir(parents=True)
    scene = Scene(place)
    agent = scene.agent
    agent.group.directories = None  # it has just been started again
    assert ended_here(scene.address) == ""
    journal = place / "journal.jsonl"
    journal.write_text('{"kind": "submitted", "text": "ended"}\n')
    assert ended_here(scene.address) == ""
    journal.write_text('{"kind": "ended", "text": "succeeded"}\n{"kind": "refused"}\n{"kind": "end')
    memory = Storage(tmp_path / "runs" / "t.1" / "coordinator").memory("t.1", "a")
    memory.mkdir(parents=True)
    asyncio.run(asyncio.wait_for(agent.session.stay_joined(), 5))
    assert not memory.exists()
    assert ended_here("tcp:10.0.0.1:29400") == ""


@pytest.mark.parametrize("moved", [1, 0])
def test_an_agent_that_is_refused_after_a_recover_goes(tmp_path: Path, moved: int) -> None:
    """The agent has seen one move; both sides are real, on a socket. One that was moved less often is not believed."""
    scene = Scene(tmp_path)
    scene.agent.session._moved = 1
    place = RunPaths(Storage(tmp_path / "other"), "t.1", "t.1", "")
    place.path.mkdir(parents=True)
    run = RunController(
        RunSpec("t", "script", "train.py", node_names=("b",)), RunSecret("t.1", "token"), place, moved=moved
    )

    async def act() -> None:
        server = await sockets.serve(scene.address, AgentConnections(run, ClientRequests(run).attend).serve)
        try:
            await scene.agent.session.once()
        finally:
            server.close()

    if moved == 1:
        asyncio.run(act())
    else:
        with pytest.raises(ChannelError, match="replaced by one on another machine"):
            asyncio.run(act())
    for store in (run.journal, run.output, run.progress):
        store.close()
    assert scene.agent.session.over.is_set() is (moved == 1)


def test_an_agent_that_is_not_led_looks_for_its_coordinator_less_and_less_often() -> None:
    pauses = session._RETRY_SECONDS
    assert list(pauses) == sorted(pauses)
    assert sum(pause for pause in pauses if pause <= 2.0) > 240  # for minutes somebody waits for it
    assert pauses[-1] >= 10.0


@pytest.mark.parametrize(
    ("part", "alone", "goes"),
    [
        ("none", 300.0, False),  # its coordinator may come until the deadline
        ("none", 370.0, True),
        ("of another run of this id", 370.0, True),
        ("of this agent", 3600.0, False),  # a person may move the coordinator
        ("of an agent before it", 3600.0, False),
        ("of this agent", 100_000.0, True),
    ],
)
def test_an_agent_of_a_run_that_nobody_leads_goes_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, alone: float, goes: bool
) -> None:
    """Nobody is attached, the coordinator is not there, and Docker would keep the agent up for ever."""
    settings = Settings("127.0.0.1:1", "a", "a", 0, Storage(tmp_path), ())
    secret = RunSecret("t.1", "token")
    task = RunSpec("t", "script", "train.py", start="cold")
    agent = Agent(task, secret, settings, choose(task, {}, dict(os.environ)))
    owner = {"of an agent before it": secret.submission, "of another run of this id": "another"}.get(part)
    if owner is not None:
        Storage(tmp_path).adopt("t.1", "t.1", "a", owner)
    if part == "of this agent":
        agent.session._copy = JournalCopy(tmp_path / "journal")
    passed = 0.0

    class Stays(Exception):
        """The time is over that is looked at."""

    async def sleep(seconds: float) -> None:
        nonlocal passed
        passed += seconds
        if passed > alone:
            raise Stays

    monkeypatch.setattr(asyncio, "sleep", sleep)
    for pause in ("_PULSE_SECONDS", "_BEAT_SECONDS"):
        monkeypatch.setattr(agent_module, pause, max(5.0, alone / 1000))
    monkeypatch.setattr(Agent, "_patience", lambda self: 1e9)  # there are no workers to be given up
    with contextlib.suppress(Stays):
        asyncio.run(_until_over(agent))
    assert agent.session.over.is_set() is goes
    assert agent._exit_code == 0  # which Docker and Swarm take for the end


async def _until_over(agent: Agent) -> None:
    """The agent's ticks, as many as there are."""
    ticking = asyncio.ensure_future(agent._tick())
    over = asyncio.ensure_future(agent.session.over.wait())
    await asyncio.wait([ticking, over], return_when=asyncio.FIRST_COMPLETED)
    if ticking.done():
        ticking.result()
    ticking.cancel()
    over.cancel()


def test_an_init_that_was_stopped_is_woken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_module, "_INIT_SECONDS", 0.01)
    with subprocess.Popen(["sleep", "100"]) as init:
        monkeypatch.setattr(os, "getppid", lambda: init.pid)
        init.send_signal(signal.SIGSTOP)

        async def act() -> None:
            agent = agent_in(tmp_path)
            waking = asyncio.ensure_future(agent._wake(init.pid))
            while not agent.uplink._notes[1:]:
                await asyncio.sleep(0.001)
            waking.cancel()
            assert "was stopped; it goes on" in agent.uplink._notes[-1][1]

        asyncio.run(act())
        assert not halted(init.pid)
        init.kill()


@pytest.mark.parametrize(
    "part",
    [
        *("what prepares its node", "what keeps the spawner", "what looks at memory"),
        *("what stops workers", "what ends a generation"),
    ],
)
def test_an_agent_a_part_of_which_ends_by_an_error_ends_with_it_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Else it would beat on, and the run wait for that part for ever."""

    async def nothing(*_: object) -> None: ...

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    async def act() -> None:
        agent = agent_in(tmp_path)
        if part == "what keeps the spawner":
            monkeypatch.setattr(agent.group.spawner, "_begin", nothing)  # a life that has nothing of one
        else:
            monkeypatch.setattr(agent.group.spawner, "open", nothing)
        directories, agent.group.directories = agent.group.directories, None
        assert directories is not None
        if part == "what prepares its node":
            monkeypatch.setattr(RunDirectories, "lay_out", fail)
            agent.group.welcomed(directories, {})
        elif part == "what looks at memory":
            monkeypatch.setattr(agent.group.segments, "look", fail)
        elif part == "what stops workers":
            agent.group._workers = workers_of(agent, 1)
            agent.group._workers.states[0] = running(1)
            monkeypatch.setattr(agent.group._workers, "_life", object())
            agent.group.stop(1, 0.0, "term")
        elif part == "what ends a generation":
            monkeypatch.setattr(agent.group.segments, "clear", fail)
            agent.group.start(StartWorkers(1, [0], 0, 1, 1, "gloo", MasterAddress("a", "127.0.0.1", 1)))
            agent.group.kill()
        with pytest.raises((ZeroDivisionError, AttributeError)) as caught:
            await asyncio.wait_for(agent.run(), 60)
        kind, text = agent.uplink._notes[-1]
        assert (kind, repr(caught.value) in text) == ("warning", True)

    virtual_time.run(act())


def test_a_trouble_is_printed_once_however_long_nobody_hears_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Else the log of a node without a coordinator grew by ten lines a second."""

    async def act() -> None:
        uplink = Uplink()
        uplink.trouble("the disk is full")
        await asyncio.sleep(60)
        heard: list[object] = []
        uplink.channel, uplink.post = Any, heard.append  # type: ignore[assignment, method-assign]
        await asyncio.sleep(1)
        assert heard == [TroubleReport("the disk is full")]

    virtual_time.run(act())
    assert capsys.readouterr().err == "the disk is full\n"
