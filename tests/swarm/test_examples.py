"""The examples on the real Swarm: the demo's digits, the guide's script resumed, the guide's own image and stack."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle
from swarmtrain.docker.command import Docker
from swarmtrain.job import LoadedJob, load
from swarmtrain.job.flags import Override
from swarmtrain.lab.lab import Lab

EXAMPLES = Path(__file__).parents[2] / "examples"
GUIDE = EXAMPLES / "guide"
STACK = "guide-by-hand"


@pytest.fixture
def client(whole_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setenv("DOCKER_HOST", whole_lab.host)
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    return Client(on="swarm")


def text_of(handle: RunHandle) -> str:
    return "\n".join(text for batch in handle.logs() for *_, text in batch)


def test_digits_train_on_three_nodes_to_97_percent_with_equal_weights(
    client: Client, torch_image: str, tmp_path: Path
) -> None:
    job = load(EXAMPLES / "digits" / "swarmtrain.yaml", {"image": Override(torch_image, "--image")})
    handle = client.run(job)
    try:
        assert handle.wait(timeout=300).state == "succeeded"
        status = handle.status()
        assert {worker.node for worker in status.workers} == {"lab-1", "lab-2", "lab-3"}
        assert (status.eval or {})["accuracy"] >= 0.97
        assert len(set((status.weights or {}).values())) == 1
        assert sorted(status.weights or ()) == [0, 1, 2]
        assert status.snapshot is not None and status.snapshot.path is not None
        fetched = handle.fetch(status.snapshot.path, to=tmp_path / "snapshot.pt")
        assert fetched.bytes == status.snapshot.bytes
    finally:
        handle.remove(force=True)


@pytest.mark.long
def test_the_guides_script_goes_on_where_it_was(client: Client, torch_image: str) -> None:
    handles: list[RunHandle] = []
    try:
        for epochs, resume in ((4, False), (8, True)):
            args = (str(epochs), "2", "--batch_size", "64", "--snapshot_path", "snapshot.pt")
            job = Job(script="training_code.py", args=args, name="again", nodes=3, image=torch_image)
            handles.append(client.run(LoadedJob.of(job, GUIDE), resume=resume))
            assert handles[-1].wait(timeout=180).state == "succeeded"
        first, second = (text_of(handle) for handle in handles)
        assert re.findall(r"Epoch (\d+) \| Steps", first) == ["0", "1", "2", "3"]
        assert re.findall(r"Epoch (\d+) \| Steps", second) == ["4", "5", "6", "7"]
    finally:
        for handle in reversed(handles):
            handle.remove(force=True)


@pytest.fixture
def guides_image(whole_lab: Lab, torch_image: str) -> str:
    """The image of the guide's Dockerfile, built on every node on top of one that is there."""
    tag = "swarmtrain/guide:test"
    for node in whole_lab.nodes():
        node.docker.run(
            "build", "--quiet", "--build-arg", f"BASE_IMAGE={torch_image}", "--tag", tag, str(GUIDE)
        )
    return tag


@pytest.fixture
def by_hand(whole_lab: Lab, guides_image: str) -> Iterator[Docker]:
    """Docker, as somebody uses it who has never heard of us."""
    docker = Docker(host=whole_lab.host, env={"IMAGE": guides_image})
    yield docker
    _remove(docker)
    for node in whole_lab.nodes():
        node.docker.completed("volume", "rm", "--force", f"{STACK}_snapshots")


def _remove(docker: Docker) -> None:
    limit = time.monotonic() + 60
    docker.completed("stack", "rm", STACK)
    while STACK in docker.run("network", "ls") or STACK in docker.run("ps", "--all"):
        assert time.monotonic() < limit
        time.sleep(2.0)
        docker.completed("stack", "rm", STACK)  # it may say that the network is in use, and leave it


def test_the_guides_image_and_stack_train_and_go_on(by_hand: Docker) -> None:
    said = []
    for expected in ("Epoch 19 |", "Resuming from"):
        compose = str(GUIDE / "docker-compose.yml")
        by_hand.run("stack", "deploy", "--resolve-image", "never", "--compose-file", compose, STACK)
        limit = time.monotonic() + 180
        while expected not in (text := _logs(by_hand)):
            assert time.monotonic() < limit, text
            time.sleep(1)
        said.append(text)
        _remove(by_hand)
    assert "rank 2 of 3" in said[0]
    assert "Epoch 0 |" not in said[1]


def _logs(docker: Docker) -> str:
    """What the three services wrote; a service without a task yet has no logs."""
    done = [docker.completed("service", "logs", "--raw", f"{STACK}_node{number}") for number in range(3)]
    return "\n".join(each.stdout.decode(errors="replace") for each in done)
