"""Which of what a process uses is a sign that it works, and which any waiting process uses, too."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from swarmtrain.agent.machine import gpu_use
from swarmtrain.agent.worker_group.signs import Signs
from swarmtrain.agent.worker_group.usage import ProcessUsage, Tree, sign
from swarmtrain.agent.worker_group.workers import Workers
from swarmtrain.protocol.evidence.seen import FlightRecord, FlightReport
from swarmtrain.protocol.from_agent import WorkerReport

WORKER, LOADER = 100, 200
MS = 1_000_000  # nanoseconds
BEFORE: Tree = {WORKER: ProcessUsage({WORKER: 0, 101: 0}, 10), LOADER: ProcessUsage({LOADER: 0}, 10)}


def after(worker: int = 0, other: int = 0, loader: int = 0, moved: int = 0, read: int = 0) -> Tree:
    """Ten seconds later: milliseconds of processor time, and bytes."""
    return {
        WORKER: ProcessUsage({WORKER: worker * MS // 10, 101: other * MS // 10}, 10 + moved),
        LOADER: ProcessUsage({LOADER: loader * MS // 10}, 10 + read),
    }


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (after(), ""),
        # tenths: measured of a rank that hangs in gloo, and of a loader
        (after(worker=3, other=280, loader=4), ""),
        (after(worker=80), "processor time"),  # of one that computes twice a second
        (after(other=3_000), "processor time"),
        (after(loader=20), "processor time"),
        (after(moved=1), "bytes read or written"),
        (after(read=4096), "bytes read or written"),
        ({WORKER: BEFORE[WORKER]}, "processes come and go"),
        ({**after(), 300: ProcessUsage({300: 0})}, "processes come and go"),
        ({}, ""),
    ],
)
def test_a_process_that_works_is_told_from_one_that_waits(now: Tree, said: str) -> None:
    assert sign(BEFORE, now, 10.0) == said


def test_on_nccl_the_rank_itself_proves_nothing_by_spinning_but_its_children_do() -> None:
    assert sign(BEFORE, after(worker=100_000, other=100_000), 10.0, spins=WORKER) == ""
    assert sign(BEFORE, after(worker=100_000, loader=20), 10.0, spins=WORKER) == "processor time"
    assert sign(BEFORE, after(moved=1), 10.0, spins=WORKER) == "bytes read or written"


def test_the_first_look_says_nothing() -> None:
    assert sign({}, after(worker=1_000), 10.0) == ""


# index, UUID, percent of time with a kernel, percent of time of the memory: as nvidia-smi prints it
WAITS, COMPUTES, IDLE = "100, 1", "100, 34", "0, 0"


UNKNOWN = "[N/A], [N/A]"  # of a part of a divided GPU
OVER = FlightReport(
    [FlightRecord("0", 1, "all_reduce", done=True), FlightRecord("0", 2, "all_reduce", done=True)]
)
IN_ONE = FlightReport([*OVER.records, FlightRecord("0", 3, "all_reduce")])
SILENT = FlightReport(reason="it does not answer")


@pytest.mark.parametrize(
    ("nccl", "first", "second", "recorded", "signs"),
    [
        (False, IDLE, IDLE, OVER, ["", ""]),
        (False, COMPUTES, IDLE, OVER, ["GPU use", ""]),
        (True, WAITS, WAITS, IN_ONE, ["", ""]),
        (True, WAITS, COMPUTES, IN_ONE, ["", "GPU use"]),  # in one call that computes on its GPU
        # in one that computes without
        (True, IDLE, WAITS, IN_ONE, ["processor time beside an idle GPU", ""]),
        (True, WAITS, WAITS, OVER, ["processor time outside of collectives", ""]),  # others use its GPU, too
        (True, UNKNOWN, WAITS, OVER, ["processor time outside of collectives", ""]),
        (True, UNKNOWN, WAITS, IN_ONE, ["", ""]),
        (True, UNKNOWN, WAITS, SILENT, ["", ""]),
        (True, UNKNOWN, WAITS, FlightReport(), ["", ""]),
    ],
)
def test_a_rank_in_one_long_call_is_told_from_one_that_waits(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    nccl: bool,
    first: str,
    second: str,
    recorded: FlightReport,
    signs: list[str],
) -> None:
    """The cards are seen in another order than the driver's, one of them by the beginning of its name."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho '0, GPU-bb01, {second}'\necho '1, GPU-aa02, {first}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    samples = iter([BEFORE, after(worker=100_000 if nccl else 0)])
    pids = {4: WORKER, 5: WORKER}
    workers = SimpleNamespace(
        states={4: WorkerReport(1, 4, "running", 0.0, 0), 5: WorkerReport(1, 5, "running", 0.0, 1)},
        stack_files=dict,
    )

    async def flights(pids: Mapping[int, int], files: Mapping[int, Path]) -> dict[int, FlightReport]:
        return {rank: recorded if rank == 4 else IN_ONE for rank in pids}

    monkeypatch.setattr("swarmtrain.agent.worker_group.signs.flights", flights)

    async def act() -> list[str]:
        use = partial(gpu_use, {"CUDA_VISIBLE_DEVICES": "GPU-aa,0"})
        looking = Signs(cast(Workers, workers), spinning=nccl, gpus=use)

        async def sample(pids: Mapping[int, int]) -> dict[int, tuple[float, Tree]]:
            found = next(samples)
            return dict.fromkeys(pids, (time.monotonic() - (10.0 if found is BEFORE else 0.0), found))

        monkeypatch.setattr(looking, "_sample", sample)
        await looking.look(pids, 0.0)
        await looking.look(pids, 0.0)
        return [looking.of(rank)[1] for rank in pids]

    assert asyncio.run(act()) == signs


def test_a_node_whose_driver_does_not_answer_has_no_sign_of_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_use({}) == []
