"""Runs on a real Swarm that go wrong: the cause is named within seconds, files stay within reach, rm leaves nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from firewall import dropped
from waiting import until

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle
from swarmtrain.docker.command import Docker
from swarmtrain.errors import ClusterError
from swarmtrain.lab.lab import Lab
from swarmtrain.swarm import stack, tasks

STEPPING = """
import time
import torch, torch.distributed as dist
dist.init_process_group("gloo")
keep = []
for step in range(2400):
    dist.all_reduce(torch.ones(4))
    if HUNGRY and dist.get_rank() == 1:
        keep.append(torch.ones(10_000_000))
    if step == 5:
        open(f"stepping-{dist.get_rank()}", "w").write("content")
    time.sleep(0.05)
"""

# What is below the init of a container is stopped, and not the container.
STOP = """
import os, signal
stats = [open(f"/proc/{each}/stat").read() for each in os.listdir("/proc") if each.isdigit()]
below = [int(each.split()[0]) for each in stats if each.rpartition(")")[2].split()[1] == "1"]
for each in below:
    os.kill(each, signal.SIGSTOP)
print(len(below))
"""

Start = Callable[..., RunHandle]


@pytest.fixture
def start(lab: Lab, torch_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts runs on the lab and removes them afterwards."""
    monkeypatch.setenv("DOCKER_HOST", lab.host)
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    monkeypatch.chdir(tmp_path)
    handles: list[RunHandle] = []

    def started(name: str, text: str, **settings: object) -> RunHandle:
        (tmp_path / "train.py").write_text(text)
        defaults = {"nodes": 3, "image": torch_image, "workers_per_node": 1, "restart": "never"}
        settings = {"name": name} | defaults | settings
        job = Job(script="train.py", **settings)  # type: ignore[arg-type]
        handles.append(Client(on="swarm").run(job))
        return handles[-1]

    yield started
    kept = {handle.id for handle in Client(on="swarm").runs()}
    for handle in handles:
        if handle.id in kept:
            handle.remove(force=True)


def wait_for(handle: RunHandle, kind: str, seconds: float = 120) -> None:
    limit = time.monotonic() + seconds
    while kind not in [event.kind for event in handle.events()]:
        assert time.monotonic() < limit, f"no {kind} in {[event.text for event in handle.events()]}"
        time.sleep(0.3)


def agent_on(lab: Lab, node: int, name: str) -> str:
    (container,) = lab.node(node).docker.run("ps", "-q", "--filter", f"name={name}-1_agent").split()
    return container


def test_a_killed_container_is_named_as_the_cause(lab: Lab, start: Start) -> None:
    handle = start("kill", STEPPING.replace("HUNGRY", "False"))
    wait_for(handle, "started")
    began = time.monotonic()
    lab.node(2).docker.run("kill", agent_on(lab, 2, "kill"))
    result = handle.wait(timeout=60)
    assert time.monotonic() - began < 20
    assert result.state == "failed"
    assert result.reason.startswith("lab-2 was lost with rank ")


def test_running_out_of_memory_is_recognised(start: Start) -> None:
    handle = start("hungry", STEPPING.replace("HUNGRY", "True"), resources={"memory": "900m"})
    result = handle.wait(timeout=180)
    assert result.state == "failed"
    assert "rank 1 on lab-" in result.reason
    assert "out of memory" in result.reason


def test_commands_and_files_reach_every_node_also_after_the_end_until_rm_leaves_nothing(
    start: Start, tmp_path: Path, lab: Lab
) -> None:
    handle = start("reach", STEPPING.replace("HUNGRY", "False"))
    wait_for(handle, "started")
    ranks = {worker.rank: worker.node for worker in handle.status().workers}
    assert sorted(ranks.values()) == ["lab-1", "lab-2", "lab-3"]
    assert handle.exec(["sh", "-c", "exit 7"], node="lab-3") == 7
    for rank, node in ranks.items():
        assert handle.exec(["sh", "-c", f"until [ -s stepping-{rank} ]; do sleep 0.1; done"], node=node) == 0
    handle.stop()
    assert handle.wait(timeout=60).state == "stopped"
    for rank, node in ranks.items():
        fetched = handle.fetch(f"stepping-{rank}", to=tmp_path / f"fetched-{rank}", node=node)
        assert (fetched.node, fetched.path.read_text()) == (node, "content")
    assert any("stopped" in event.text for event in handle.events())
    handle.remove()
    assert objects_of(lab, "reach-1") == [] and files_on_nodes(lab, "reach") == []


@pytest.mark.parametrize("on", ["docker", pytest.param("swarm", marks=pytest.mark.long)])
def test_a_coordinator_that_was_stopped_is_woken_by_its_init(
    machines: Lab, torch_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on: str
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["python3", "-c", "import time; time.sleep(5)"]
    handle = Client(on).run(Job(command=command, name="woken", image=torch_image, nodes=2))
    try:
        wait_for(handle, "started")
        docker = Docker(host=machines.host)
        (coordinator,) = docker.run(
            "ps", "--quiet", "--filter", f"name={handle.run.stack}.coordinator"
        ).split()
        assert docker.run("exec", coordinator, "python3", "-c", STOP).strip() == "1"
        assert handle.wait(timeout=60).state == "succeeded"
        said = docker.completed("logs", coordinator)
        assert b"was stopped; it goes on" in said.stdout + said.stderr
        assert docker.run("inspect", "--format", "{{.RestartCount}}", coordinator).strip() == "0"
    finally:
        handle.remove(force=True)


def test_a_node_that_the_runs_network_does_not_reach_is_named_with_what_to_look_at(
    start: Start, lab: Lab
) -> None:
    with dropped(lab, 3, "--protocol", "udp", "--dport", "4789"):
        result = start("deaf", "print('x')", start="cold", join_deadline="12s").wait(timeout=90)
    assert result.state == "failed"
    assert result.reason.startswith(
        "2 of 3 nodes joined (lab-1, lab-2); Swarm has started the agent on lab-3, but it was never heard"
    )


@pytest.mark.long
def test_what_never_starts_is_not_tried_for_ever_where_nobody_is_there_to_end_it(
    machines: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stack, "ATTEMPTS", 3)
    (tmp_path / "train.py").touch()
    waits = {"join_deadline": "1s", "restart": {"node_timeout": "1s"}}
    job = Job.model_validate(
        {"script": "train.py", "name": "never", "image": "nosuch.invalid/train:1", **waits}
    )
    client = Client(on="swarm")
    client.prepare(job).start()  # and its client is killed: nobody looks at it again
    docker = Docker(host=machines.host)
    try:
        until(lambda: given_up(docker, "never-1"), 120, "Swarm makes no more attempts")
    finally:
        client.get("never").remove(force=True)


def given_up(docker: Docker, name: str) -> bool:
    """Whether every service of a stack has been tried, and for some seconds none is any more."""
    before = {each.created for each in tasks.read(docker, name)}
    time.sleep(5.0)
    found = tasks.read(docker, name)
    tried = len({each.service for each in found}) == 2 and not any(each.alive for each in found)
    return tried and before == {each.created for each in found}


def test_a_run_that_was_refused_leaves_its_record_and_nothing_else(
    start: Start, lab: Lab, torch_image: str
) -> None:
    """One node lacks the image, so the others have begun to work for it."""
    image = "swarmtrain-test/two-of-three:1"
    for node in lab.nodes()[:2]:
        node.docker.run("tag", torch_image, image)
    try:
        began = time.monotonic()
        with pytest.raises(ClusterError, match="lab-3 has no image swarmtrain-test/two-of-three:1"):
            start("absent", "print('x')", image=image).wait(timeout=60)
        assert time.monotonic() - began < 60
        assert objects_of(lab, "absent-1") == ["config absent-1_record"]
        until(lambda: not left_on_nodes(lab, "absent"), what="the nodes being clean")
        kept = Client(on="swarm").get("absent")
        assert (kept.is_live(), kept.status().state) == (False, "failed")
        assert "lab-3 has no image" in kept.status().reason
        kept.remove()
        assert objects_of(lab, "absent-1") == []
    finally:
        for node in lab.nodes()[:2]:
            node.docker.run("rmi", image)


def objects_of(lab: Lab, stack: str) -> list[str]:
    """What the Swarm holds under the name of a stack."""
    kinds = ("service", "network", "config", "secret")
    listed = [(kind, lab.manager.docker.run(kind, "ls", "--format", "{{.Name}}").split()) for kind in kinds]
    return [f"{kind} {name}" for kind, found in listed for name in found if name.startswith(stack)]


def left_on_nodes(lab: Lab, job: str) -> list[str]:
    """Containers and files of a job on the lab's machines."""
    left = files_on_nodes(lab, job)
    for node in lab.nodes():
        left += node.docker.run("ps", "--all", "--quiet", "--filter", f"name={job}-").split()
    return left


def files_on_nodes(lab: Lab, job: str) -> list[str]:
    """What the lab's machines have on their disks of a job's runs."""
    found = []
    for node in lab.nodes():
        (volume,) = node.docker.json("volume", "inspect", "swarmtrain")
        found += node.exec("find", volume["Mountpoint"], "-name", f"{job}.*").split()
    return found


def test_addresses_that_a_removed_network_still_holds_are_waited_for(start: Start, lab: Lab) -> None:
    """A node lets go of a removed network's subnet seconds after the manager has given it to the next one."""
    manager, late = lab.manager.docker, lab.node(3).docker
    subnet = ("--subnet", "10.77.7.0/24")
    manager.run("network", "create", "--driver", "overlay", "--attachable", *subnet, "given-away")
    late.run("network", "create", "--driver", "bridge", *subnet, "not-yet-gone")
    letting_go = threading.Timer(8.0, lambda: late.run("network", "rm", "not-yet-gone"))
    try:
        letting_go.start()
        handle = start("patient", "print('done')", start="cold", network={"existing": "given-away"})
        assert handle.wait(timeout=120).state == "succeeded"
        handle.remove()
    finally:
        letting_go.join()
        until(lambda: manager.completed("network", "rm", "given-away").returncode == 0, what="it going")
