"""Real trainings that hang, and whether the right rank is named.

With the variable RECORD they write what they have seen into that directory: the table of tests/unit/test_hang.py.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from worker_harness import PATIENCE, SCRIPTS, Spawner, free_port, rank_env, spawner

from swarmtrain.agent.worker_group.stacks import stacks
from swarmtrain.coordinator.core.hang import Rank, culprit
from swarmtrain.wire.pulse import Pulse

RANKS = 3
STILL = 1.5  # seconds without progress after which these small trainings hang
NEUTRAL = (  # nothing of this machine belongs into the table
    (r'"[^"]*/site-packages/', '"/usr/local/lib/python3.11/site-packages/'),
    (r'"[^"]*/lib/python3\.\d+/(?!site-packages)', '"/usr/local/lib/python3.11/'),
    (r'"[^"]*/scripts/', '"/swarmtrain/data/hangs.1/node1/work/'),
    (r'"[^"]*/src/swarmtrain/', '"/opt/swarmtrain/bundle.zip/swarmtrain/'),
)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawner]:
    with spawner("warm", tmp_path_factory.mktemp("spawner")) as running:
        yield running


def hang(agent: Spawner, directory: Path, how: str) -> list[Rank]:
    """Train until nobody makes a step any more, and look at everybody as an agent does."""
    port, ranks = free_port(), range(RANKS)
    pulses = {rank: Pulse.create(directory / f"{rank}.pulse") for rank in ranks}
    files = {rank: directory / f"{rank}.stack" for rank in ranks}
    workers = {}
    for rank in ranks:
        own = {"SWARMTRAIN_PULSE": str(directory / f"{rank}.pulse"), "SWARMTRAIN_STACK": str(files[rank])}
        env = {**rank_env(rank, RANKS, port), **own}
        workers[rank] = agent.start(SCRIPTS / "hangs.py", how, key=f"{how}-{rank}", env=env)
    try:
        _until_it_hangs(list(pulses.values()))
        stopped = {rank: _state(worker.pid) == "T" for rank, worker in workers.items()}
        dumps = asyncio.run(stacks({rank: worker.pid for rank, worker in workers.items()}, files))
    finally:
        for worker in workers.values():
            agent.signal(worker, signal.SIGKILL)
            agent.wait(worker)
    return [
        Rank(rank, pulse.step, pulse.mark, pulse.activity, stopped[rank], dumps[rank])
        for rank, pulse in pulses.items()
    ]


def _until_it_hangs(pulses: list[Pulse]) -> None:
    deadline = time.monotonic() + PATIENCE
    last, since = None, 0.0
    while time.monotonic() < deadline:
        now = [(pulse.step, pulse.mark) for pulse in pulses]
        if now != last:
            last, since = now, time.monotonic()
        if min(step for step, _ in now) >= 4 and time.monotonic() > since + STILL:
            return
        time.sleep(0.05)
    raise AssertionError(f"it does not hang: {last}")


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def record(how: str, group: list[Rank]) -> None:
    if directory := os.environ.get("RECORD"):
        text = ""
        for each in group:
            text += (
                f"rank {each.rank} step {each.step} mark {each.mark} stopped {each.stopped}\n{each.stack}\n"
            )
        for pattern, neutral in NEUTRAL:
            text = re.sub(pattern, neutral, text)
        (Path(directory) / f"{how}.txt").write_text(text)


@pytest.mark.parametrize(
    ("how", "ranks", "function"),
    [
        ("between", (1,), "in train"),
        ("forward", (1,), "in forward"),
        ("loader", (1,), "in __getitem__"),
        ("loader-process", (1,), "in train"),
        ("left", (1,), "in train"),
        ("stopped", (1,), ""),
        ("skipped", (), "in train"),  # gloo takes the next all-reduce for the one that was skipped
    ],
)
def test_the_rank_at_fault_is_named(
    agent: Spawner, tmp_path: Path, how: str, ranks: tuple[int, ...], function: str
) -> None:
    group = hang(agent, tmp_path, how)
    record(how, group)
    verdict = culprit(group)
    assert verdict.ranks == ranks
    assert verdict.extract.endswith(function) and bool(verdict.extract) == bool(function)
