"""Nodes of a run in one process, with what their agents do for shared files and what its coordinator does.

Their contents go over loopback, a look follows the other within a tenth of a second, and no worker is there: what one
would write, the tests write.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from run_fakes import Ear, Theatre, WireMessages, join

from swarmtrain.agent.network import Choice
from swarmtrain.agent.sharing import elders, leftovers, tracker, unrest
from swarmtrain.agent.sharing import shared as shareds
from swarmtrain.agent.sharing.shared import SharedFiles
from swarmtrain.agent.uplink import Uplink
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.coordinator.run.members import ConnectedAgent
from swarmtrain.protocol.from_agent import FromAgent
from swarmtrain.protocol.shared_files import AskShared, BringShared, SharedBrought, SharedReport
from swarmtrain.protocol.to_agent import TO_AGENT, StartWorkers


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

    async def open_files(self) -> None:
        self.work.mkdir(parents=True, exist_ok=True)
        await self.files.open(self.work, self.work.parent / "shared")

    async def start(self) -> None:
        """Begin the generation that it was told to."""
        assert isinstance(self.peer.channel, Ear)
        start = TO_AGENT.load({"start": self.peer.channel.starts()[-1]})
        assert isinstance(start, StartWorkers)
        await self.files.begin(start.generation, start.first_ranks)
        self.idle = False

    async def end(self, *, well: bool) -> None:
        """Its workers have gone."""
        self.idle = True
        await self.files.ended(well=well)

    def kept(self) -> dict[str, list[str]]:
        """The files of the newest versions that it could put in place, by path."""
        return {
            path: [file[0] for file in (each["whole"] or {}).get("files", [])]
            for path, each in self._record().items()
        }

    def newest(self, path: str) -> int:
        """The number of the newest version of a set that it knows; 0 where there is none."""
        return int((self._record().get(path, {}).get("newest") or {}).get("number", 0))

    def _record(self) -> dict[str, Any]:
        told = self.work.parent / "shared" / "record.json"
        return json.loads(told.read_text())["sets"] if told.exists() else {}

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


async def begin(stage: Theatre, run: RunController, directory: Path, names: Iterable[str]) -> list[Node]:
    """Nodes of these names, with what lies in the directory, have joined a run and begun its first generation."""
    nodes = [Node(stage, run, name, slot, directory / name) for slot, name in enumerate(names)]
    for node in nodes:
        await node.open_files()
    for node in nodes:
        join(run, node.peer)
    await until(lambda: run.current.generation.number == 1)
    for node in nodes:
        if run.current.takes_part(node.name):
            await node.start()
    return nodes


def hasten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nodes look, and what they find come to rest, within fractions of a second."""
    monkeypatch.setattr(shareds, "_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(shareds, "_LOOK_SHARE", 1.0)
    _quiet(monkeypatch, 0.3)


def no_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what was not written to between two looks be at rest."""
    _quiet(monkeypatch, 0.0)


def _quiet(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    for module in (elders, leftovers, tracker, unrest):
        monkeypatch.setattr(module, "QUIET", seconds)


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.02)
