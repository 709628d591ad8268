"""Which of what a process uses is a sign that it works, and which any waiting process uses, too."""

from __future__ import annotations

import pytest

from swarmtrain.agent.usage import Process, Tree, sign

WORKER, LOADER = 100, 200
MS = 1_000_000  # nanoseconds
BEFORE: Tree = {WORKER: Process({WORKER: 0, 101: 0}, 10), LOADER: Process({LOADER: 0}, 10)}


def after(worker: int = 0, other: int = 0, loader: int = 0, moved: int = 0, read: int = 0) -> Tree:
    """Ten seconds later: milliseconds of processor time, and bytes."""
    return {
        WORKER: Process({WORKER: worker * MS // 10, 101: other * MS // 10}, 10 + moved),
        LOADER: Process({LOADER: loader * MS // 10}, 10 + read),
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
        ({**after(), 300: Process({300: 0})}, "processes come and go"),
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
