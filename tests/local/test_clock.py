"""A real run whose machines' clocks are set while it lives."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from healed_local import worker_of
from waiting import until

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle
from swarmtrain.control.views.logs import Selection
from swarmtrain.protocol.journal.events import GenerationFailed

HOUR = 3600.0

# Python imports it before anything else. Each process looks for the clock of its node in a file.
SHIM = """\
import os, time
def offset():
    try:
        return float(open(os.path.join(CLOCKS, os.environ.get("SWARMTRAIN_NODE", "coordinator"))).read())
    except (OSError, ValueError):
        return 0.0
CLOCKS, real, real_ns = {clocks!r}, time.time, time.time_ns
time.time = lambda: real() + offset()
time.time_ns = lambda: real_ns() + int(offset() * 1e9)
"""
SCRIPT = """\
import time
for number in range(40):
    print("tick", number, flush=True)
    time.sleep(0.1)
"""


@pytest.fixture
def clocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in which the clock of each process of a run can be set, by its node's name."""
    (tmp_path / "clocks").mkdir()
    (tmp_path / "shim").mkdir()
    (tmp_path / "shim" / "sitecustomize.py").write_text(SHIM.format(clocks=str(tmp_path / "clocks")))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "shim"))
    return tmp_path / "clocks"


def ticks(handle: RunHandle, rank: int) -> list[float]:
    return [line.time for lines in handle.logs() for line in lines if line.rank == rank]


@pytest.mark.parametrize("first", [HOUR, -HOUR])
def test_clocks_that_jump_change_nothing_of_a_run(
    home: Path, tmp_path: Path, clocks: Path, first: float
) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    began = time.time()
    handle = Client("local").run(Job(script="train.py", nodes=2, start="cold"))
    until(lambda: len(ticks(handle, 0)) > 3 and len(ticks(handle, 1)) > 3, 30, "both ranks write")
    (clocks / "node1").write_text(str(first))
    (clocks / "coordinator").write_text(str(-first))
    seen = [len(ticks(handle, rank)) for rank in (0, 1)]
    until(lambda: all(len(ticks(handle, rank)) > seen[rank] + 3 for rank in (0, 1)), 30, "they write on")
    os.kill(worker_of(handle, 1), signal.SIGKILL)
    until(lambda: handle.status().generation == 2, 30, "the run is healed")
    (clocks / "node0").write_text(str(-first))
    (clocks / "coordinator").write_text(str(first))
    assert handle.wait(timeout=60).state == "succeeded"
    ended, status = time.time(), handle.status()
    times = [event.time for event in handle.events()]
    assert times == sorted(times)
    assert began - 1.0 < times[0] and times[-1] < ended + 1.0
    assert 0.0 <= status.lost_seconds < ended - began
    lines = [line for batch in handle.logs(Selection(since=-HOUR / 2)) for line in batch]
    for rank in (0, 1):
        last = [line.text for line in lines if (line.generation, line.rank) == (2, rank)]
        assert last == [f"tick {number}" for number in range(40)]
    assert all(began - 1.0 < line.time < ended + 1.0 for line in lines)
    failure = next(each.failure for each in handle.events() if isinstance(each, GenerationFailed))
    assert began < failure.time < ended
