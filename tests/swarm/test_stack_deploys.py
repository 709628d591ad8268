"""The stack on a real Swarm: it deploys, trains, explains itself and goes without leaving anything."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swarmtrain.docker.command import Docker
from swarmtrain.errors import ClusterError
from swarmtrain.job import Job, LoadedJob
from swarmtrain.lab.lab import Lab
from swarmtrain.launchers.base import Launcher, Run
from swarmtrain.launchers.docker import DockerLauncher
from swarmtrain.launchers.swarm import SwarmLauncher
from swarmtrain.protocol.ask import ask
from swarmtrain.protocol.requests import LogsRequest, StatusRequest
from swarmtrain.protocol.status import Status

GUIDE = Path(__file__).parents[2] / "examples" / "guide"
PATIENCE = 240.0


@pytest.fixture
def swarm(whole_lab: Lab) -> SwarmLauncher:
    return SwarmLauncher(Docker(host=whole_lab.host))


def guide(image: str, name: str, **keys: Any) -> LoadedJob:
    """The guide's own example, two short epochs of it."""
    defaults = {"script": "training_code.py", "args": ["2", "1", "--batch_size", "64"], "nodes": 2}
    return LoadedJob.of(Job(**{"name": name, "image": image, **defaults, **keys}), GUIDE)


@contextlib.contextmanager
def submitted(launcher: Launcher, job: LoadedJob) -> Iterator[Run]:
    """A run that is removed at the end, whatever happens."""
    run = Run(job.job.name, 1, launcher.name)
    _remove(launcher, run)
    launcher.submit(launcher.check(job), run)
    try:
        yield run
    finally:
        _remove(launcher, run)


def _remove(launcher: Launcher, run: Run) -> None:
    if any(each == run for each in launcher.runs()):
        launcher.remove(run)


def ended(launcher: Launcher, run: Run) -> Status:
    """The status of the run once it has ended."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with launcher.connect(run) as link:
                (reply,) = ask(link, StatusRequest())
            if reply.status is not None and reply.status.has_ended:
                return reply.status
            state = f"{reply.status}"
        except ClusterError as error:
            state = f"out of reach: {error}"
        assert time.monotonic() < deadline, f"not over: {state}, {launcher.trouble(run).text}"
        time.sleep(0.5)


def output(launcher: Launcher, run: Run) -> str:
    with launcher.connect(run) as link:
        return "\n".join(line.text for reply in ask(link, LogsRequest()) for line in reply.lines or ())


def left_behind(whole_lab: Lab, run: Run) -> list[str]:
    """What a removed run still has: objects of the Swarm, and files in the volumes of the nodes."""
    docker = Docker(host=whole_lab.host)
    label = f"label=com.docker.stack.namespace={run.stack}"
    found = [
        f"{kind} {each}"
        for kind in ("service", "network", "config", "secret")
        for each in docker.run(kind, "ls", "--quiet", "--filter", label).split()
    ]
    for node in whole_lab.nodes():
        find = f"find /var/lib/docker/volumes/swarmtrain/_data -path '*{run.id}*' 2>/dev/null || true"
        found += whole_lab.engine.run("exec", node.container, "sh", "-c", find).split()
    return found


@pytest.mark.parametrize(
    ("name", "keys", "line"),
    [
        ("counted", {"nodes": 3}, "rank 2 of 3"),
        ("named", {"nodes": ["lab-3", "lab-1"], "network": "host"}, "rank 1 of 2"),
    ],
)
def test_the_guides_example_trains_and_leaves_nothing(
    whole_lab: Lab, swarm: SwarmLauncher, torch_image: str, name: str, keys: dict[str, Any], line: str
) -> None:
    job = guide(torch_image, name, **keys)
    with submitted(swarm, job) as run:
        status = ended(swarm, run)
        text = output(swarm, run)
        assert status.state == "succeeded", status
        assert line in text
        assert "Epoch 1 | Snapshot saved to snapshot.pt" in text
        assert not swarm.trouble(run)
        assert run in swarm.runs()
        if name == "named":
            ranks = {worker.rank: worker.node for worker in status.workers}
            assert ranks == {0: "lab-3", 1: "lab-1"}
    assert left_behind(whole_lab, run) == []
    assert run not in swarm.runs()


@pytest.mark.long
def test_two_runs_share_an_existing_network(swarm: SwarmLauncher, torch_image: str) -> None:
    """Each finds its own coordinator, although both have a service of that name there."""
    name = "shared-by-tests"
    swarm.docker.completed("network", "create", "--driver", "overlay", "--attachable", name)
    try:
        keys = {"nodes": 1, "network": {"existing": name}}
        with submitted(swarm, guide(torch_image, "one", **keys)) as one:
            with submitted(swarm, guide(torch_image, "two", **keys)) as two:
                assert ended(swarm, two).run == "two.1"
            assert ended(swarm, one).run == "one.1"
    finally:
        swarm.docker.run("network", "rm", name)


def test_an_image_that_no_node_has_is_named(swarm: SwarmLauncher) -> None:
    with submitted(swarm, guide("nobody/nothing:1", "imageless")) as run:
        assert "no image nobody/nothing:1" in _first_trouble(swarm, run)
        with pytest.raises(ClusterError, match=r"is not running: lab-1.* no image nobody/nothing:1 and"):
            swarm.connect(run)


def test_a_directory_that_the_nodes_lack_is_named(swarm: SwarmLauncher, torch_image: str) -> None:
    with submitted(swarm, guide(torch_image, "bindless", volumes=["/nowhere:/data"])) as run:
        assert "no directory /nowhere" in _first_trouble(swarm, run)


def _first_trouble(launcher: Launcher, run: Run) -> str:
    deadline = time.monotonic() + 60
    while not (trouble := launcher.trouble(run)):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    return trouble.text


def test_bad_requests_change_nothing(whole_lab: Lab, swarm: SwarmLauncher, torch_image: str) -> None:
    before = swarm.runs()
    for keys, words in (
        ({"nodes": 9}, "needs 9 nodes"),
        ({"nodes": ["lab-1", "lab-9"]}, "no node lab-9"),
        ({"network": {"existing": "nowhere"}}, "no network nowhere"),
        ({"resources": {"gpus": 99}}, "declares 2 gpu, not 99"),
    ):
        job = guide(torch_image, "bad", **keys)
        with pytest.raises(ClusterError, match=words):
            swarm.check(job)
    assert swarm.runs() == before
    assert left_behind(whole_lab, Run("bad", 1, "swarm")) == []


def test_a_stack_of_somebody_else_stays_as_it_is(swarm: SwarmLauncher, torch_image: str) -> None:
    label = "com.docker.stack.namespace=taken-1"
    swarm.docker.run(
        *("service", "create", "--detach", "--name", "taken-1_web", "--label", label, "--replicas", "0"),
        *("--no-resolve-image", torch_image),
    )
    try:
        with pytest.raises(ClusterError, match="a stack taken-1 already, which is not swarmtrain's"):
            swarm.submit(swarm.check(guide(torch_image, "taken")), Run("taken", 1, "swarm"))
        assert "taken-1_web" in swarm.docker.run("service", "ls", "--format", "{{.Name}}")
    finally:
        swarm.docker.run("service", "rm", "taken-1_web")


def test_a_plan_on_disk_deploys_without_us(
    whole_lab: Lab, swarm: SwarmLauncher, torch_image: str, tmp_path: Path
) -> None:
    job = guide(torch_image, "exported")
    run = Run("exported", 1, "swarm")
    planned = swarm.plan(job)
    path = planned.write(tmp_path)
    assert planned.name == run.stack
    subprocess.run(
        ["docker", "--host", whole_lab.host, "stack", "deploy", "-c", str(path), planned.name],
        check=True,
        timeout=120,
    )
    try:
        assert run in swarm.runs()
        assert ended(swarm, run).state == "succeeded"
    finally:
        _remove(swarm, run)
    assert left_behind(whole_lab, run) == []


@pytest.mark.parametrize("network", ["overlay", pytest.param("host", marks=pytest.mark.long)])
def test_a_plain_plan_trains_with_stock_torchrun(
    whole_lab: Lab,
    swarm: SwarmLauncher,
    torch_image: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    network: str,
) -> None:
    monkeypatch.setenv("FROM_HERE", "yes")
    job = guide(torch_image, f"plain-{network}", network=network, env={"FROM_HERE": None})
    name = job.job.name
    path = swarm.plan(job, is_plain=True).write(tmp_path)
    docker = swarm.docker
    subprocess.run(
        ["docker", "--host", whole_lab.host, "stack", "deploy", "-c", str(path), name],
        check=True,
        timeout=120,
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            format_ = ("--no-trunc", "--format", "{{.Name}} {{.CurrentState}} {{.Error}}")
            states = [
                line for line in docker.run("stack", "ps", name, *format_).splitlines() if "_node" in line
            ]
            if sum(" Complete " in line for line in states) == 2:
                break
            assert time.monotonic() < deadline, states
            time.sleep(1)
        text = "".join(docker.run("service", "logs", "--raw", f"{name}_node{index}") for index in (0, 1))
        assert "Epoch 1 | Snapshot saved to snapshot.pt" in text
        assert "FROM_HERE=yes" in docker.run("service", "inspect", f"{name}_node0")
    finally:
        docker.run("stack", "rm", name)
        for node in whole_lab.nodes():
            _remove_volume(node.docker, f"{name}-work")


def _remove_volume(docker: Docker, name: str) -> None:
    """A volume can go once the container that used it has."""
    for _ in range(60):
        if docker.completed("volume", "rm", "--force", name).returncode == 0:
            return
        time.sleep(0.5)
    raise AssertionError(f"the volume {name} stays in use")


def test_the_docker_launcher_trains_on_one_engine(whole_lab: Lab, torch_image: str) -> None:
    launcher = DockerLauncher(Docker(host=whole_lab.node(2).host))
    job = guide(torch_image, "oneengine", env={"WANDB_API_KEY": "very-secret"})
    with submitted(launcher, job) as run:
        assert ended(launcher, run).state == "succeeded"
        assert "rank 1 of 2" in output(launcher, run)
        ids = launcher.docker.run(
            "ps", "--all", "--quiet", "--filter", "label=swarmtrain.run=oneengine.1"
        ).split()
        assert len(ids) == 3
        assert "very-secret" not in launcher.docker.run("inspect", *ids)
    assert (
        launcher.docker.run("network", "ls", "--quiet", "--filter", "label=swarmtrain.run=oneengine.1") == ""
    )
    assert left_behind(whole_lab, run) == []


def test_the_docker_launcher_refuses_an_image_that_is_not_there(whole_lab: Lab) -> None:
    launcher = DockerLauncher(Docker(host=whole_lab.host))
    with pytest.raises(ClusterError, match="no image nobody/nothing:1"):
        launcher.check(guide("nobody/nothing:1", "imageless"))
