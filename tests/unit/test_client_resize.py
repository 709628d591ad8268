"""Another number of nodes: what the coordinator, the launcher and the person are told, and in which order."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any, cast

import pytest
from client_fakes import Coordinator, FakeLauncher, Receive, status, told

from swarmtrain import ClusterError
from swarmtrain.control import resize
from swarmtrain.control.client import Client
from swarmtrain.docker.command import Docker
from swarmtrain.launchers.base import Run
from swarmtrain.launchers.docker import DockerLauncher
from swarmtrain.launchers.swarm import SwarmLauncher
from swarmtrain.protocol.status import Status
from swarmtrain.wire.frames import Message


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resize, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(resize, "_TROUBLE_SECONDS", 0.0)
    monkeypatch.setattr(resize, "_UNKNOWN_SECONDS", -1.0)


def on(*nodes: str, spare: str = "", can_pause: bool | None = True, **more: Any) -> dict[str, Any]:
    """The status of a run that trains on these nodes; ``spare`` is another one that is there."""
    workers = [
        {"rank": rank, "local_rank": 0, "node": node, "state": "running"} for rank, node in enumerate(nodes)
    ]
    members = [{"node": node, "state": "running"} for node in nodes]
    members += [{"node": spare, "state": "joined"}] if spare else []
    return status(workers=workers, members=members, **{"cooperative": can_pause, "healing": None, **more})


def coordinator(*statuses: dict[str, Any]) -> Coordinator:
    """Its status when it is told, and then whenever it is asked; the last one stays."""
    left = list(statuses)

    def answer(request: Message, receive: Receive) -> Iterator[Message]:
        yield {"status": left.pop(0) if len(left) > 1 else left[0], "done": {}}

    return Coordinator(resize=answer, status=answer, events=told({"done": {}}))


def resized(launcher: FakeLauncher, nodes: int, wait: bool = True) -> tuple[list[str], Status]:
    words: list[str] = []
    found = Client("local", {"local": launcher}).get("digits").resize(nodes, wait=wait, tell=words.append)
    return words, found


def test_agents_are_started_before_the_group_can_grow() -> None:
    launcher = FakeLauncher(
        digits_1=coordinator(on("a"), on("a"), on("a", healing="b is there"), on("a", "b"))
    )
    _, found = resized(launcher, 2)
    assert resize.training(found) == {"a", "b"}
    assert launcher.calls == [("resize", "digits.1", 2, ["a"]), ("resize", "digits.1", 2, ["a", "b"])]


def test_agents_go_once_the_group_has_shrunk() -> None:
    shrinking = (on("a", "b"), on("a", "b"), on("a", state="starting", healing="1 nodes are wanted"), on("a"))
    launcher = FakeLauncher(digits_1=coordinator(*shrinking))
    resized(launcher, 1)
    assert launcher.calls == [("resize", "digits.1", 1, ["a"])]


def test_nodes_that_are_told_to_go_are_waited_for() -> None:
    """Swarm may choose one that trains: the group changes once more before all is done."""
    leaving = (
        on("a", spare="b"),
        on("a", spare="b", healing="a was told to leave"),
        on("b", spare="a"),
        on("b"),
    )
    launcher = FakeLauncher(digits_1=coordinator(on("a", "b"), *leaving))
    _, found = resized(launcher, 1)
    assert resize.training(found) == {"b"}
    assert launcher.calls == [("resize", "digits.1", 1, ["a"])]


def test_without_waiting_nobody_is_told_to_go() -> None:
    launcher = FakeLauncher(digits_1=coordinator(on("a", "b")))
    resized(launcher, 1, wait=False)
    assert launcher.calls == []
    resized(launcher, 3, wait=False)
    assert launcher.calls == [("resize", "digits.1", 3, ["a", "b"])]


@pytest.mark.parametrize(
    ("can_pause", "words"),
    [
        (
            False,
            "its script cannot save and pause, so nothing is changed now; it goes on with 1 node when it starts",
        ),
        (None, "nobody tells whether its script can save and pause"),
    ],
)
def test_a_script_that_cannot_pause_is_not_waited_for(can_pause: bool | None, words: str) -> None:
    launcher = FakeLauncher(digits_1=coordinator(on("a", "b", can_pause=can_pause)))
    told, _ = resized(launcher, 1)
    assert told[0].startswith(words)
    assert launcher.calls == []  # an agent that is told to go would end the generation


def test_a_node_that_has_no_place_is_not_waited_for() -> None:
    launcher = FakeLauncher(digits_1=coordinator(on("a", "b")))
    launcher.troubles = "Swarm finds no node for agent 3"
    with pytest.raises(ClusterError, match=r"goes on with 2 nodes: Swarm finds no node for agent 3"):
        resized(launcher, 3)


def test_a_run_that_ends_meanwhile_is_not_waited_for() -> None:
    launcher = FakeLauncher(digits_1=coordinator(on("a"), on("a", state="succeeded")))
    with pytest.raises(ClusterError, match="has ended meanwhile: succeeded"):
        resized(launcher, 2)


# ---- launchers -------------------------------------------------------------------------------------------------------


class Engine:
    """A docker that inspects what it is given, and writes down what it is told to do."""

    def __init__(self, *inspected: dict[str, Any]) -> None:
        self.inspected = inspected
        self.told: list[tuple[str, ...]] = []

    def run(self, *args: str, timeout: float) -> str:
        if "--quiet" in args:
            return "\n".join(str(each.get("Id", each.get("ID"))) for each in self.inspected)
        self.told.append(args)
        return ""

    def completed(self, *args: str, timeout: float) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(args, 0, json.dumps(self.inspected).encode(), b"")


def container(node: str, state: str, role: str = "agent") -> dict[str, Any]:
    return {
        "Id": f"id-{node}",
        "Name": f"/digits-1-{node}",
        "Config": {"Hostname": node, "Labels": {"swarmtrain.role": role}, "StopTimeout": 70},
        "State": {
            "Status": state,
            "ExitCode": 143 if state == "exited" else 0,
            "Error": "",
            "OOMKilled": False,
        },
    }


@pytest.mark.parametrize(
    ("nodes", "busy", "expected"),
    [
        (3, {"node1"}, []),
        (4, {"node1"}, [("start", "id-node2")]),
        (2, {"node0", "node3"}, [("stop", "id-node1")]),
        (1, {"node3"}, [("stop", "id-node0", "id-node1")]),
    ],
)
def test_containers_are_started_or_stopped(
    nodes: int, busy: set[str], expected: list[tuple[str, ...]]
) -> None:
    states = ["running", "running", "exited", "running"]
    agents = [container(f"node{index}", state) for index, state in enumerate(states)]
    engine = Engine(container("coordinator", "running", "coordinator"), *agents)
    launcher = DockerLauncher(cast(Docker, engine))
    launcher.resize(Run("digits", 1, "docker"), nodes, busy)
    assert engine.told == expected
    assert not launcher.trouble(Run("digits", 1, "docker"))  # it was told to go: nothing is wrong


def service(name: str, role: str, replicas: int) -> dict[str, Any]:
    labels = {"com.docker.stack.namespace": "digits-1", "swarmtrain.job": "digits", "swarmtrain.role": role}
    mode = {"Replicated": {"Replicas": replicas}}
    return {
        "ID": name,
        "Spec": {"Name": name, "Labels": labels, "Mode": mode, "TaskTemplate": {"ContainerSpec": {}}},
    }


def test_the_agents_service_is_scaled() -> None:
    engine = Engine(service("digits-1_agent", "agent", 3), service("digits-1_coordinator", "coordinator", 1))
    launcher = SwarmLauncher(cast(Docker, engine))
    launcher.resize(Run("digits", 1, "swarm"), 3, ())
    assert engine.told == []
    launcher.resize(Run("digits", 1, "swarm"), 2, ())
    assert engine.told == [("service", "scale", "--detach", "digits-1_agent=2")]


def test_named_nodes_are_not_scaled() -> None:
    engine = Engine(service("digits-1_agent-0", "agent", 1), service("digits-1_agent-1", "agent", 1))
    with pytest.raises(ClusterError, match=r"the nodes of digits\.1 are named"):
        SwarmLauncher(cast(Docker, engine)).resize(Run("digits", 1, "swarm"), 1, ())
