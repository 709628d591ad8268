"""Two nodes of a run in one process, with what their agents do for shared files and what its coordinator does.

Their contents go over loopback, a look follows the other within a tenth of a second, and no worker is there: what one
would write, the tests write.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from run_fakes import Ear, Theatre, WireMessages, join

from swarmtrain.agent.network import Choice
from swarmtrain.agent.sharing import bringing, leftovers, tracker
from swarmtrain.agent.sharing import shared as shareds
from swarmtrain.agent.sharing.shared import SharedFiles
from swarmtrain.agent.sharing.store import Store
from swarmtrain.agent.uplink import Uplink
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.coordinator.run.members import ConnectedAgent
from swarmtrain.protocol.from_agent import FromAgent
from swarmtrain.protocol.journal.remarks import Warned
from swarmtrain.protocol.shared_files import AskShared, BringShared, SharedBrought, SharedReport
from swarmtrain.protocol.to_agent import TO_AGENT


class Node(Uplink):
    """One node: its agent's part in this, and its connection, at both ends."""

    def __init__(self, stage: Theatre, run: RunController, name: str, slot: int, directory: Path) -> None:
        super().__init__()
        self.choice = Choice("lo", "127.0.0.1", "")
        self.name, self.run, self.work = name, run, directory / "work"
        self.idle, self.is_lost = True, False
        self.files = SharedFiles.of(run.spec, "token", self, lambda: self.idle)
        self.peer: ConnectedAgent
        self.peer, _ = stage.agent(name, slot)
        self.peer.channel = Hearing(self)  # type: ignore[assignment]
        self.channel = self.peer.channel

    async def send(self, message: FromAgent) -> None:
        if not self.is_lost and isinstance(message, SharedReport):
            self.run.sharing.hear_report(self.peer, message)
        elif not self.is_lost and isinstance(message, SharedBrought):
            self.run.sharing.hear_brought(self.peer, message)

    def note(self, kind: str, text: str) -> None:
        print(self.name, text)

    async def begin(self) -> None:
        self.work.mkdir(parents=True)
        await self.files.open(self.work, self.work.parent / "shared")

    def kept(self) -> dict[str, list[str]]:
        """The files of the newest versions that it could put in place, by path."""
        record = json.loads((self.work.parent / "shared" / "record.json").read_text())["sets"]
        return {
            path: [file[0] for file in (each["whole"] or {}).get("files", [])]
            for path, each in record.items()
        }

    def lose(self) -> None:
        """Its machine is gone."""
        self.is_lost = True
        self.files.close()
        shutil.rmtree(self.work.parent)
        WireMessages(self.run).left(self.peer)


class Hearing(Ear):
    """What the coordinator says reaches the node."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node = node

    def post(self, message: dict[str, Any]) -> None:
        super().post(message)
        if "share" not in message and "bring" not in message:
            return
        match TO_AGENT.load(json.loads(json.dumps(message))):
            case AskShared() as ask:
                self.node.files.answer(ask)
            case BringShared() as order:
                self.node.files.bring(order)


Act = Callable[[Node, Node], Awaitable[None]]


@pytest.fixture
def play(stage: Theatre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Act, float], None]:
    """Have two nodes, of which the first writes, begin a generation, and do something with them."""
    monkeypatch.setattr(shareds, "_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(shareds, "_LOOK_SHARE", 1.0)
    for module in (leftovers, tracker):
        monkeypatch.setattr(module, "QUIET", 0.3)

    async def scene(act: Act, share_rate: float) -> None:
        run = stage.make(share="auto", replicas=1, share_rate=share_rate)
        nodes = [Node(stage, run, name, slot, tmp_path / name) for slot, name in enumerate("ab")]
        for node in nodes:
            await node.begin()
        for node in nodes:
            join(run, node.peer)
        await until(lambda: run.current.generation.number == 1)
        for node in nodes:
            await node.files.begin(1)
            node.idle = False
        try:
            await act(nodes[0], nodes[1])
        finally:
            for node in nodes:
                node.files.close()

    return lambda act, share_rate: asyncio.run(asyncio.wait_for(scene(act, share_rate), 40))


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.02)


async def begin_anew(node: Node) -> None:
    """The node that is left has what it is to begin with."""
    node.idle = True
    await node.files.ended(well=False)
    await until(lambda: node.run.sharing.is_ready([node.name]))


def checkpoint(node: Node, number: int, size: int = 1000) -> None:
    place = node.work / f"step-{number}"
    place.mkdir()
    for name in ("model.bin", "optimizer.bin"):
        (place / name).write_bytes(os.urandom(size))


def point(node: Node, number: int) -> None:
    (node.work / "latest.tmp").write_text(f"step-{number}")
    (node.work / "latest.tmp").replace(node.work / "latest")


def found(node: Node) -> list[str]:
    return sorted(each.name for each in node.work.iterdir())


WHOLE = ["model.bin", "optimizer.bin"]


def test_a_checkpoint_that_was_deleted_is_there_again_where_the_next_one_was_lost_before_it_was_copied(
    play: Callable[[Act, float], None],
) -> None:
    async def act(writer: Node, other: Node) -> None:
        checkpoint(writer, 1)
        await until(lambda: other.kept().get("step-1") == WHOLE)
        checkpoint(writer, 2, 20 << 20)
        await until(lambda: "step-2" in other.kept())
        shutil.rmtree(writer.work / "step-1")
        await asyncio.sleep(1.0)  # the deletion has come to rest
        assert other.kept()["step-2"] == []
        writer.lose()
        await begin_anew(other)
        assert (
            found(other) == ["step-1"]
            and sorted(each.name for each in (other.work / "step-1").iterdir()) == WHOLE
        )

    play(act, 0.01)


def test_what_names_a_checkpoint_leads_to_one_that_is_there_when_its_writer_is_lost(
    play: Callable[[Act, float], None],
) -> None:
    async def act(writer: Node, other: Node) -> None:
        checkpoint(writer, 1)
        point(writer, 1)
        await until(lambda: other.kept().get("") == ["latest"] and other.kept().get("step-1") == WHOLE)
        checkpoint(writer, 2, 20 << 20)
        point(writer, 2)
        await until(lambda: "step-2" in other.kept())
        await asyncio.sleep(1.0)
        assert other.kept()["step-2"] == []
        writer.lose()
        await begin_anew(other)
        assert (other.work / "latest").read_text() == "step-1" and found(other) == ["latest", "step-1"]

    play(act, 0.01)


def test_what_names_a_checkpoint_is_there_with_it_when_both_were_copied(
    play: Callable[[Act, float], None],
) -> None:
    async def act(writer: Node, other: Node) -> None:
        for number in (1, 2):
            checkpoint(writer, number)
            point(writer, number)
            await asyncio.sleep(0.2)
        await until(lambda: other.kept().get("") == ["latest"] and other.kept().get("step-2") == WHOLE)
        writer.lose()
        await begin_anew(other)
        assert (other.work / "latest").read_text() == "step-2"
        assert found(other) == ["latest", "step-1", "step-2"]

    play(act, 1.0)


def test_what_was_deleted_makes_room_for_the_next_where_there_is_none_else(
    play: Callable[[Act, float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bringing, "_PAUSE", 0.1)
    monkeypatch.setattr(
        Store, "room", lambda store: 0 if len(list(store._contents.iterdir())) > 1 else 1 << 30
    )

    async def act(writer: Node, other: Node) -> None:
        (other.work.parent / "shared" / "contents").mkdir(parents=True, exist_ok=True)
        checkpoint(writer, 1)
        await until(lambda: other.kept().get("step-1") == WHOLE)
        checkpoint(writer, 2)
        await until(lambda: "step-2" in other.kept())
        await asyncio.sleep(0.5)
        assert other.kept()["step-2"] == [] and other.kept()["step-1"] == WHOLE
        shutil.rmtree(writer.work / "step-1")
        await until(lambda: other.kept()["step-2"] == WHOLE)

    play(act, 1.0)


@pytest.mark.parametrize("is_slow", [False, True])
def test_at_an_end_what_has_come_to_rest_nowhere_yet_is_copied(
    play: Callable[[Act, float], None], is_slow: bool
) -> None:
    async def act(writer: Node, other: Node) -> None:
        run = writer.run
        checkpoint(writer, 1, 20 << 20)
        if is_slow:
            await until(lambda: "step-1" in other.kept())
        for node in (writer, other):
            node.idle = True
            await node.files.ended(well=True)
        copied = until(lambda: run.sharing.waits_at_the_end(stopped=False) is None)
        await asyncio.wait_for(copied, 15)  # as slowly as while it trains, that would take a minute
        assert other.kept()["step-1"] == WHOLE and not run.journal.all(Warned)

    play(act, 0.01)
