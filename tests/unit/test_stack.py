"""The stack as text: golden files, and what must hold for every job.

After a change that is meant: ``SWARMTRAIN_UPDATE_GOLDEN=1 pytest tests/unit/test_stack.py``, then read the diff.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from swarmtrain.docker import compose
from swarmtrain.errors import RequestError
from swarmtrain.job import Job, LoadedJob
from swarmtrain.job.origin import Origin
from swarmtrain.payload.run_spec import spec_of
from swarmtrain.swarm import plain, plan, stack
from swarmtrain.swarm.cluster import Cluster, Network, Node
from swarmtrain.swarm.placement import choose, place
from swarmtrain.wire.run_spec import RunSecret

GOLDEN = Path(__file__).parent / "golden"
CLUSTER = Cluster(
    node_id="managerid",
    networks=(Network("ddp-net", "overlay", "swarm", attachable=True),),
    nodes=(
        Node(
            "managerid",
            "lab-1",
            role="manager",
            address="10.1.0.1",
            generic={"gpu": 2},
            cpus=8,
            memory=1 << 36,
        ),
        Node("worker2id", "lab-2", address="10.1.0.2", generic={"gpu": 2}, cpus=8, memory=1 << 36),
        Node("worker3id", "lab-3", address="10.1.0.3", generic={"gpu": 2}, cpus=8, memory=1 << 36),
    ),
)
FILES = stack.Files(
    stack.File("bundle.zip", "bundle-0123456789", "/opt/swarmtrain/bundle.zip"),
    stack.File("job.json", "job-0123456789", "/opt/swarmtrain/job.json"),
    (stack.File("code-00", "code-00-0123456789", "/opt/swarmtrain/code-00"),),
)
JOBS: dict[str, dict[str, Any]] = {
    "count": {"nodes": 3},
    "range": {"nodes": "2..3", "constraints": ["node.labels.rack != b", "node.role != manager"]},
    "named": {"nodes": ["lab-3", "lab-1"], "network": "encrypted"},
    "host": {"nodes": 2, "network": "host"},
    "existing": {"nodes": 2, "network": {"existing": "ddp-net"}},
    "full": {
        "nodes": 2,
        "args": ["20", "5", "--batch_size", "64"],
        "resources": {"gpus": 2, "cpus": 1.5, "memory": "2g"},
        "volumes": ["/data sets/$HOME/{{x}}:/data:ro", "models:/models"],
        "shm_size": "1g",
        "stop_grace": "90s",
        "memlock": True,
        "python": "/opt/conda/bin/python",
        "files": [],
        "script": "/app/train.py",
        "coordinator": "lab-1",
        "env": {"WANDB_API_KEY": "very-secret"},
    },
}


def job(**keys: Any) -> Job:
    return Job(**{"name": "digits", "script": "train.py", "image": "registry:5000/me/train:1", **keys})


def loaded(**keys: Any) -> LoadedJob:
    return LoadedJob(job(**keys), Path())


def rendered(name: str) -> dict[str, Any]:
    wanted = job(**JOBS[name])
    files = stack.Files(FILES.bundle, FILES.job) if wanted.files == () else FILES
    return stack.render(wanted, place(wanted, CLUSTER), files)


def compare(name: str, text: str) -> None:
    path = GOLDEN / f"{name}.yml"
    if os.environ.get("SWARMTRAIN_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("name", JOBS)
def test_golden(name: str) -> None:
    compare(name, stack.text_of(job(**JOBS[name]), rendered(name)))


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("plain", {"nodes": 2, "args": ["20", "5"], "env": {"A": "$x {{y}}", "KEY": None}}),
        (
            "plain-host",
            {"nodes": "1..2", "network": "host", "module": "pkg.train", "script": None, "debug": True},
        ),
    ],
)
def test_golden_of_the_plain_form(name: str, keys: dict[str, Any]) -> None:
    wanted = job(**keys)
    configs = [plain.Config("train.py", "code-00-0123456789", "code/train.py", False)]
    document = plain.render(wanted, choose(wanted, CLUSTER), configs)
    compare(name, compose.dump(document))


@pytest.mark.parametrize("memlock", [False, True])
def test_containers_may_have_more_files_open_where_an_engine_gives_them_few(memlock: bool) -> None:
    nodes = tuple(dataclasses.replace(node, engine="29.0.1") for node in CLUSTER.nodes)
    cluster = dataclasses.replace(CLUSTER, nodes=nodes)
    wanted = job(nodes=2, memlock=memlock)
    ours = stack.render(wanted, place(wanted, cluster), FILES)["services"]["agent"]
    plainly = plain.render(wanted, choose(wanted, cluster), [])["services"]["node0"]
    for service in (ours, plainly):
        assert service["ulimits"]["nofile"] == {"soft": 524288, "hard": 524288}
        assert ("memlock" in service["ulimits"]) == memlock


@pytest.mark.parametrize(
    ("restart", "policy", "flag"),
    [
        ("never", {"condition": "none"}, "--max_restarts=0"),
        ({"max": 3}, {"condition": "on-failure", "delay": "1s", "max_attempts": 3}, "--max_restarts=3"),
    ],
)
def test_the_plain_form_restarts_as_often_as_the_job_says(restart: Any, policy: Any, flag: str) -> None:
    """Swarm reads max_attempts: 0 as any number of them."""
    wanted = job(nodes=2, restart=restart)
    node = plain.render(wanted, choose(wanted, CLUSTER), [])["services"]["node1"]
    assert node["deploy"]["restart_policy"] == policy
    assert flag in node["command"]


@pytest.mark.parametrize(
    ("restart", "expected"),
    [
        ("auto", (True, 10, 3600.0, 900.0, None)),
        ("never", (False, 0, 3600.0, 900.0, None)),
        ({"max": 3, "window": "1d", "node_timeout": "2h"}, (True, 3, 86400.0, 7200.0, None)),
        ({"max": 0, "hang_timeout": "off"}, (False, 0, 3600.0, 900.0, 0.0)),
        ({"hang_timeout": "10m"}, (True, 10, 3600.0, 900.0, 600.0)),
    ],
)
def test_the_task_says_how_failures_are_healed(restart: Any, expected: tuple[Any, ...]) -> None:
    task = spec_of(loaded(restart=restart))
    said = (task.restart, task.max_restarts, task.restart_window, task.node_timeout, task.hang_timeout)
    assert said == expected


def test_the_task_says_what_is_shared() -> None:
    task = spec_of(loaded(share=["*.pt"], per_node=["log-*"], replicas="all", share_rate="2.5%"))
    assert (task.share, task.per_node, task.replicas, task.share_rate) == (("*.pt",), ("log-*",), -1, 0.025)


@pytest.mark.parametrize("name", JOBS)
def test_the_text_reads_back_as_the_document(name: str) -> None:
    """But for the ``$`` that Docker takes for a variable, which are doubled."""

    def undoubled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: undoubled(each) for key, each in value.items()}
        if isinstance(value, list):
            return [undoubled(each) for each in value]
        return value.replace("$$", "$") if isinstance(value, str) else value

    document = rendered(name)
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 1)  # what Docker's reader follows
    assert undoubled(yaml.load(compose.dump(document))) == json.loads(json.dumps(document))


@pytest.mark.parametrize("name", JOBS)
def test_nothing_that_a_swarm_refuses_or_ignores(name: str) -> None:
    """docker/cli, cli/compose/types: what `stack deploy` rejects, or drops with or without a word."""
    document = rendered(name)
    assert document["version"] == "3.8"
    assert "name" not in document
    ignored = {"build", "devices", "privileged", "ipc", "pid", "network_mode", "shm_size", "restart", "links"}
    ignored |= {
        "security_opt",
        "cgroup_parent",
        "userns_mode",
        "depends_on",
        "tmpfs",
        "gpus",
        "runtime",
        "ports",
    }
    for service in document["services"].values():
        assert not ignored & set(service)
        assert all(isinstance(value, str) for value in service["environment"].values())
        assert all(isinstance(value, str) for value in service["deploy"]["labels"].values())
        assert service["deploy"]["endpoint_mode"] == "dnsrr"
        assert "mode" not in service["deploy"]


def test_agents_start_again_in_place_and_the_coordinator_is_pinned() -> None:
    services = rendered("named")["services"]
    assert list(services) == ["coordinator", "agent-0", "agent-1"]
    assert services["coordinator"]["deploy"]["placement"]["constraints"] == ["node.id == managerid"]
    assert services["coordinator"]["healthcheck"] == {"disable": True}
    assert services["agent-0"]["deploy"]["placement"]["constraints"] == ["node.hostname == lab-3"]
    assert services["agent-0"]["environment"]["SWARMTRAIN_NODE"] == "lab-3"
    assert services["agent-0"]["environment"]["SWARMTRAIN_SLOT"] == "1"
    policy = {"condition": "on-failure", "delay": "1s", "max_attempts": 2000}
    assert [each["deploy"]["restart_policy"] for each in services.values()] == [policy] * 3


def test_swarm_tries_no_task_for_ever_and_each_for_longer_than_a_run_waits_for_its_nodes() -> None:
    """Nobody may be there to end what never starts. An attempt takes more than a second."""
    wanted = job(nodes=2, join_deadline="2h", restart={"node_timeout": "1h"})
    services = stack.render(wanted, place(wanted, CLUSTER), FILES)["services"]
    attempts = {each["deploy"]["restart_policy"]["max_attempts"] for each in services.values()}
    assert attempts == {3 * 3600}


@pytest.mark.parametrize(("gpus", "hidden", "reserved"), [(None, False, 0), (0, True, 0), (2, False, 2)])
def test_agents_see_the_gpus_of_their_node_unless_none_are_wanted(
    gpus: int | None, hidden: bool, reserved: int
) -> None:
    wanted = job(resources={"gpus": gpus})
    document = stack.render(wanted, place(wanted, CLUSTER), FILES)
    configs = [plain.Config("train.py", "code-00-0123456789", "code/train.py", False)]
    by_torchrun = plain.render(wanted, choose(wanted, CLUSTER), configs)["services"]
    coordinator, agent = document["services"]["coordinator"], document["services"]["agent"]
    for alone in (coordinator, by_torchrun["rendezvous"]):
        assert alone["environment"]["NVIDIA_VISIBLE_DEVICES"] == "void"
    for node in (agent, by_torchrun["node0"]):
        assert (node["environment"].get("NVIDIA_VISIBLE_DEVICES") == "void") is hidden
        resources = node["deploy"].get("resources", {}).get("reservations", {}).get("generic_resources", [])
        assert [each["discrete_resource_spec"]["value"] for each in resources] == [reserved] * (reserved > 0)
    assert f"--nproc_per_node={reserved or 1}" in by_torchrun["node0"]["command"]
    assert spec_of(LoadedJob(wanted, Path())).workers == reserved  # 0: the agent counts


def test_agents_on_the_host_network_get_an_address_and_a_port() -> None:
    document = rendered("host")
    port = place(job(network="host"), CLUSTER).port
    for service in document["services"].values():
        assert service["environment"]["SWARMTRAIN_COORDINATOR"] == f"10.1.0.1:{port}"
        assert service["deploy"]["labels"]["swarmtrain.port"] == str(port)
        assert "hostname" not in service


def test_prometheus_finds_the_coordinator_of_a_run_that_wants_it_by_a_label() -> None:
    wanted = job(metrics_port=9464, alerts={"slack": ["SLACK_URL"]})
    document = stack.render(wanted, place(wanted, CLUSTER), FILES)
    labels = {name: each["deploy"]["labels"] for name, each in document["services"].items()}
    assert labels["coordinator"]["swarmtrain.metrics"] == "9464"
    assert [name for name, each in labels.items() if "swarmtrain.metrics" in each] == ["coordinator"]
    assert "ports" not in document["services"]["coordinator"]


def test_no_secret_and_no_run_is_in_the_text(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("")
    wanted = job(env={"WANDB_API_KEY": None, "MODE": "very-secret-too"})
    loaded = LoadedJob(wanted, tmp_path, {"WANDB_API_KEY": "very-secret", "MODE": "very-secret-too"})
    planned = plan.make(loaded, CLUSTER)
    everything = planned.text.encode() + b"".join(planned.files.values())
    assert b"very-secret" not in everything
    assert planned.text == plan.make(loaded, CLUSTER).text


def test_where_a_run_comes_from_stands_on_its_coordinator(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("")
    loaded = LoadedJob(job(), tmp_path, words=("train.py", "$HOME {{x}}"))
    services = YAML(typ="safe").load(plan.make(loaded, CLUSTER).text.replace("$$", "$"))["services"]
    assert Origin.load(services["coordinator"]["deploy"]["labels"]["swarmtrain.origin"]) == Origin.of(loaded)
    assert "swarmtrain.origin" not in services["agent"]["deploy"]["labels"]


def test_the_same_code_gives_the_same_names_and_a_change_another(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("one")
    first = plan.make(LoadedJob(job(), tmp_path), CLUSTER)
    assert set(first.files) == {"bundle.zip", "job.json", "code-00"}
    script.write_text("two")
    second = plan.make(LoadedJob(job(), tmp_path), CLUSTER)
    assert first.text != second.text


def test_a_plan_on_disk_keeps_its_secret_to_its_owner(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("")
    planned = dataclasses.replace(
        plan.make(LoadedJob(job(), tmp_path), CLUSTER), secret=RunSecret("digits.1", "of-nobody-else")
    )
    assert "of-nobody-else" not in repr(planned)
    out = tmp_path / "out"
    path = planned.write(out)
    assert path == out / "stack.yml"
    assert path.read_text() == planned.text
    assert (out / "secret").stat().st_mode & 0o777 == 0o600
    assert RunSecret.load(out / "secret").run == "digits.1"
    assert (out / "bundle.zip").is_file()
    again = plan.make(LoadedJob(job(), tmp_path), CLUSTER)
    assert again.files == planned.files  # the plan itself is no part of the code
    assert again.write(out) == path
    with pytest.raises(RequestError, match="not empty"):
        planned.write(tmp_path)
    with pytest.raises(RequestError, match="cannot be written: Not a directory"):
        planned.write(tmp_path / "train.py" / "out")


def test_config_names_fit_into_64_characters() -> None:
    longest = "a" * 40 + "-9999_"
    for digest in (stack.File("x", "code-00-" + "f" * 10, "y"),):
        assert len(longest + digest.config) <= 64


@pytest.mark.parametrize(
    "text",
    [
        *(
            "on",
            "No",
            "null",
            "~",
            "",
            " x",
            "x ",
            "1",
            "1.5",
            "0x1",
            "1e3",
            "22:30",
            "0777",
            "a: b",
            "a #b",
            "- a",
        ),
        *(
            "{a}",
            "[a]",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a",
            "'a'",
            '"a"',
            "a\nb",
            "tab\t",
            "é",
            "日本",
            "\x7f",
            "\u2028",
        ),
        *("a:b", "a: ", "node.id == x", ".5", "=", "<<", "2001-01-01", "{{.Node.ID}}", 'it\'s "both"', "\\"),
    ],
)
def test_any_string_survives_the_way_through_yaml(text: str) -> None:
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 1)
    document = yaml.load(compose.dump({"key": text, "list": [text], "inner": {"list": [{"a": text}, {}]}}))
    assert document == {"key": text, "list": [text], "inner": {"list": [{"a": text}, {}]}}


def test_dollars_are_doubled_and_templates_can_be_escaped() -> None:
    assert compose.dump({"a": "$HOME"}) == 'a: "$$HOME"\n'
    assert compose.literal("{{x}}") == '{{"{{"}}x}}'
