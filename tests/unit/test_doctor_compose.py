"""`doctor --compose`: each fault of a hand-written stack is found in its line, and nothing in a stack without any."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from swarmtrain.doctor.check import CheckFinding, Severity
from swarmtrain.doctor.compose.examine import CHECKS, findings
from swarmtrain.doctor.compose.source import parse
from swarmtrain.doctor.compose.stack import stack_of
from swarmtrain.errors import RequestError
from swarmtrain.swarm.cluster import Cluster, Network, Node
from swarmtrain.ui.cli import cli
from swarmtrain.ui.commands.doctor.words import paragraph, summary

ROOT = Path(__file__).parents[2]
FIXTURES = Path(__file__).parent / "fixtures" / "compose"

# Two nodes as a careful person writes them: no fault.
SOUND = """\
version: "3.8"
networks:
  training: {driver: overlay, internal: true}
volumes:
  work:
x-node: &node
  image: registry:5000/train:7
  command: [torchrun, --nnodes=2, --nproc_per_node=1, --max_restarts=10, --rdzv_id=a, --rdzv_backend=c10d,
    "--rdzv_endpoint=store:29400", "--rdzv_conf=is_host=false,keep_alive_interval=1,keep_alive_max_attempt=3",
    train.py, --snapshot_path, /work/snapshot.pt]
  environment:
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE: "1"
  networks: [training]
  volumes: ["work:/work", {type: tmpfs, target: /dev/shm, tmpfs: {size: 4294967296}}]
  stop_grace_period: 60s
services:
  store:
    image: registry:5000/train:7
    command: [python3, -c, "print('a store')"]
    networks: [training]
    deploy: {endpoint_mode: dnsrr}
  a:
    <<: *node
    deploy: &deploy
      endpoint_mode: dnsrr
      restart_policy: {condition: on-failure}
      placement: {constraints: [node.hostname == alice]}
  b:
    <<: *node
    deploy:
      <<: *deploy
      placement: {constraints: [node.hostname == bob]}
"""
# The same without the elastic rendezvous, as the guide has it.
STATIC = """\
version: "3.8"
services:
  a:
    image: registry:5000/train:7
    command: torchrun --nnodes=2 --node_rank=0 --master_addr=a --master_port=1 train.py
    deploy: {placement: {constraints: [node.hostname == alice]}}
  b:
    image: registry:5000/train:7
    command: torchrun --nnodes=2 --node_rank=1 --master_addr=a --master_port=1 train.py
    deploy: {placement: {constraints: [node.hostname == bob]}}
"""


def found(text: str, cluster: Cluster | None = None, **variables: str) -> list[CheckFinding]:
    return findings(stack_of(parse(text, "s.yml", variables), cluster))


def codes(of: Iterable[CheckFinding]) -> set[str]:
    return {finding.code for finding in of}


def lines(of: Iterable[CheckFinding], code: str) -> list[int]:
    return sorted(
        int(line) for each in of if each.code == code for line in each.subject.partition(":")[2].split(",")
    )


def line_of(text: str, words: str) -> int:
    return text.count("\n") if words == LAST else text[: text.index(words)].count("\n") + 1


def test_a_sound_stack_has_no_fault() -> None:
    assert found(SOUND) == []


LAST = "the last line"
# In the sound stack, what is put in place of what, the check, and words of the line in which it is found.
FAULTS = [
    ("refused-key", "  stop_grace_period: 60s", "  stop_grace_period: 60s\n  mem_limit: 4g", "mem_limit"),
    ("refused-key", 'version: "3.8"', 'version: "3.8"\nname: mine', "name: mine"),
    ("refused-key", "volumes:\n  work:", "configs:\n  c: {content: x}\nvolumes:\n  work:", "content"),
    (
        "gpu-devices",
        "      endpoint_mode: dnsrr\n      r",
        "      endpoint_mode: dnsrr\n      resources: {reservations: {devices: [{driver: nvidia}]}}\n      r",
        "devices",
    ),
    ("gpu-devices", "  stop_grace_period: 60s", "  stop_grace_period: 60s\n  gpus: all", "gpus"),
    ("refused-value", 'TCP_STORE: "1"', 'TCP_STORE: "1"\n    VERBOSE: true', "VERBOSE"),
    ("refused-value", "size: 4294967296", 'size: "4g"', "tmpfs"),
    ("version-key", 'version: "3.8"\n', "", "networks:"),
    ("version-key", 'version: "3.8"', "version: 3.8", "version"),
    ("version-key", 'version: "3.8"', 'version: "2.4"', "version"),
    (
        "depends-on",
        "    <<: *node\n    deploy:\n",
        "    <<: *node\n    depends_on: [a]\n    deploy:\n",
        "depends_on",
    ),
    ("shm-size", "  stop_grace_period: 60s", "  stop_grace_period: 60s\n  shm_size: 4g", "shm_size"),
    ("restart-key", "  stop_grace_period: 60s", "  stop_grace_period: 60s\n  restart: always", "restart: a"),
    (
        "network-mode",
        "  stop_grace_period: 60s",
        "  stop_grace_period: 60s\n  network_mode: host",
        "network_mode",
    ),
    ("ignored-key", "  stop_grace_period: 60s", "  stop_grace_period: 60s\n  privileged: true", "privileged"),
    ("ignored-key", "  stop_grace_period: 60s", "  stop_grace_period: 60s\n  tmpfs: [/x]", "tmpfs: ["),
    ("dollar", "train.py,", "train.py, $RANK,", "$RANK"),
    ("template", 'TCP_STORE: "1"', 'TCP_STORE: "1"\n    A: "{{x}}"', "{{x}}"),
    ("template", "train.py,", 'train.py, "{{.Task.Slot}}",', "torchrun"),
    ("nnodes", "--nnodes=2", "--nnodes=3", "--nnodes"),
    ("nnodes", "--nnodes=2", "--nnodes=1", "--nnodes"),
    ("standalone", "--nnodes=2", "--standalone", "--standalone"),
    ("meeting-place", "endpoint=store", "endpoint=stoer", "rdzv_endpoint"),
    ("meeting-place", "endpoint=store", "endpoint=localhost", "rdzv_endpoint"),
    ("store-on-node", "endpoint=store", "endpoint=a", "rdzv_endpoint"),
    ("shared-store", '    TORCH_DISABLE_SHARE_RDZV_TCP_STORE: "1"', "    OTHER: x", "environment"),
    ("keep-alive", "keep_alive_interval=1,", "", "rdzv_conf"),
    ("workers-gpus", "--nproc_per_node=1", "--nproc_per_node=2", "nproc_per_node"),
    (
        "workers-gpus",
        "      endpoint_mode: dnsrr\n      r",
        (
            "      endpoint_mode: dnsrr\n      resources: {reservations: {generic_resources: "
            "[{discrete_resource_spec: {kind: gpu, value: 2}}]}}\n      r"
        ),
        "nproc_per_node",
    ),
    ("debug-detail", 'TCP_STORE: "1"', 'TCP_STORE: "1"\n    TORCH_DISTRIBUTED_DEBUG: DETAIL', "DETAIL"),
    ("debug-verbose", 'TCP_STORE: "1"', 'TCP_STORE: "1"\n    NCCL_DEBUG: INFO', "NCCL_DEBUG"),
    ("debug-verbose", 'TCP_STORE: "1"', 'TCP_STORE: "1"\n    CUDA_LAUNCH_BLOCKING: 1', "BLOCKING"),
    ("nccl-threads", 'TCP_STORE: "1"', 'TCP_STORE: "1"\n    NCCL_NTHREADS: 64', "NTHREADS"),
    ("nccl-nothing", 'TCP_STORE: "1"', 'TCP_STORE: "1"\n    NCCL_NET_GDR_LEVEL: 0', "GDR"),
    ("nccl-unmeasured", 'TCP_STORE: "1"', 'TCP_STORE: "1"\n    NCCL_BUFFSIZE: 8388608', "BUFF"),
    (
        "nccl-sockets",
        'TCP_STORE: "1"',
        'TCP_STORE: "1"\n    NCCL_SOCKET_NTHREADS: 16\n    NCCL_NSOCKS_PERTHREAD: 8',
        "SOCKET_NTHREADS",
    ),
    (
        "nccl-differs",
        "    <<: *node\n    deploy:\n",
        (
            "    <<: *node\n    environment: {NCCL_BUFFSIZE: 1, TORCH_DISABLE_SHARE_RDZV_TCP_STORE: 1}\n    "
            "deploy:\n"
        ),
        "BUFFSIZE",
    ),
    ("interface", 'TCP_STORE: "1"', 'TCP_STORE: "1"\n    NCCL_SOCKET_IFNAME: eth0', "IFNAME"),
    (
        "interface",
        'TCP_STORE: "1"\n  networks: [training]',
        'TCP_STORE: "1"\n    GLOO_SOCKET_IFNAME: eth0\n  networks: [training, other]',
        "IFNAME",
    ),
    ("gloo-interface", ", internal: true", "", "environment"),
    ("secret", 'TCP_STORE: "1"', 'TCP_STORE: "1"\n    WANDB_API_KEY: abc123', "WANDB"),
    (
        "quotes",
        '    TORCH_DISABLE_SHARE_RDZV_TCP_STORE: "1"',
        '    - TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1"',
        "STORE=",
    ),
    ("restart-policy", "on-failure", "none", "none"),
    ("restart-policy", "on-failure", "any", "any"),
    ("restart-policy", "      restart_policy: {condition: on-failure}\n", "", "deploy: &deploy"),
    (
        "job-mode",
        "      endpoint_mode: dnsrr\n      r",
        "      endpoint_mode: dnsrr\n      mode: replicated-job\n      r",
        "mode: rep",
    ),
    (
        "placement",
        "node.hostname == bob",
        "node.hostname == alice",
        LAST,
    ),
    (
        "placement",
        "      placement: {constraints: [node.hostname == bob]}",
        "      placement: {}",
        "deploy:\n",
    ),
    (
        "placement",
        "      endpoint_mode: dnsrr\n      r",
        "      endpoint_mode: dnsrr\n      replicas: 2\n      r",
        "replicas",
    ),
    ("constraint", "node.hostname == bob", "hostname == bob", "hostname == bob"),
    ("constraint", "node.hostname == bob", "node.hostname = bob", "hostname = bob"),
    (
        "health",
        "  stop_grace_period: 60s",
        "  stop_grace_period: 60s\n  healthcheck: {test: [CMD, nvidia-smi]}",
        "healthcheck",
    ),
    (
        "health",
        "  stop_grace_period: 60s",
        '  stop_grace_period: 60s\n  healthcheck: {test: "nc -z store 29400"}',
        "healthcheck",
    ),
    (
        "health-torch",
        "  stop_grace_period: 60s",
        "  stop_grace_period: 60s\n  healthcheck: {test: [CMD, python, -c, import torch]}",
        "healthcheck",
    ),
    ("stop-grace", "  stop_grace_period: 60s\n", "", "  a:\n"),
    (
        "image",
        "x-node: &node\n  image: registry:5000/train:7",
        "x-node: &node\n  image: registry:5000/train",
        "image",
    ),
    ("image", "x-node: &node\n  image: registry:5000/train:7", "x-node: &node\n  build: .", "  a:\n"),
    ("virtual-address", "    deploy: {endpoint_mode: dnsrr}\n", "", "store:\n"),
    ("ports", "  stop_grace_period: 60s", "  stop_grace_period: 60s\n  ports: [29500]", "ports"),
    ("network-driver", "driver: overlay", "driver: bridge", "driver: bridge"),
    (
        "network-undeclared",
        '"1"\n  networks: [training]',
        '"1"\n  networks: [training, more]',
        "networks: [training, more]",
    ),
    ("network-apart", '"1"\n  networks: [training]\n', '"1"\n  networks: [apart]\n', "networks: [apart]"),
    ("network-twice", "internal: true", "attachable: true", "training:"),
    ("mtu", "internal: true", "internal: true, driver_opts: {com.docker.network.driver.mtu: 8950}", "mtu"),
    ("encrypted", "internal: true", 'internal: true, driver_opts: {encrypted: "true"}', "encrypted"),
    (
        "host-name",
        "  training: {driver: overlay, internal: true}",
        "  training: {external: true, name: host}\nx: {hostname: y}",
        "",
    ),
    (
        "traefik",
        "      endpoint_mode: dnsrr\n      r",
        '      endpoint_mode: dnsrr\n      labels: ["traefik.enable=true"]\n      r',
        "traefik",
    ),
    ("shared-memory", ", {type: tmpfs, target: /dev/shm, tmpfs: {size: 4294967296}}", "", "volumes: ["),
    ("bind-mount", '"work:/work"', '"work:/work", "./data:/data"', "./data"),
    ("snapshots-lost", "/work/snapshot.pt", "/tmp/snapshot.pt", "--snapshot_path"),
    ("volume-local", "  work:\n", "  work: {driver: local}\n", "driver: local"),
    (
        "open-files",
        "  stop_grace_period: 60s",
        "  stop_grace_period: 60s\n  ulimits: {nofile: 1024}",
        "nofile",
    ),
]


@pytest.mark.parametrize(
    ("code", "was", "becomes", "where"), FAULTS, ids=[f"{each[0]}-{i}" for i, each in enumerate(FAULTS)]
)
def test_a_fault_is_found(code: str, was: str, becomes: str, where: str) -> None:
    assert was in SOUND
    text = SOUND.replace(was, becomes)
    if code == "host-name":
        text = text.replace("  stop_grace_period", "  hostname: me\n  stop_grace_period")
    here = found(text)
    assert line_of(text, where or "hostname: me") in lines(here, code), [each.subject for each in here]


STATIC_FAULTS = [
    ("rank-twice", "--node_rank=1", "--node_rank=0", [9]),
    (
        "rank-replicated",
        "deploy: {placement: {constraints: [node.hostname == bob]}}",
        "deploy: {replicas: 2}",
        [10],
    ),
    (
        "rank-replicated",
        "deploy: {placement: {constraints: [node.hostname == bob]}}",
        "deploy: {mode: global}",
        [10],
    ),
    ("rank-fixed", "zzz", "", [5, 9]),
    ("no-restarts", "zzz", "", [5, 9]),
    ("rank-missing", "--node_rank=1", "--node_rank=2", [5, 9]),
    ("master-rank", "--master_addr=a", "--master_addr=b", [5]),
    ("meeting-differs", "--node_rank=1 --master_addr=a", "--node_rank=1 --master_addr=b", [9]),
    ("meeting-place", "--master_addr=a", "--master_addr=node0", [5, 9]),
    ("meeting-place", " --master_addr=a", "", [5, 9]),
    ("static-restarts", "--nnodes=2", "--nnodes=2 --max_restarts=3", [5, 9]),
    ("range-static", "--nnodes=2", "--nnodes=1:2", [5, 9]),
    ("nnodes", "--nnodes=2 --node_rank=1", "--nnodes=3 --node_rank=1", [9]),
    ("virtual-address", "zzz", "", [6]),
]


@pytest.mark.parametrize(("code", "was", "becomes", "where"), STATIC_FAULTS)
def test_a_fault_of_a_static_rendezvous_is_found_in_its_line(
    code: str, was: str, becomes: str, where: list[int]
) -> None:
    assert lines(found(STATIC.replace(was, becomes)), code) == where


def test_every_check_has_a_fault_of_its_own() -> None:
    tried = (
        {each[0] for each in FAULTS}
        | {each[0] for each in STATIC_FAULTS}
        | {code for code, _, _ in ON_A_SWARM}
        | {"two-torches"}
    )
    assert {check.code for check in CHECKS} == tried


# What the guide's own file has, by its lines.
GUIDE = {
    "debug-detail": [20, 47, 74],
    "depends-on": [61, 88],
    "no-restarts": [11, 39, 66],
    "debug-verbose": [19, 46, 73],
    "nccl-threads": [22, 49, 76],
    "interface": [17, 44, 71],
    "restart-policy": [35, 60, 87],
    "image": [10, 38, 65],
    "virtual-address": [30],
    "shared-memory": [9, 37, 64],
    "snapshots-lost": [14, 42, 69],
    "rank-fixed": [12, 40, 67],
    "nccl-nothing": [18, 23, 45, 50, 72, 77],
    "nccl-unmeasured": [21, 24, 25, 48, 51, 52, 75, 78, 79],
    "gloo-interface": [15, 43, 70],
    "stop-grace": [9, 37, 64],
    "network-twice": [4],
}
SNIPPETS = {
    *(
        "gpu-devices",
        "debug-detail",
        "restart-policy",
        "debug-verbose",
        "health",
        "health-torch",
        "image",
        "traefik",
    ),
    *("shared-memory", "bind-mount", "rank-fixed", "workers-gpus", "stop-grace", "volume-local"),
}


def test_every_fault_of_the_guides_file_is_found_in_its_lines() -> None:
    here = found((FIXTURES / "guide.yml").read_text())
    assert {code: lines(here, code) for code in codes(here)} == GUIDE


def test_every_fault_of_what_the_guide_adds_is_found() -> None:
    assert codes(found((FIXTURES / "guide-snippets.yml").read_text())) == SNIPPETS


@pytest.mark.parametrize(
    ("file", "known"),
    [
        ("examples/guide/docker-compose.yml", set()),
        ("tests/unit/golden/plain.yml", {"network-twice"}),
        ("tests/unit/golden/count.yml", {"network-twice"}),
        ("tests/unit/golden/existing.yml", set()),
        ("tests/unit/golden/host.yml", set()),
        ("tests/unit/golden/named.yml", {"network-twice", "encrypted"}),
        # it was asked for: --debug
        ("tests/unit/golden/plain-host.yml", {"debug-verbose", "gloo-interface"}),
        # what the benchmark of a static rendezvous is for
        (
            "benchmarks/handwritten.yml",
            {
                *("no-restarts", "restart-policy", "shared-memory", "rank-fixed"),
                *("gloo-interface", "stop-grace", "network-twice"),
            },
        ),
    ],
)
def test_nothing_false_is_said_of_stacks_that_are_right(file: str, known: set[str]) -> None:
    here = found((ROOT / file).read_text())
    assert codes(here) == known
    assert not [finding for finding in here if finding.severity is Severity.ERROR]


def swarm(*nodes: Node, **facts: Any) -> Cluster:
    return Cluster("1", nodes or (Node("1", "alice"), Node("2", "bob")), **facts)


ON_A_SWARM: list[tuple[str, str, Cluster]] = [
    ("node-missing", SOUND, swarm(Node("1", "alice"), Node("3", "carol"))),
    ("label-unread", SOUND, swarm(Node("1", "alice", labels={"hostname": "node1"}), Node("2", "bob"))),
    ("network-missing", SOUND.replace("driver: overlay, ", "external: true, "), swarm()),
    ("network-twice", SOUND, swarm(networks=(Network("training", "overlay", "swarm"),))),
    ("open-files", SOUND, swarm(Node("1", "alice", engine="29.0.1"), Node("2", "bob", engine="28.5.2"))),
    (
        "architecture",
        SOUND.replace("node.hostname == bob", "node.role == worker"),
        swarm(Node("1", "alice", role="worker"), Node("2", "bob", arch="aarch64")),
    ),
]


@pytest.mark.parametrize(("code", "text", "cluster"), ON_A_SWARM)
def test_a_fault_that_only_the_swarm_shows_is_found(code: str, text: str, cluster: Cluster) -> None:
    assert codes(found(text, cluster)) == {code}
    assert codes(found(text, swarm(networks=(Network("other", "overlay", "swarm"),)))) <= {"network-missing"}


def test_a_base_image_and_requirements_that_disagree_are_found() -> None:
    beside = {
        "Dockerfile": "FROM pytorch/pytorch:2.1.0-cuda11.8-cudnn8-runtime\nCOPY . .\n",
        "requirements.txt": "torch==2.7.0\nnvidia-nccl-cu12==2.26.2\n",
    }
    (finding,) = findings(stack_of(parse(SOUND, "s.yml", {}), None, beside))
    assert (
        finding.code == "two-torches" and "torch 2.1.0" in finding.sentence and "by 2.7.0" in finding.sentence
    )
    beside["requirements.txt"] = "numpy\n"
    assert findings(stack_of(parse(SOUND, "s.yml", {}), None, beside)) == []


def test_no_value_of_a_secret_is_shown() -> None:
    here = found(SOUND.replace('TCP_STORE: "1"', 'TCP_STORE: "1"\n    WANDB_API_KEY: abc123'))
    assert "abc123" not in json.dumps([finding.dump() for finding in here])


@pytest.mark.parametrize(
    "command",
    [
        "torchrun --nnodes 2 --node-rank 1 --master-addr a train.py",
        "python3 -m torch.distributed.run --nnodes=2 --node_rank=1 --master_addr=a train.py",
        "bash -lc 'cd /work && exec /opt/bin/torchrun --nnodes=2 --node_rank=1 --master_addr=a train.py'",
        "[sh, -c, torchrun --nnodes=2 --node_rank=1 --master_addr=a -m pkg.train]",
    ],
)
def test_torchrun_is_found_however_it_is_written(command: str) -> None:
    text = f"services:\n  a:\n    image: x:1\n    command: {command}\n"
    launch = stack_of(parse(text, "s.yml")).services[0].launch
    assert launch is not None and (launch.nodes, launch.get("node_rank"), launch.meeting[0]) == (
        (2, 2),
        "1",
        "a",
    )
    assert launch.is_static and launch.words[0] in ("train.py", "pkg.train")


def test_a_variable_is_what_docker_would_take() -> None:
    text = SOUND.replace("--nnodes=2", '"--nnodes=${NODES:-2}"')
    assert found(text) == []
    assert "nnodes" in codes(found(text, NODES="3"))


@pytest.mark.parametrize("text", ["", "a: [", "- x", "services: {}", "a: 1"])
def test_what_is_no_compose_file_is_one_sentence(text: str) -> None:
    with pytest.raises(RequestError, match=r"s\.yml"):
        parse(text, "s.yml")


def test_a_finding_fits_into_eighty_columns() -> None:
    here = found((FIXTURES / "guide.yml").read_text())
    assert max(len(line) for each in here for line in paragraph(each)) <= 80
    assert summary(here) == "1 error, 10 warnings, 9 notes"


def doctor(*args: str) -> Result:
    return CliRunner(env={"DOCKER_HOST": "unix:///nowhere"}).invoke(
        cli, ["doctor", *args], prog_name="swarmtrain"
    )


def test_an_error_in_the_file_is_exit_code_2_and_warnings_are_0(tmp_path: Path) -> None:
    wrong = doctor("--compose", str(FIXTURES / "guide.yml"), "--json")
    assert wrong.exit_code == 2 and json.loads(wrong.stdout)[0]["code"] == "debug-detail"
    file = tmp_path / "stack.yml"
    file.write_text(SOUND.replace("  stop_grace_period: 60s", "  stop_grace_period: 60s\n  shm_size: 4g"))
    warned = doctor("--compose", str(file))
    assert warned.exit_code == 0 and "[shm-size]" in warned.stdout and "1 warning" in warned.stderr
    assert doctor("--compose", str(tmp_path / "none.yml")).exit_code == 2


def test_the_checks_are_listed() -> None:
    listed = doctor("--list").stdout
    assert all(f"  {check.code} " in listed for check in CHECKS)
    assert max(map(len, listed.splitlines())) <= 80


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--image", "x", "--compose", "y.yml"], 2, "--compose looks at a file alone"),
        (["--collectives"], 2, "--collectives needs an image with torch"),
        # In words that depend on whether there is a docker command at all.
        (["--on", "swarm"], 3, "hint: "),
    ],
)
def test_what_cannot_be_done_is_one_sentence(args: list[str], code: int, words: str) -> None:
    refused = doctor(*args)
    assert (refused.exit_code, refused.stdout) == (code, "") and words in refused.stderr
