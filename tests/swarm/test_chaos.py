"""Faults on purpose on a real Swarm: each hits the machine it should, and is gone afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import until

from swarmtrain import Client, Job
from swarmtrain.control.chaos.execution import Chaos
from swarmtrain.control.chaos.faults import Fault, FaultPlan
from swarmtrain.control.chaos.sites import place_of
from swarmtrain.control.handle import RunHandle
from swarmtrain.docker.command import Docker
from swarmtrain.errors import ClusterError
from swarmtrain.lab.chaos import LabMachines, lab_of
from swarmtrain.lab.lab import Lab

STEPPING = """
import time
import torch, torch.distributed as dist
dist.init_process_group("gloo")
for step in range(6000):
    dist.all_reduce(torch.ones(4))
    time.sleep(0.05)
"""


@pytest.fixture
def handle(
    lab: Lab, torch_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunHandle]:
    """A run on all three nodes of the lab that is in the middle of its training."""
    monkeypatch.setenv("DOCKER_HOST", lab.host)
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(STEPPING)
    settings = {"nodes": 3, "workers_per_node": 1, "image": torch_image, "restart": "never"}
    job = Job(name="chaos", script="train.py", **settings)  # type: ignore[arg-type]
    run = Client(on="swarm").run(job)
    until(lambda: "started" in [event.kind for event in run.events()])
    yield run
    run.remove(force=True)


@pytest.fixture
def machines(handle: RunHandle) -> Lab:
    """The lab, found by the endpoint that the run was deployed to, as the command line finds it."""
    found = lab_of(Docker())
    assert found is not None
    return found


def containers(lab: Lab, node: int) -> list[str]:
    return lab.node(node).docker.run("ps", "-q", "--filter", "name=chaos-1_agent").split()


def test_machines_freeze_and_slow_down_and_containers_die(lab: Lab, machines: Lab, handle: RunHandle) -> None:
    assert machines.host == lab.host
    states: set[str] = set()
    rates: list[int | None] = [None]  # as they follow each other
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            states.add(machines.node(2).machine())
            if (rate := machines.node(3).rate()) != rates[-1]:
                rates.append(rate)

    faults = (
        Fault("freeze", "lab-2", seconds=3.0),
        Fault("slow-link", "lab-3", seconds=5.0, rate="200mbit"),
        Fault("slow-link", "lab-3", after=1.5, seconds=1.5, rate="100mbit"),
        Fault("stop-worker", "0", seconds=1.0),
        Fault("kill-container", "lab-3", after=7.0),
    )
    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    (before,) = containers(lab, 3)
    report = Chaos(handle, place_of(handle, LabMachines(machines, handle.run)), FaultPlan(faults)).run()
    over.set()
    looking.join()
    assert report.ok, report.failed
    assert [each.kind for each in report.happenings if each.what == "fault"][-1] == "kill-container"
    assert "paused" in states and machines.node(2).machine() == "running"
    assert rates[:4] == [None, 200_000_000, 100_000_000, 200_000_000] and machines.node(3).rate() is None
    assert before not in containers(lab, 3)
    told = [event.text for event in handle.events() if event.kind == "chaos"]
    # undoing takes as long as it takes
    assert "chaos: everything of the run on lab-3 is killed at once" in told
    assert "chaos: lab-2 goes on" in told


def test_of_a_swarm_that_is_no_lab_or_not_ones_own_only_what_is_the_runs_own_is_hit(
    machines: Lab, handle: RunHandle
) -> None:
    shared = LabMachines(machines, handle.run, lambda: [handle.run])  # itself in the part of the other
    with pytest.raises(ClusterError, match=r"lab-2 is also a machine of chaos\.1"):
        Chaos(handle, place_of(handle, shared), FaultPlan((Fault("freeze", "lab-2", seconds=1.0),))).run()
    assert machines.node(2).machine() == "running"

    plain = place_of(handle)
    assert {"kill-worker", "fill-disk", "corrupt-snapshot", "kill-container"} <= set(plain.kinds)
    with pytest.raises(ClusterError, match="freeze does not work on swarm here"):
        plain.check(Fault("freeze", "lab-2"))
    with pytest.raises(ClusterError, match="cannot be killed from lab-1"):
        plain.check(Fault("kill-container", "lab-2"))
    assert Chaos(handle, plain, FaultPlan((Fault("kill-worker", "2"),))).run().ok
    result = handle.wait(timeout=60)
    assert result.reason.endswith("killed by SIGKILL")
