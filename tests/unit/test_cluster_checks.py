"""A job and a cluster: where it goes, or the one sentence that says why it does not."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from swarmtrain.docker import toolkit
from swarmtrain.docker.command import Docker
from swarmtrain.errors import ClusterError, RequestError
from swarmtrain.job import Job, LoadedJob
from swarmtrain.launchers.local import checks as local_checks
from swarmtrain.swarm.cluster import (
    LABEL_PRETEND,
    Cluster,
    Network,
    Node,
    Service,
    node_of,
    read_networks,
)
from swarmtrain.swarm.eligibility import satisfies
from swarmtrain.swarm.placement import check_stack_name, choose, place

GIB = 1 << 30


def node(index: int, **facts: Any) -> Node:
    """lab-1 is the manager; each has 8 CPUs, 16 GiB and 2 GPUs."""
    defaults: dict[str, Any] = {
        "role": "manager" if index == 1 else "worker",
        "address": f"10.1.0.{index}",
        "cpus": 8.0,
        "memory": 16 * GIB,
        "generic": {"gpu": 2},
        "labels": {"rack": "a" if index < 3 else "b"},
    }
    return Node(**{"id": f"id{index}00000", "hostname": f"lab-{index}", **defaults, **facts})


def cluster(*nodes: Node, **facts: Any) -> Cluster:
    return Cluster("id100000", nodes or (node(1), node(2), node(3)), **facts)


def job(**keys: Any) -> Job:
    return Job(**{"name": "digits", "script": "train.py", "image": "torch", **keys})


OVERLAY = Network("shared", "overlay", "swarm", attachable=True)

REFUSED: list[tuple[str, dict[str, Any], Cluster, str, str]] = [
    (
        "unknown node",
        {"nodes": ["lab-2", "lab-4x"]},
        cluster(),
        "no node lab-4x (did you mean lab-",
        "lab-1, lab-2",
    ),
    (
        "node down",
        {"nodes": ["lab-2"]},
        cluster(node(1), node(2, state="down")),
        "node lab-2 is down",
        "node ls",
    ),
    (
        "node drained",
        {"nodes": ["lab-2"]},
        cluster(node(1), node(2, availability="drain")),
        "node lab-2 is drained",
        "docker node update --availability active lab-2",
    ),
    (
        "node paused",
        {"nodes": ["lab-2"]},
        cluster(node(1), node(2, availability="pause")),
        "node lab-2 is paused",
        "--availability active",
    ),
    (
        "two nodes of one name, named",
        {"nodes": ["twin"]},
        cluster(node(1), node(2, hostname="twin"), node(3, hostname="twin")),
        "2 nodes of this Swarm are called twin",
        "id200000 or id300000",
    ),
    (
        "the same node twice",
        {"nodes": ["lab-2", "id200000"]},
        cluster(),
        "lab-2 and id200000 are the same node",
        "workers_per_node",
    ),
    (
        "two nodes of one name, counted",
        {"nodes": 2},
        cluster(node(1), node(2, hostname="lab-1")),
        "2 nodes of this Swarm are called lab-1",
        "rename one",
    ),
    (
        "more than there are",
        {"nodes": 4},
        cluster(),
        "needs 4 nodes, and 3 of the Swarm's 3 nodes can",
        "join",
    ),
    (
        "more than are up",
        {"nodes": 3},
        cluster(node(1), node(2), node(3, state="down")),
        "needs 3 nodes, and 2 of the Swarm's 3 nodes can take part: lab-3 is down",
        "bring the others back",
    ),
    ("the least of a range", {"nodes": "4..6"}, cluster(), "needs 4 nodes", ""),
    (
        "constraints leave too few",
        {"nodes": 2, "constraints": ["node.labels.rack == b"]},
        cluster(),
        "lab-1 does not meet node.labels.rack == b",
        "--label-add",
    ),
    (
        "constraints exclude a named node",
        {"nodes": ["lab-1"], "constraints": ["node.labels.rack == b"]},
        cluster(),
        "node lab-1 does not meet",
        "named nodes too",
    ),
    ("no node at all", {"constraints": ["node.hostname == x"]}, cluster(), "no node can take part", ""),
    (
        "too few GPUs",
        {"nodes": 2, "resources": {"gpus": 4}},
        cluster(),
        "lab-1 declares 2 gpu, not 4",
        "node-generic-resources",
    ),
    (
        "GPUs of another kind",
        {"nodes": ["lab-1"], "resources": {"gpus": 1, "gpu_kind": "NVIDIA-GPU"}},
        cluster(),
        "node lab-1 declares 0 NVIDIA-GPU, not 1",
        "declare gpu: set resources.gpu_kind",
    ),
    (
        "too few CPUs",
        {"nodes": ["lab-1"], "resources": {"cpus": 9}},
        cluster(),
        "node lab-1 has 8 CPUs, not 9",
        "under resources:",
    ),
    (
        "too little memory",
        {"nodes": 1, "resources": {"memory": "32g"}},
        cluster(),
        "lab-1 has 16.0g of memory, not 32g",
        "ask for less",
    ),
    (
        "no such network",
        {"network": {"existing": "sharde"}},
        cluster(networks=(OVERLAY,)),
        "no network sharde (did you mean shared?)",
        "docker network create --driver overlay --attachable sharde",
    ),
    (
        "a network of one engine",
        {"network": {"existing": "local"}},
        cluster(networks=(Network("local", "bridge", "local"),)),
        "belongs to one engine",
        "docker network create",
    ),
    (
        "a network of another driver",
        {"network": {"existing": "other"}},
        cluster(networks=(Network("other", "weave", "swarm", attachable=True),)),
        "of the driver weave",
        "",
    ),
    (
        "a network that is not attachable",
        {"network": {"existing": "closed"}},
        cluster(networks=(Network("closed", "overlay", "swarm"),)),
        "not attachable",
        "--attachable closed",
    ),
    (
        "a worker as coordinator",
        {"coordinator": "lab-2"},
        cluster(),
        "lab-2, which is not a manager",
        "lab-1",
    ),
    (
        "a drained manager as coordinator",
        {},
        cluster(node(1, availability="drain"), node(2)),
        "the coordinator cannot be on lab-1, which is drained",
        "coordinator: names another manager",
    ),
    (
        "engines that encrypt differently",
        {"network": "encrypted"},
        cluster(node(1, engine="28.5.2"), node(2, engine="29.1.3"), node(3, engine="27.0.1")),
        "passes nothing between lab-2 (Docker 29.1.3) and lab-1 (Docker 28.5.2), lab-3 (Docker 27.0.1)",
        "update Docker to 29.2.1",
    ),
    (
        "engines that encrypt differently, on a network that exists",
        {"nodes": ["lab-2"], "network": {"existing": "locked"}},
        cluster(
            node(1, engine="25.0.12"),
            node(2, engine="25.0.13"),
            networks=(Network("locked", "overlay", "swarm", attachable=True, encrypted=True),),
        ),
        "lab-2 (Docker 25.0.13) and lab-1 (Docker 25.0.12)",
        "keep them apart",
    ),
]


@pytest.mark.parametrize(
    ("keys", "there", "words", "hint"), [row[1:] for row in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_refused(keys: dict[str, Any], there: Cluster, words: str, hint: str) -> None:
    with pytest.raises(ClusterError) as caught:
        place(job(**keys), there)
    assert words in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.hint


@pytest.mark.parametrize(
    ("keys", "engines"),
    [
        ({"network": "encrypted"}, ("29.0.0", "29.2.0")),
        ({"network": "encrypted"}, ("28.5.2", "29.2.1")),
        ({"network": "encrypted"}, ("26.1.5+dfsg1", "20.10.24+dfsg1")),
        ({"network": "encrypted"}, ("29.1.0", "")),
        ({}, ("29.1.0", "28.5.2")),
        ({"network": "encrypted", "constraints": ["node.hostname != lab-2"]}, ("29.1.0", "28.5.2")),
    ],
)
def test_engines_that_understand_each_other_may_encrypt(
    keys: dict[str, Any], engines: tuple[str, str]
) -> None:
    nodes = (node(index, engine=engine) for index, engine in enumerate(engines, start=1))
    assert place(job(**keys), cluster(*nodes)).coordinator


def test_an_existing_network_says_whether_it_is_encrypted() -> None:
    class Engine(Docker):
        def run(self, *args: str, **options: Any) -> str:
            return "a\nb\n"

        def completed(self, *args: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
            common = {"Driver": "overlay", "Scope": "swarm", "Attachable": True}
            found = [
                common
                | {"Name": "plain", "Options": {"com.docker.network.driver.overlay.vxlanid_list": "4"}},
                common | {"Name": "locked", "Options": {"encrypted": ""}},
            ]
            return subprocess.CompletedProcess(args, 0, json.dumps(found).encode(), b"")

    assert {each.name: each.encrypted for each in read_networks(Engine())} == {"plain": False, "locked": True}


def test_containers_of_engines_with_few_open_files_are_allowed_more() -> None:
    few = cluster(node(1, engine="28.5.2"), node(2, engine="29.3.0"))
    placement = place(job(), few)
    assert placement.open_files == 524288
    assert any("Docker 29.3.0 of lab-2 gives them 1024" in notice for notice in placement.notices)
    assert place(job(nodes=["lab-1"]), few).open_files is None
    assert place(job(), cluster()).open_files is None


@pytest.mark.parametrize("version", ["1.18.0", "1.18.2"])
def test_a_toolkit_that_does_not_listen_to_swarm_is_told_of(version: str) -> None:
    assert "update it to 1.19" in toolkit.warning(version, "lab-1")


@pytest.mark.parametrize("version", ["1.17.8", "1.19.0", ""])
def test_nothing_is_said_of_any_other_toolkit(version: str) -> None:
    assert toolkit.warning(version, "lab-1") == ""


def test_the_toolkit_of_this_machine_is_asked_for_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert toolkit.version() == ""
    program = tmp_path / "nvidia-ctk"
    program.write_text("#!/bin/sh\necho NVIDIA Container Toolkit CLI version 1.18.0\necho commit: f8daa5e\n")
    program.chmod(0o755)
    assert toolkit.version() == "1.18.0"
    program.write_text("#!/bin/sh\nexit 3\n")
    assert toolkit.version() == ""


def test_a_job_without_an_image_is_refused_on_any_cluster() -> None:
    with pytest.raises(RequestError, match="names no image"):
        place(job(image=None), cluster())


def test_named_nodes_are_pinned_by_hostname_in_the_order_of_their_ranks() -> None:
    placement = place(job(nodes=["lab-3", "id200000"]), cluster())
    assert [each.name for each in placement.places] == ["lab-3", "lab-2"]
    assert [each.constraint for each in placement.places] == [
        "node.hostname == lab-3",
        "node.hostname == lab-2",
    ]


def test_nodes_of_one_name_can_be_named_by_their_ids() -> None:
    twins = cluster(node(1), node(2, hostname="twin"), node(3, hostname="twin"))
    placement = place(job(nodes=["id200000", "id300000"]), twins)
    assert [each.constraint for each in placement.places] == ["node.id == id200000", "node.id == id300000"]
    assert [each.name for each in placement.places] == ["id200000", "id300000"]


def test_the_coordinator_is_on_the_manager_that_is_spoken_to() -> None:
    placement = place(job(), cluster())
    assert placement.coordinator.hostname == "lab-1"
    assert "the coordinator is on lab-1, the manager spoken to" in placement.notices


def test_every_choice_prints_its_reason() -> None:
    notices = place(job(nodes=2), cluster(node(1), node(2), node(3), node(4, state="down"))).notices
    assert "Swarm picks 2 of the nodes lab-1, lab-2, lab-3 (lab-4 is down)" in notices
    fewer = place(job(nodes="2..5"), cluster()).notices
    assert "the nodes are lab-1, lab-2, lab-3; the run starts with those that come, at least 2" in fewer


@pytest.mark.parametrize(
    ("resources", "declared", "advice"),
    [
        ({}, {"gpu": 2}, "--gpus N reserves N on each node"),
        ({}, {"NVIDIA-GPU": 2}, "--gpus N --gpu-kind NVIDIA-GPU reserves"),
        ({}, {"ssd": 1}, ""),
        ({"gpus": 0}, {"gpu": 2}, ""),
        ({"gpus": 1}, {"gpu": 2}, ""),
    ],
)
def test_gpus_that_are_declared_and_not_reserved_are_told_of(
    resources: dict[str, Any], declared: dict[str, int], advice: str
) -> None:
    notices = place(job(resources=resources), cluster(node(1, generic=declared))).notices
    told = [notice for notice in notices if notice.startswith("no GPU is reserved")]
    assert [advice in notice for notice in told] == [True] * bool(advice)


def test_gpus_that_a_lab_pretends_are_no_reason_to_worry() -> None:
    pretending = cluster(node(1, generic={"gpu": 2}, engine_labels={LABEL_PRETEND: "gpu"}))
    assert not any("GPU" in notice for notice in place(job(), pretending).notices)


@pytest.mark.parametrize(("engine", "warns"), [("20.10.24+dfsg1", True), ("28.2.2", False), ("", False)])
def test_old_managers_and_gpus_get_a_warning(engine: str, warns: bool) -> None:
    there = cluster(node(1, engine=engine), node(2, engine="20.10.24"))
    notices = place(job(resources={"gpus": 1}), there).notices
    assert any("issues/44378" in notice for notice in notices) is warns


def test_a_plain_stack_needs_names_for_a_count() -> None:
    chosen = choose(job(nodes=2), cluster(node(1, availability="active"), node(2, state="down"), node(3)))
    assert [each.name for each in chosen.places] == ["lab-1", "lab-3"]


def test_runs_on_the_host_network_get_ports_of_their_own() -> None:
    wanted = job(network="host")
    first = place(wanted, cluster()).port
    busy = Service("s", "other-1_coordinator", {"swarmtrain.port": str(first)})
    second = place(wanted, cluster(services=(busy,))).port
    assert 29400 <= first < 30400
    assert second != first
    assert place(job(), cluster(services=(busy,))).port == 29400


def test_a_stack_that_is_not_ours_is_not_overwritten() -> None:
    label = "com.docker.stack.namespace"
    theirs = cluster(services=(Service("1", "digits-1_web", {label: "digits-1"}),))
    with pytest.raises(ClusterError, match="a stack digits-1 already, which is not swarmtrain's"):
        check_stack_name("digits-1", "digits", theirs)
    ours = cluster(
        services=(Service("1", "digits-1_agent", {label: "digits-1", "swarmtrain.job": "digits"}),)
    )
    check_stack_name("digits-1", "digits", ours)
    check_stack_name("digits-2", "digits", theirs)


@pytest.mark.parametrize(
    ("constraint", "met"),
    [
        ("node.hostname == lab-1", True),
        ("node.hostname == LAB-1", True),
        ("node.hostname != lab-1", False),
        ("node.id == id100000", True),
        ("node.role == manager", True),
        ("node.platform.os == linux", True),
        ("node.platform.arch == arm64", False),
        ("node.labels.rack == a", True),
        ("node.labels.rack != b", True),
        ("node.labels.none == a", False),
        ("node.labels.none != a", True),
        ("engine.labels.rack == a", False),
        ("node.ip == 10.1.0.1", True),
        ("node.ip == 10.1.0.0/24", True),
        ("node.ip != 10.2.0.0/24", True),
    ],
)
def test_constraints_are_evaluated_as_swarm_does(constraint: str, met: bool) -> None:
    assert satisfies(node(1), constraint) is met


def test_a_node_is_read_from_what_docker_says() -> None:
    inspected = {
        "ID": "abc",
        "Spec": {"Role": "manager", "Availability": "active", "Labels": {"rack": "a"}},
        "Description": {
            "Hostname": "lab-1",
            "Platform": {"Architecture": "x86_64", "OS": "linux"},
            "Resources": {
                "NanoCPUs": 2500000000,
                "MemoryBytes": GIB,
                "GenericResources": [
                    {"NamedResourceSpec": {"Kind": "gpu", "Value": "GPU-1"}},
                    {"NamedResourceSpec": {"Kind": "gpu", "Value": "GPU-2"}},
                    {"DiscreteResourceSpec": {"Kind": "ssd", "Value": 3}},
                ],
            },
            "Engine": {"EngineVersion": "20.10.24", "Labels": {"disk": "fast"}},
        },
        "Status": {"State": "ready", "Addr": "0.0.0.0"},
        "ManagerStatus": {"Reachability": "reachable", "Addr": "[fd00::1]:2377"},
    }
    read = node_of(inspected)
    assert read.generic == {"gpu": 2, "ssd": 3}
    assert (read.cpus, read.memory, read.address, read.engine) == (2.5, GIB, "fd00::1", "20.10.24")
    assert read.labels == {"rack": "a"}
    assert read.is_manager and read.reachable


@pytest.mark.parametrize("keys", [{"nodes": 257}, {"nodes": "1..257"}, {"nodes": 64, "workers_per_node": 8}])
def test_one_machine_is_not_buried_under_workers(keys: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("")
    with pytest.raises(ClusterError, match="would all be on this machine"):
        local_checks.check(LoadedJob.of(Job(script="train.py", **keys), tmp_path))
