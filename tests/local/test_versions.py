"""Runs of the version before, on this machine: read, led on and gone on from by this one, and nothing is lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from earlier_version import EarlierVersion
from healed import events, origins, reach, step_of, story, weights
from healed_local import account, check_output, restart_coordinator, start, worker_of

from swarmtrain import Client
from swarmtrain.control.handle import RunHandle

SAMPLES = 200


@pytest.fixture
def earlier(tmp_path: Path) -> EarlierVersion:
    return EarlierVersion(tmp_path / "earlier")


def begun(earlier: EarlierVersion, directory: Path, name: str, **settings: object) -> RunHandle:
    """A run of the version before that trains, in the hands of this one."""
    earlier.start(directory, name, "--on", "local", "-j", "2x1", **settings)
    handle = Client("local").get(name)
    reach(handle, 12)
    return handle


@pytest.mark.long  # tests/swarm/test_versions.py has one taken over for each change
@pytest.mark.parametrize("where", ["where it was", "on another machine"])
def test_a_coordinator_of_this_version_leads_agents_of_the_one_before(
    earlier: EarlierVersion, home: Path, tmp_path: Path, where: str
) -> None:
    handle = begun(earlier, tmp_path, "led", pauses={"1": 0.2}, pause=0.02)
    place = home / "runs" / handle.id / "coordinator"
    variables = {"PYTHONPATH": ""}  # by which the version before was found
    if where == "on another machine":
        variables["SWARMTRAIN_MOVED"] = "1"
        for name in ("journal.jsonl", "output.jsonl", "metrics.jsonl"):
            (place / name).unlink()
    restart_coordinator(place, variables=variables)
    reach(handle, step_of(handle) + 5)
    assert "running" in earlier("status", "led", "--on", "local")
    assert "step 12" in earlier("logs", "led", "--on", "local", "--rank", "0")
    os.kill(worker_of(handle, 1), signal.SIGKILL)
    assert handle.wait(timeout=100).state == "succeeded", story(handle)

    assert len(events(handle, "coordinator" if where == "where it was" else "moved")) == 1, story(handle)
    assert len(events(handle, "generation")) == 2, story(handle)
    account(home, handle).check(SAMPLES)
    check_output(home, handle)
    assert weights(handle)
    assert {each.node for each in handle.snapshots.listing().snapshots} == {"node0", "node1"}
    assert "succeeded" in earlier("status", "led", "--on", "local")


def test_a_run_goes_on_from_one_that_the_version_before_has_made(
    earlier: EarlierVersion, home: Path, tmp_path: Path
) -> None:
    first = begun(earlier, tmp_path, "resumed", pause=0.05)
    assert first.exec(["true"], rank=1) == 0
    assert first.fetch("book-g1-r0", tmp_path / "book", node="node0").path.read_text()
    assert first.snapshots.listing().snapshots
    first.stop()
    stopped = first.status()
    assert (stopped.state, stopped.step) == ("stopped", step_of(first))
    second = start(tmp_path, "resumed", resume=True, pause=0.0)
    assert second.wait(timeout=150).state == "succeeded", story(second)
    assert origins(second) == {1: (1, stopped.step)}
