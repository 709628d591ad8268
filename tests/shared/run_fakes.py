"""Stand-ins around a run's state: agents' connections that keep what they are told, and a clock that tests turn."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hand_clock import HandClock

from swarmtrain.coordinator.agents import messages as agent_messages
from swarmtrain.coordinator.core.model import Phase
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.coordinator.run.members import ConnectedAgent
from swarmtrain.coordinator.store.run_paths import RunPaths
from swarmtrain.protocol.codec import load
from swarmtrain.protocol.from_agent import FROM_AGENT, WorkerReport
from swarmtrain.wire.disk.storage import Storage
from swarmtrain.wire.disk.submission import SubmissionMark
from swarmtrain.wire.pulse import Activity, Source
from swarmtrain.wire.run_spec import RunSecret, RunSpec


class Ear:
    """A channel that remembers what was posted."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.open = True

    def post(self, message: dict[str, Any]) -> None:
        if self.open:
            self.heard.append(message)

    def abort(self) -> None:
        self.open = False

    def all(self, kind: str) -> list[Any]:
        return [message[kind] for message in self.heard if kind in message]

    def starts(self) -> list[dict[str, Any]]:
        return self.all("start")


class Theatre:
    """Plays scenes with runs in one directory, inside a loop, and closes their files."""

    def __init__(self, path: Path, clock: HandClock) -> None:
        self.path, self.clock = path, clock
        self._open: list[RunController] = []

    def make(self, nodes: int = 2, submission: SubmissionMark | None = None, **fields: Any) -> RunController:
        """The run of this directory: a fresh one, or the one that a coordinator goes on with."""
        sizes = {"nodes_min": nodes, "nodes_max": nodes}
        task = RunSpec(**{"name": "t", "kind": "script", "target": "train.py"} | sizes | fields)
        place = RunPaths(Storage(self.path), "t.1", "t.1", "")
        place.path.mkdir(parents=True, exist_ok=True)
        run = RunController(task, RunSecret("t.1", "token"), place, clock=self.clock, submission=submission)
        self._open.append(run)
        return run

    def agent(self, node: str, slot: int = 0, **fields: Any) -> tuple[ConnectedAgent, Ear]:
        """An agent that is about to join."""
        ear = Ear()
        settings: dict[str, Any] = {
            "node": node,
            "node_id": node,
            "incarnation": f"{node}-1",
            "slot": slot,
            "workers": 1,
            "address": f"10.0.0.{slot + 1}",
            "interface": "eth0",
            "why": "a test",
            "port": 20_000,
            "joined": self.clock.now,
            "heard": self.clock.now,
            "channel": ear,
        }
        return ConnectedAgent(**settings | fields), ear

    def play(self, scene: Callable[[], object]) -> None:
        """One scene."""

        async def act() -> None:
            scene()

        asyncio.run(act())

    def close(self) -> None:
        """Close the files, as a coordinator that is killed does."""
        for run in self._open:
            for store in (run.journal, run.output, run.progress):
                store.close()
        self._open.clear()

    def forget(self) -> None:
        """The coordinator is gone; the next run of this directory is another coordinator's."""
        self.close()


class WireMessages(agent_messages.AgentMessages):
    """What agents say to a run, as it comes over the wire."""

    def worker(self, peer: ConnectedAgent, state: Any) -> None:
        super().worker(peer, state if isinstance(state, WorkerReport) else load(WorkerReport, state))

    def tell(self, peer: ConnectedAgent, states: Any) -> None:
        super().tell(peer, [load(WorkerReport, state) for state in states])

    def idle(self, peer: ConnectedAgent, generation: Any, port: int = 0) -> None:
        self._say("idle", peer, {"idle": {"g": generation, "port": port}})

    def drained(self, peer: ConnectedAgent, generation: Any) -> None:
        self._say("drained", peer, {"drained": generation})

    def stacks(self, peer: ConnectedAgent, answer: Any) -> None:
        self._say("stacks", peer, {"stacks": answer})

    def trouble(self, peer: ConnectedAgent, text: Any) -> None:
        self._say("trouble", peer, {"trouble": text})

    def note(self, peer: ConnectedAgent, kind: Any, text: str = "") -> None:
        self._say("note", peer, {"note": {"kind": kind, "text": text}})

    def beat(self, peer: ConnectedAgent, pulses: Any) -> None:
        beat: Any = FROM_AGENT.load({"beat": 0.0, "pulses": pulses})
        super().beat(peer, beat.pulses)

    def _say(self, word: str, peer: ConnectedAgent, message: dict[str, Any]) -> None:
        getattr(super(), word)(peer, FROM_AGENT.load(message))


def theatre(path: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> Theatre:
    """A theatre on this clock, whose journals need no disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    return Theatre(path, clock)


def join(
    run: RunController, peer: ConnectedAgent, states: list[dict[str, Any]] | None = None
) -> ConnectedAgent:
    """The agent's connection is there."""
    known = WireMessages(run).join(peer)
    if isinstance(known.channel, Ear):
        known.channel.post({"welcome": {}})
    WireMessages(run).tell(known, states or [])
    return known


def exited(rank: int, code: int | None = 0, *, g: int = 1, t: float = 5.0, **fields: Any) -> dict[str, Any]:
    """An agent's word that a worker has gone."""
    return {"g": g, "rank": rank, "state": "exited", "code": code, "signal": None, "t": t, **fields}


def pulse(
    rank: int,
    step: int,
    *,
    g: int = 1,
    quiet: float | None = 0.0,
    first: float | None = 1.0,
    source: Source = Source.TRAINER,
    activity: Activity = Activity.NONE,
    resumed: int = 0,
    paused: int = 0,
    lived: float | None = None,
    sign: str = "",
) -> list[Any]:
    """A worker's pulse, as agents send it."""
    numbers = [g, rank, step, 3 * step, int(activity), int(source), paused, 0.1 * step, resumed]
    return [*numbers, quiet, first, lived, sign]


def phase(run: RunController) -> Phase:
    """A run's phase now, for a type checker that takes it for unchanged."""
    return run.phase
