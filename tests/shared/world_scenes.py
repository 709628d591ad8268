"""Scenes in a simulated world (world_fakes.py): a world in a directory of its own, faults in it, and its repair."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hand_clock import HandClock
from run_fakes import theatre
from world_fakes import World, run_module, watched_decide

from swarmtrain.coordinator.clients import actions

FAULTS = [
    *("crash", "die", "power", "freeze", "cut", "leave", "lift", "lift"),
    *("restart", "sleep", "resize", "jam", "drag"),
]


@contextmanager
def world(nodes: int, **task: Any) -> Iterator[World]:
    """A world in a directory of its own."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=base) as path, pytest.MonkeyPatch.context() as patch:
        stage = theatre(Path(path), HandClock(), patch)
        patch.setattr(run_module, "decide", watched_decide)
        try:
            yield World(stage, nodes, **task)
        finally:
            stage.close()


def play(scene: Callable[[], None]) -> None:
    async def act() -> None:
        scene()

    asyncio.run(act())


def perform(it: World, script: list[tuple[str, int, int]]) -> None:
    """Faults, with beats between them."""
    for action, number, beats in script:
        it.do(action, it.nodes[number % len(it.nodes)])
        for _ in range(beats):
            it.beat()


def repair(it: World) -> None:
    """All machines are well again, and nobody wishes anything."""
    it.jammed = False
    actions.resize(it.run, it.run.policy.nodes_max)
    for node in it.nodes:
        node.slow = 0.0
        it.do("lift", node)
