"""A soak of lives on a Swarm, not of one run: afterwards nothing is lost, nothing is left, and nothing burns."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from lives import drawn, live_for
from lives_swarm import OnALab, burnt, everything, running, stored
from waiting import until

from swarmtrain.lab.lab import Lab

REST = 60.0  # seconds
SETTLES = 15.0  # in which helpers that were asked last have come to rest
BURNS = 0.001  # of a processor


@pytest.mark.long
@pytest.mark.parametrize(
    "seconds", [pytest.param(300, id="five minutes"), pytest.param(1800, id="half an hour")]
)
@pytest.mark.timeout(3600)
def test_lives_on_a_swarm_leave_nothing_behind_and_lose_nothing(
    machines: Lab, torch_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))  # clients that are killed leave what they wrote there
    before = everything(machines)
    place = OnALab(machines, torch_image)
    seed = int(os.environ.get("SWARMTRAIN_TEST_SEED", "9"))
    jobs = drawn(seed, tmp_path, dict.fromkeys(("apple", "pear", "plum"), place))
    try:
        live_for(seconds, jobs)
        for job in jobs:
            job.load_all()
        time.sleep(SETTLES)
        shares = burnt(machines, REST)
        assert len(shares) >= len(jobs), "the coordinators at least"
        assert {name: share for name, share in shares.items() if share >= BURNS} == {}
        until(lambda: {_role(name) for name in running(machines)} == {"coordinator"}, 60, "helpers go")
    finally:
        for handle in [run for job in jobs for run in job.runs()]:
            handle.remove(force=True)
    until(lambda: not everything(machines) - before, 60, "nothing is left")
    assert stored(machines) == set()


def _role(container: str) -> str:
    """Of a container's name as Swarm makes it: ``apple-3_coordinator.1.m4k...``."""
    return container.partition("_")[2].partition(".")[0].partition("-")[0]
