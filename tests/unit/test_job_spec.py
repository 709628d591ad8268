"""What a job takes, what it refuses, and in which words."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from swarmtrain.errors import RequestError
from swarmtrain.job import ExistingNetwork, Job, JobError, Restart, Volume

ABSOLUTE = "an absolute path is a script in the image, which takes files: [] (otherwise give a relative path)"


def problems(**fields: Any) -> list[str]:
    """The mistakes of a job; it has a script unless it says otherwise."""
    if not {"script", "module", "command"} & set(fields):
        fields["script"] = "train.py"
    with pytest.raises(JobError) as caught:
        Job(**fields)
    return [str(problem) for problem in caught.value.problems]


def test_a_script_is_all_that_a_job_needs() -> None:
    job = Job(script="train.py")
    assert (job.name, job.nodes_min, job.nodes_max, job.node_names) == ("train", 1, 1, None)
    assert (job.start, job.backend, job.network, job.files) == ("warm", "auto", "overlay", "auto")
    assert (job.timeout, job.stop_grace, job.join_deadline, job.shm_size) == (None, 60.0, 300.0, 4 << 30)
    assert job.linger == 3600.0
    assert (job.resources.gpus, job.resources.gpu_kind, job.resources.cpus) == (None, "gpu", None)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"script": "src/My_Train v2.py"}, "my-train-v2"),
        ({"script": "--.py"}, "job"),
        ({"script": "x" * 39 + "-yz.py"}, "x" * 39),
        ({"module": "digits.train"}, "train"),
        ({"command": ["/usr/bin/Bench.sh", "--fast"]}, "bench"),
        ({"script": "train.py", "name": "digits-2"}, "digits-2"),
    ],
)
def test_a_name_is_made_where_none_is_given(given: dict[str, Any], name: str) -> None:
    assert Job(**given).name == name


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        (3, (3, 3, None)),
        ("2..4", (2, 4, None)),
        ("2 .. 4", (2, 4, None)),
        (["alice", "bob.lab"], (2, 2, ("alice", "bob.lab"))),
    ],
)
def test_nodes_are_a_count_a_range_or_names(nodes: Any, expected: tuple[Any, ...]) -> None:
    job = Job(script="train.py", nodes=nodes)
    assert (job.nodes_min, job.nodes_max, job.node_names) == expected


def test_text_arrives_as_it_is() -> None:
    env = {"A": "$HOME ${x} $$", "B": "{{.Node.Hostname}}", "C": "one\ntwo\n", "D": "", "E": None}
    scalars: dict[str, Any] = {"args": ["--lr", 0.1, 20, True], "env": {**env, "N": 3, "T": False}}
    job = Job(script="train.py", **scalars)
    assert job.args == ("--lr", "0.1", "20", "true")
    assert job.env == {**env, "N": "3", "T": "false"}


def test_units_and_volumes_are_taken_apart() -> None:
    units: dict[str, Any] = {"timeout": "1h30m", "shm_size": "512m", "resources": {"memory": "8g", "cpus": 2}}
    job = Job(script="train.py", volumes=["/data:/data/:ro", "sets:/sets"], **units)
    assert (job.timeout, job.shm_size) == (5400.0, 512 << 20)
    assert (job.resources.memory, job.resources.cpus) == (8 << 30, 2.0)
    assert job.mounts == (Volume("/data", "/data", read_only=True), Volume("sets", "/sets"))
    assert [mount.is_path for mount in job.mounts] == [True, False]


@pytest.mark.parametrize(
    ("restart", "expected"),
    [
        ("auto", Restart()),
        ("never", Restart(max=0)),
        ({}, Restart()),
        ({"max": 3, "window": "1d"}, Restart(max=3, window=86400.0)),
        ({"hang_timeout": "off", "node_timeout": "2h"}, Restart(hang_timeout="off", node_timeout=7200.0)),
        ({"hang_timeout": "10m"}, Restart(hang_timeout=600.0)),
        (Restart(max=1), Restart(max=1)),
    ],
)
def test_restarts_are_a_word_or_keys(restart: Any, expected: Restart) -> None:
    assert Job(script="train.py", restart=restart).restart == expected


@pytest.mark.parametrize("network", ["existing:lab", {"existing": "lab"}, ExistingNetwork(existing="lab")])
def test_an_existing_network_is_named(network: Any) -> None:
    job = Job(script="train.py", network=network)
    assert (job.network, job.existing_network) == (ExistingNetwork(existing="lab"), "lab")
    assert Job(script="train.py").existing_network is None


def test_a_command_starts_cold_whatever_is_asked() -> None:
    assert Job(command=["./train.sh"]).start == "cold"
    assert Job(command=["./train.sh"], start="warm").start == "cold"


def test_code_in_the_image_is_an_absolute_script_and_no_files() -> None:
    assert Job(script="/app/train.py", files=[]).files == ()


@pytest.mark.parametrize(
    "image",
    [
        "torch",
        "pytorch/pytorch:2.7.0-cuda12.8-cudnn9-runtime",
        "localhost:5000/a/b_c:x",
        "[::1]:5000/a",
        "a@sha256:" + "0" * 64,
    ],
)
def test_image_references_are_docker_s(image: str) -> None:
    assert Job(script="train.py", image=image).image == image


def test_constraints_are_tidied() -> None:
    job = Job(script="train.py", constraints=["node.labels.gpu==true", " node.hostname  !=  front "])
    assert job.constraints == ("node.labels.gpu == true", "node.hostname != front")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"nodez": 3}, "nodez: unknown key (did you mean nodes?)"),
        ({"gpus": 3}, "gpus: unknown key (did you mean resources.gpus?)"),
        ({"environment": {}}, "environment: unknown key (did you mean env?)"),
        ({"resources": {"gpu": 1}}, "resources.gpu: unknown key (did you mean gpus?)"),
        ({"zzz": 3}, "zzz: unknown key"),
        ({"name": 3}, "name: must be text, not 3 (put it in quotes)"),
        ({"name": "a" * 41}, "is no name: up to 40"),
        ({"name": "My Job"}, "'My Job' is no name: up to 40 lower-case letters, digits and hyphens"),
        ({"name": "My Job"}, "(for example my-job)"),
        ({"name": "-a"}, "is no name"),
        ({"name": "a\n"}, "is no name"),
        ({"script": "../train.py"}, "script: ../train.py lies outside the job's directory"),
        ({"script": ""}, "is no path of a script"),
        ({"script": "a\nb"}, "'a\\nb' is no path of a script"),
        ({"script": "src/"}, "is no path of a script"),
        ({"script": "/app/train.py"}, f"script: {ABSOLUTE}"),
        ({"files": []}, "script: files is empty, so nothing is sent"),
        (
            {"module": "train.py"},
            "'train.py' is no module's name, which looks like package.train (a file goes",
        ),
        ({"command": []}, "command: is empty"),
        ({"command": "python train.py"}, "command: must be a list, not 'python train.py'"),
        ({"args": "--lr 1"}, "args: must be a list, not '--lr 1'"),
        ({"args": [["x"]]}, "args[1]: must be text, not a list"),
        ({"args": ["a\0b"]}, "args[1]: holds a zero character"),
        ({"image": "My Image"}, "'My Image' is no image reference"),
        ({"image": "Torch"}, "(a repository's name is lower-case)"),
        ({"nodes": 0}, "nodes: must be at least 1, not 0"),
        ({"nodes": 1001}, "nodes: must be at most 1000"),
        ({"nodes": 10**400}, "nodes: must be at most 1000"),
        ({"nodes": "2..1001"}, "nodes: must be at most 1000"),
        ({"nodes": f"2..{'9' * 5000}"}, "nodes: must be at most 1000"),
        ({"nodes": [f"lab-{n}" for n in range(1001)]}, "nodes: must be at most 1000"),
        ({"workers_per_node": 1001}, "workers_per_node: must be at most 1000"),
        ({"nodes": True}, "nodes: must be a count (3), a range (2..4) or a list of names, not true"),
        ({"nodes": 1.5}, "not 1.5"),
        ({"nodes": "4..2"}, "nodes: the range 4..2 must go from at least 1 up"),
        ({"nodes": "0..2"}, "nodes: the range 0..2 must go from at least 1 up"),
        ({"nodes": "alice"}, "'alice' is no range, which looks like 2..4; one node by its name is [alice]"),
        ({"nodes": []}, "nodes: the list of names is empty"),
        ({"nodes": ["a", "b", "a"]}, "nodes: the same node twice: a"),
        ({"nodes": [1, "b"]}, "nodes: 1 is not the name of a node (put it in quotes)"),
        ({"constraints": ["node.labels.gpu"]}, "constraints[1]: 'node.labels.gpu' is no constraint"),
        ({"constraints": ["node.label.gpu == 1"]}, "did you mean node.labels.gpu?"),
        ({"constraints": ["gpu == 1"]}, "(a label is written node.labels.gpu)"),
        ({"constraints": ["node.role == boss"]}, "a node's role is manager or worker"),
        ({"constraints": ["node.labels.a == {x}"]}, "Swarm does not take '{x}' as a value"),
        ({"workers_per_node": 0}, "workers_per_node: must be auto, cpu or a number from 1 up, not 0"),
        ({"workers_per_node": "all"}, "not 'all'"),
        ({"workers_per_node": 2, "resources": {"gpus": 1}}, "2 workers cannot share 1 GPU with NCCL"),
        ({"share_rate": 10}, "share_rate: 10 is no share (write 10%; a bare number is a fraction"),
        ({"share_rate": "0%"}, "share_rate: must be at least 1%, not '0%'"),
        ({"backend": "mpi"}, "backend: 'mpi' is not one of auto, nccl, gloo"),
        ({"backend": "ncll"}, "(did you mean nccl?)"),
        ({"timeout": "soon"}, "timeout: 'soon' is no duration (write 90s, 10m or 1h30m"),
        ({"timeout": 0}, "timeout: must be at least 1s, not 0"),
        ({"network": "lan"}, "network: must be overlay, encrypted, host or {existing: NAME}, not 'lan'"),
        ({"network": {"existing": "a b"}}, "'a b' is not the name of a network"),
        ({"network": {"existing": "host"}}, "host is Docker's own network, written network: host"),
        ({"env": ["A=1"]}, "env: must be a mapping of names to values, not a list"),
        ({"env": {"3x": "1"}}, "env.3x: '3x' is no variable's name"),
        ({"env": {"": "1"}}, "is no variable's name"),
        ({"env": {"RANK": "1"}}, "env.RANK: RANK cannot be set: swarmtrain sets it in every worker"),
        ({"env": {"WORLD_SIZE": 1}}, "it follows from the keys nodes and workers_per_node"),
        ({"env": {"TORCHELASTIC_RUN_ID": 1}}, "names beginning with TORCHELASTIC_ are the launcher's"),
        ({"env": {"SWARMTRAIN_NODE": 1}}, "names beginning with SWARMTRAIN_ are the launcher's"),
        ({"env": {"A": ["x"]}}, "env.A: must be text, not a list"),
        ({"files": "all"}, "files: must be auto or a list of patterns, not 'all'"),
        ({"files": ["../x"]}, "files: '../x' is no pattern of files below the job's directory"),
        ({"volumes": ["/data"]}, "volumes[1]: '/data' is no volume, which looks like /data:/data:ro"),
        ({"volumes": ["./d:/d"]}, "a path on the nodes must be absolute"),
        ({"volumes": ["a:b"]}, "'b' is no absolute path in the container"),
        ({"volumes": ["a:/b:rx"]}, "is no volume"),
        ({"volumes": ["a b:/b"]}, "'a b' is neither an absolute path nor a volume's name"),
        ({"volumes": ["a:/x", "b:/x/"]}, "volumes: the same target twice: /x"),
        ({"volumes": ["a:/swarmtrain/x"]}, "would hide /swarmtrain, which the run needs"),
        ({"volumes": ["a:/opt"]}, "would hide /opt/swarmtrain"),
        ({"volumes": ["a:/run/secrets"]}, "would hide /run/secrets"),
        ({"volumes": ["a:/"]}, "would hide"),
        ({"volumes": ["swarmtrain:/x"]}, "the volume swarmtrain holds the runs themselves"),
        ({"shm_size": "4x"}, "shm_size: '4x' is no size"),
        ({"shm_size": 4}, "shm_size: must be at least 1m, not 4 bytes"),
        ({"resources": 3}, "resources: must be a mapping of keys to values, not 3"),
        ({"resources": {"cpus": 0}}, "resources.cpus: must be at least 0.01"),
        ({"resources": {"cpus": float("inf")}}, "resources.cpus: must be a finite number"),
        ({"resources": {"memory": "8"}}, "resources.memory: must be at least 6m, not 8 bytes"),
        ({"resources": {"gpus": -1}}, "resources.gpus: must be at least 0"),
        ({"resources": {"gpus": "two"}}, "resources.gpus: must be a whole number, not 'two'"),
        ({"resources": {"gpu_kind": "a b"}}, "resources.gpu_kind: 'a b' is not the name of a resource"),
        (
            {"restart": "sometimes"},
            "restart: must be auto, never or a mapping of keys to values, not 'sometimes'",
        ),
        ({"restart": "nevr"}, "not 'nevr' (did you mean never?)"),
        ({"restart": "on-failure"}, "not 'on-failure' (did you mean auto?)"),
        ({"restart": False}, "not false (did you mean never?)"),
        ({"restart": 3}, "not 3 (did you mean {max: 3}?)"),
        ({"restart": None}, "restart: must be auto, never or a mapping of keys to values, not nothing"),
        ({"restart": {"max_restarts": 3}}, "restart.max_restarts: unknown key (did you mean restart.max?)"),
        ({"restart": {"nodetimeout": 3}}, "restart.nodetimeout: unknown key (did you mean node_timeout?)"),
        ({"restart": {"max": -1}}, "restart.max: must be at least 0"),
        ({"restart": {"max": "many"}}, "restart.max: must be a whole number, not 'many'"),
        ({"restart": {"window": "long"}}, "restart.window: 'long' is no duration"),
        ({"restart": {"window": 0}}, "restart.window: must be at least 1s, not 0"),
        ({"restart": {"hang_timeout": "soon"}}, "restart.hang_timeout: 'soon' is no duration"),
        (
            {"restart": {"hang_timeout": False}},
            "must be auto, off or a duration, not false (did you mean off?)",
        ),
        ({"hang_timeout": "5m"}, "hang_timeout: unknown key (did you mean restart.hang_timeout?)"),
        ({"max_restarts": 3}, "max_restarts: unknown key (did you mean restart.max?)"),
        ({"start": "hot"}, "start: 'hot' is not one of warm, cold"),
        ({"debug": "yes"}, "debug: must be true or false, not 'yes'"),
        ({"debug": None}, "debug: must be true or false, not nothing"),
        ({"coordinator": "a b"}, "coordinator: 'a b' is not the name of a node"),
        ({"python": "bin/python"}, "python: 'bin/python' is neither a program's name nor an absolute path"),
    ],
)
def test_a_mistake_is_one_clear_sentence(given: dict[str, Any], expected: str) -> None:
    found = problems(**given)
    assert len(found) == 1
    assert expected in found[0]
    assert "pydantic" not in found[0] and "\n" not in found[0]


def test_exactly_one_thing_is_run() -> None:
    with pytest.raises(JobError, match=r"^nothing to run: give script, module or command$"):
        Job()
    assert problems(script="train.py", module="train") == [
        "module: only one of script, module and command can be run, not script and module"
    ]


def test_all_mistakes_come_at_once_with_the_valid_keys() -> None:
    wrong: dict[str, Any] = {"nodez": 3, "nodes": ["a", "a"], "backend": "mpi", "volumes": ["a", "b"]}
    with pytest.raises(JobError) as caught:
        Job(script="/app/train.py", **wrong)
    assert caught.value.message.splitlines() == [
        "the job has 6 mistakes",
        "  nodes: the same node twice: a",
        "  volumes[1]: 'a' is no volume, which looks like /data:/data:ro or name:/data",
        "  volumes[2]: 'b' is no volume, which looks like /data:/data:ro or name:/data",
        "  backend: 'mpi' is not one of auto, nccl, gloo",
        "  nodez: unknown key (did you mean nodes?)",
        f"  script: {ABSOLUTE}",
    ]
    assert "the keys are name, script, module, command" in caught.value.hint
    assert isinstance(caught.value, RequestError) and caught.value.exit_code == 2


def test_a_job_does_not_change() -> None:
    job = Job(script="train.py")
    with pytest.raises(ValidationError, match="frozen"):
        job.nodes = 3


def test_a_mistake_that_nobody_catches_shows_its_hint() -> None:
    with pytest.raises(JobError) as caught:
        Job(script="train.py", nodez=3)  # type: ignore[call-arg]
    assert str(caught.value).startswith(
        "nodez: unknown key (did you mean nodes?)\n\nhint: the keys are name, "
    )
