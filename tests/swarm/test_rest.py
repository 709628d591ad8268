"""What a run leaves in a Swarm when it is over: nothing that burns or stays up for ever, and all that it knew."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from waiting import ticks, until

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle
from swarmtrain.docker.command import Docker
from swarmtrain.lab.lab import Lab

REST = 5.0  # seconds
TICKS = 3  # hundredths of a second that a process may take in them; one that spins takes a hundred

SCRIPT = "open('out.txt', 'w').write('kept'); print('hello')"


@pytest.fixture
def ended(
    machines: Lab, torch_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., RunHandle]:
    """Makes a run that has ended."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(SCRIPT)

    def make(on: str = "swarm", **keys: object) -> RunHandle:
        job = Job.model_validate(
            {"script": "train.py", "name": "rest", "image": torch_image, "nodes": 3, "start": "cold", **keys}
        )
        handle = Client(on).run(job)
        assert handle.wait(timeout=120).state == "succeeded"
        return Client(on).get("rest")

    return make


def burnt(lab: Lab, handle: RunHandle) -> dict[str, int]:
    """Processor time of every container of a run on every node."""
    taken: dict[str, int] = {}
    for node in lab.nodes():
        docker = Docker(host=lab.names.host(node.index))
        for each in docker.run("ps", "--quiet", "--filter", f"name={handle.run.stack}_").split():
            # of all of its processes: what burns may be below an init
            stats = docker.run("exec", each, "sh", "-c", "cat /proc/[0-9]*/stat")
            taken[each] = sum(map(ticks, stats.splitlines()))
    return taken


def test_helpers_that_nobody_asks_and_a_coordinator_at_rest_burn_nothing(
    machines: Lab, ended: Callable[..., RunHandle], tmp_path: Path
) -> None:
    handle = ended()
    try:
        assert handle.snapshots.verify().silent == {}
        handle.fetch("out.txt", tmp_path / "out.txt", node="lab-2")
        time.sleep(1.0)
        before = burnt(machines, handle)
        assert len(before) == 3, "the coordinator on lab-1, helpers on the others"
        time.sleep(REST)
        after = burnt(machines, handle)
        assert {
            each: after[each] - before[each] for each in before if after[each] - before[each] > TICKS
        } == {}
    finally:
        handle.remove(force=True)


@pytest.mark.long
def test_helpers_go_after_their_idle_minute(machines: Lab, ended: Callable[..., RunHandle]) -> None:
    handle = ended()
    try:
        assert handle.snapshots.listing().silent == {}
        assert len(burnt(machines, handle)) == 3
        until(lambda: len(burnt(machines, handle)) == 1, 90, "helpers go")
    finally:
        handle.remove(force=True)


@pytest.mark.parametrize("on", ["swarm", pytest.param("docker", marks=pytest.mark.long)])
def test_a_coordinator_goes_some_time_after_the_end_and_comes_back_to_be_asked(
    machines: Lab, ended: Callable[..., RunHandle], tmp_path: Path, on: str
) -> None:
    handle = ended(on, linger="8s")  # longer than a busy machine takes to start a helper
    try:
        until(lambda: Client(on).get("rest").run.rests, 60, "the coordinator is let go")
        docker = Docker(host=machines.host)
        assert docker.run("ps", "--quiet", "--filter", "name=rest-1").split() == []
        known = Client(on).get("rest").glance()
        assert known is not None and (known.state, len(known.members)) == ("succeeded", 3)
        assert Client(on).get("rest").run.rests, "nothing was started for that"
        said: list[str] = []
        again = Client(on, say=said.append).get("rest")
        assert not again.is_live() and said == []  # the launcher knows that
        assert again.status().state == "succeeded"
        assert said == [
            "rest.1 has ended, and its coordinator has gone since: it is started again to be asked"
        ]
        assert sorted(line.text for lines in again.logs() for line in lines) == ["hello"] * 3
        assert [event.kind for event in again.events()][-1] == "ended"
        assert again.fetch("out.txt", tmp_path / "out.txt", node=again.status().members[1].node).bytes == 4
        assert len(said) == 1, "it stays while it is asked"
        until(lambda: Client(on).get("rest").run.rests, 60, "it is let go again")
    finally:
        handle.remove(force=True)
