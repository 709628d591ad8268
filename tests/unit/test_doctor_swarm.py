"""`doctor` of a Swarm: what follows from what managers say and from what containers found, as tables of cases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from swarmtrain.doctor.check import CheckFinding, Severity, run
from swarmtrain.doctor.cluster import collectives, containers, leftovers, nodes, ways
from swarmtrain.doctor.cluster.containers import DoctorStack
from swarmtrain.doctor.cluster.examine import MANAGERS_SAY
from swarmtrain.doctor.cluster.facts import SpokenTo, SwarmFacts
from swarmtrain.doctor.cluster.trial import last_words, task_of
from swarmtrain.doctor.cluster.tried import TrialReports, blame
from swarmtrain.probe.collectives import rounds
from swarmtrain.protocol.codec import load
from swarmtrain.protocol.probes import reports
from swarmtrain.protocol.probes.reports import (
    CollectiveReport,
    GpuReport,
    MachineReport,
    PairReport,
    PortReport,
    ProbeDone,
    ProbePeer,
)
from swarmtrain.swarm.cluster import LABEL_PRETEND, Cluster, Node

GIB = 1 << 30
NAMES = ("alice", "bob", "carol")


def node(index: int, **facts: Any) -> Node:
    defaults: dict[str, Any] = {
        "role": "manager",
        "address": f"10.1.0.{index}",
        "cpus": 8.0,
        "engine": "28.5.2",
    }
    return Node(**{"id": f"id{index}", "hostname": NAMES[index - 1], **defaults, **facts})


def swarm(*of: Node, spoken_to: SpokenTo | None = None, **facts: Any) -> SwarmFacts:
    return SwarmFacts(Cluster("id1", of or (node(1), node(2), node(3))), spoken_to or SpokenTo(), **facts)


def wrong(findings: Sequence[CheckFinding]) -> dict[str, Severity]:
    return {each.code: each.severity for each in findings if each.severity is not Severity.OK}


def test_a_sound_swarm_has_no_fault_and_says_what_was_looked_at() -> None:
    found = run(MANAGERS_SAY, swarm())
    assert wrong(found) == {}
    assert [each.sentence for each in found] == [
        "3 managers of 3 nodes",
        "every node is ready: alice, bob, carol",
        "Docker 28.5.2 on every node",
        "no node declares GPUs",
    ]


ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
WORKER = {"role": "worker"}
STANDING = [
    ("managers", NOTE, swarm(node(1), node(2, **WORKER), node(3, **WORKER))),
    ("managers", WARNING, swarm(node(1), node(2), node(3, **WORKER))),
    ("manager-unreachable", ERROR, swarm(node(1), node(2), node(3, reachable=False))),
    ("node-down", ERROR, swarm(node(1), node(2), node(3, state="down"))),
    ("node-drained", WARNING, swarm(node(1), node(2), node(3, availability="drain"))),
    ("node-name", WARNING, swarm(node(1), node(2), node(3, hostname="bob"))),
    ("node-address", ERROR, swarm(node(1), node(2), node(3, address="127.0.0.1"))),
    ("node-address", ERROR, swarm(node(1), node(2), node(3, address="10.1.0.2"))),
    ("engines", NOTE, swarm(node(1), node(2), node(3, engine="28.1.0"))),
    ("engines", WARNING, swarm(node(1), node(2), node(3, engine="26.1.5+dfsg1"))),
    ("old-clients", NOTE, swarm(*(node(each, engine="29.2.1") for each in (1, 2, 3)))),
    ("api", NOTE, swarm(spoken_to=SpokenTo(client_api="1.52", api="1.41"))),
    ("encryption", WARNING, swarm(node(1), node(2), node(3, engine="28.2.2"))),
    ("engine-files", NOTE, swarm(*(node(each, engine="29.3.0") for each in (1, 2, 3)))),
    (
        "gpu-restarts",
        WARNING,
        swarm(*(node(each, engine="20.10.24", generic={"gpu": 1}) for each in (1, 2, 3))),
    ),
    ("firewall", ERROR, swarm(spoken_to=SpokenTo(firewall="nftables+firewalld"))),
    ("live-restore", ERROR, swarm(spoken_to=SpokenTo(live_restore=True))),
    ("autolock", NOTE, swarm(spoken_to=SpokenTo(autolock=True))),
    ("gpu-count", ERROR, swarm(counted={"id2": ("gpu",)})),
    ("gpu-kind", WARNING, swarm(node(1, generic={"gpu": 1}), node(2, generic={"NVIDIA-GPU": 1}), node(3))),
    ("toolkit", WARNING, swarm(spoken_to=SpokenTo(toolkit="1.18.0"))),
    (
        "runtime",
        ERROR,
        swarm(node(1, generic={"gpu": 1}), node(2), node(3), spoken_to=SpokenTo(default_runtime="runc")),
    ),
    ("architectures", WARNING, swarm(node(1), node(2), node(3, arch="aarch64"))),
    ("uneven", NOTE, swarm(node(1), node(2), node(3, cpus=2.0))),
]


@pytest.mark.parametrize(("code", "severity", "facts"), STANDING)
def test_a_fault_that_managers_tell_of_is_found(code: str, severity: Severity, facts: SwarmFacts) -> None:
    assert wrong(run(MANAGERS_SAY, facts)).get(code) is severity


def test_every_check_of_what_managers_say_has_a_fault() -> None:
    assert {check.code for check in MANAGERS_SAY} == {each[0] for each in STANDING}


def test_pretended_gpus_of_a_lab_are_no_fault() -> None:
    pretend = {"generic": {"gpu": 2}, "engine_labels": {LABEL_PRETEND: "1"}}
    facts = swarm(
        *(node(each, **pretend) for each in (1, 2, 3)),
        counted={"id1": ("gpu",)},
        spoken_to=SpokenTo(default_runtime="runc"),
    )
    assert wrong(run(MANAGERS_SAY, facts)) == {}


# ---- what containers found ---------------------------------------------------------------------------------------


def machine(name: str, **facts: Any) -> MachineReport:
    sound: dict[str, Any] = {
        "python": "3.11.2",
        "kernel": "6.1.0",
        "arch": "x86_64",
        "cpus": 8.0,
        "load": 0.1,
        "torch": "2.13.0",
        "memory": 64 * GIB,
        "memory_free": 60 * GIB,
        "swap": 0,
        "swap_used": 0,
        "disk": 500 * GIB,
        "mtu": 1450,
        "disk_free": 300 * GIB,
        "shm": 64 << 20,
        "nofile": 1 << 20,
        "memlock": -1,
        "write_seconds": 0.02,
        "infiniband": False,
    }
    return MachineReport(**{"node": name, **sound, **facts})


def pair(first: str, second: str, **facts: Any) -> PairReport:
    sound: dict[str, Any] = {
        "resolved": ["10.0.1.5"],
        "tcp": "",
        "udp": "",
        "latency": 0.0003,
        "offset": 0.001,
        "mtu": 1450,
        "passes": 1450,
        "bandwidth": 9e8,
    }
    return PairReport(**{"node": first, "peer": second, **sound, **facts})


WAYS = [(first, second) for first in NAMES for second in NAMES if first != second]
CUT: dict[str, Any] = {
    "tcp": "no answer",
    "udp": "no answer",
    "latency": None,
    "offset": None,
    "passes": None,
    "bandwidth": None,
}


def tried(bad: Any = (), machines: Any = (), ports: Sequence[PortReport] = (), **facts: Any) -> TrialReports:
    """Three nodes between which all is well, but for some ways: ``{(first, second): {...}}``."""
    changed, odd = dict(bad), dict(machines)
    good_ports = [PortReport(node=a, peer=b, port=7946, error="") for a, b in WAYS]
    return TrialReports(
        nodes=[node(each) for each in (1, 2, 3)],
        machines={name: machine(name, **odd.get(name, {})) for name in NAMES},
        pairs=[pair(*way, **changed.get(way, {})) for way in WAYS],
        ports=[*good_ports, *ports],
        **facts,
    )


def both(first: str, second: str, **facts: Any) -> dict[tuple[str, str], dict[str, Any]]:
    return {(first, second): facts, (second, first): facts}


def test_a_sound_trial_has_no_fault() -> None:
    found = run(nodes.CHECKS, tried()) + run(ways.CHECKS, tried())
    assert wrong(found) == {}
    assert "names, TCP and UDP pass between all containers (6 ways)" in [each.sentence for each in found]


NODES = [
    ("image-missing", ERROR, "bob", {"failed": {"bob": "No such image: x:1"}}),
    ("node-silent", ERROR, "bob", {"silent": {"answer": ["bob"]}}),
    ("image-python", ERROR, "bob", {"machines": {"bob": {"python": "3.9.2"}}}),
    ("image-torch", ERROR, "", {"machines": {"bob": {"torch": "2.1.0"}}}),
    ("image-torch", WARNING, "", {"machines": {name: {"torch": ""} for name in NAMES}}),
    ("disk", ERROR, "bob", {"machines": {"bob": {"disk_free": GIB // 2}}}),
    ("disk", WARNING, "bob", {"machines": {"bob": {"disk_free": 5 * GIB}}}),
    ("disk", ERROR, "bob", {"machines": {"bob": {"write_seconds": None}}}),
    ("disk-slow", WARNING, "bob", {"machines": {"bob": {"write_seconds": 3.0}}}),
    ("memory", WARNING, "bob", {"machines": {"bob": {"memory_free": 2 * GIB}}}),
    ("memory", NOTE, "bob", {"machines": {"bob": {"swap": 8 * GIB, "swap_used": 4 * GIB}}}),
    ("busy", WARNING, "bob", {"machines": {"bob": {"load": 30.0}}}),
    ("container-files", WARNING, "bob", {"machines": {"bob": {"nofile": 1024}}}),
    ("image-missing", ERROR, "bob", {"failed": {"bob": "starting container failed: exec format error"}}),
    ("memlock", WARNING, "bob", {"machines": {"bob": {"infiniband": True, "memlock": 8 << 20}}}),
    ("gpu-assigned", ERROR, "bob", {"gpus": [GpuReport(node="bob", assigned=["GPU-1"], visible=[])]}),
    (
        "gpu-assigned",
        ERROR,
        "bob",
        {"gpus": [GpuReport(node="bob", assigned=["GPU-1"], visible=["GPU-1", "GPU-2"])]},
    ),
    ("gpu-assigned", ERROR, "bob", {"gpus": [GpuReport(node="bob", assigned=["GPU-1"], visible=["GPU-2"])]}),
    ("gpu-assigned", NOTE, "bob", {"silent": {"gpus": ["bob"]}}),
    ("kernels", NOTE, "", {"machines": {"bob": {"kernel": "5.15.0"}}}),
    ("network-mtu", WARNING, "", {"machines": {"bob": {"mtu": 1400}}}),
    (
        "clocks",
        WARNING,
        "bob",
        {
            "bad": {
                way: {"offset": 40.0 if way[1] == "bob" else -40.0 if way[0] == "bob" else 0.0}
                for way in WAYS
            }
        },
    ),
]


@pytest.mark.parametrize(("code", "severity", "subject", "facts"), NODES)
def test_a_fault_of_a_node_is_found(
    code: str, severity: Severity, subject: str, facts: dict[str, Any]
) -> None:
    found = run(nodes.CHECKS, tried(**facts))
    assert wrong(found) == {code: severity}
    assert [each.subject for each in found if each.code == code] == [subject]


OVER_VXLAN = "4789/udp is likely blocked"
BETWEEN = [
    (
        "port-2377",
        "alice, bob to carol",
        {
            "ports": [
                PortReport(node=each, peer="carol", port=2377, error="no answer") for each in ("alice", "bob")
            ]
        },
    ),
    (
        "port-7946",
        "alice to bob",
        {"ports": [PortReport(node="alice", peer="bob", port=7946, error="no answer")]},
    ),
    ("names", "alice, bob", {"bad": both("alice", "bob", resolved=[])}),
    ("names", "carol", {"bad": {**both("alice", "carol", resolved=[]), **both("bob", "carol", resolved=[])}}),
    ("overlay", "alice, bob", {"bad": both("alice", "bob", **CUT)}),
    ("overlay", "carol", {"bad": {**both("alice", "carol", **CUT), **both("bob", "carol", **CUT)}}),
    ("unheard", "bob", {"silent": {"ask": ["bob"]}}),
    ("half-open", "alice to bob", {"bad": {("alice", "bob"): {"udp": "no answer", "passes": None}}}),
    ("black-hole", "alice, bob", {"bad": both("alice", "bob", passes=1372, bandwidth=None)}),
    (
        "black-hole",
        "carol",
        {
            "bad": {
                **both("alice", "carol", passes=1372, bandwidth=None),
                **both("bob", "carol", passes=1372, bandwidth=None),
            }
        },
    ),
    ("slow-way", "alice, bob", {"bad": both("alice", "bob", bandwidth=1e8)}),
    ("slow-way", "bob", {"bad": {way: {"bandwidth": 1e8} for way in WAYS if "bob" in way}}),
    ("stalled", "alice to bob", {"bad": {("alice", "bob"): {"bandwidth": None}}}),
    ("lopsided", "alice to bob", {"bad": {("alice", "bob"): {"bandwidth": 1e8}}}),
    ("latency", "alice to bob", {"bad": {("alice", "bob"): {"latency": 0.05}}}),
]


@pytest.mark.parametrize(("code", "subject", "facts"), BETWEEN)
def test_a_fault_between_nodes_is_found_and_one_node_or_pair_blamed(
    code: str, subject: str, facts: dict[str, Any]
) -> None:
    found = [each for each in run(ways.CHECKS, tried(**facts)) if each.severity is not Severity.OK]
    assert [each.subject for each in found if each.code == code] == [subject]
    extra = {"lopsided": {"slow-way"}}.get(code, set())
    assert {each.code for each in found} == {code} | extra


@pytest.mark.parametrize(
    ("why", "sentence"),
    [
        ("No such image: x:1", "no container of this image runs there"),
        ("starting container failed: exec format error", "the image is for another architecture"),
        ('exec: "python3": executable file not found in $PATH', "the image has no interpreter"),
        ("task: non-zero exit (1)", "it must be 3.10 or newer"),
    ],
)
def test_why_a_container_does_not_start_is_said(why: str, sentence: str) -> None:
    (found,) = [
        each for each in run(nodes.CHECKS, tried(failed={"bob": why})) if each.code == "image-missing"
    ]
    assert sentence in found.sentence and found.evidence == (why,)


def test_the_last_words_of_a_container_are_no_report() -> None:
    log = f"{reports.line_of(ProbeDone('bob', 'answer'))}\nSyntaxError: invalid syntax\n\n"
    assert last_words(log) == "SyntaxError: invalid syntax" and last_words("") == ""


def test_gpus_that_are_honoured_are_said_and_pretended_ones_are_not_tried() -> None:
    right = tried(gpus=[GpuReport(node="bob", assigned=["GPU-1"], visible=["GPU-1"])])
    said = [each.sentence for each in run(nodes.CHECKS, right) if each.code == "gpu-assigned"]
    assert said == ["a task sees the GPU that it has reserved, on bob"]
    lab = tried(gpus=[GpuReport(node="alice", assigned=["PRETEND-1"], visible=[])])
    lab.nodes = [node(1, engine_labels={LABEL_PRETEND: "1"})]
    assert [each for each in run(nodes.CHECKS, lab) if each.code == "gpu-assigned"] == []


def result(name: str, node: str, peer: str = "", **facts: Any) -> CollectiveReport:
    sound: dict[str, Any] = {"correct": True, "seconds": 0.02, "bits": 2e9, "error": ""}
    return CollectiveReport(**{"node": node, "name": name, "peer": peer, **sound, **facts})


def collected(*odd: CollectiveReport, **facts: Any) -> TrialReports:
    changed = {(each.name, each.node, each.peer): each for each in odd}
    sound = [result(name, node) for name in collectives.OF_ALL for node in NAMES]
    sound += [result("pair", *way) for way in WAYS]
    kept = [each for each in sound if (each.name, each.node, each.peer) not in changed]
    return tried(collectives=[*kept, *odd], **facts)


def test_sound_collectives_are_one_line() -> None:
    (line,) = run(collectives.CHECKS, collected())
    assert line.severity is Severity.OK and "all-reduce 20 ms (2.0 Gb/s)" in line.sentence


COLLECTIVES = [
    (
        "collective-failed",
        "bob",
        collected(result("", "bob", error="Connection closed by peer", correct=False)),
    ),
    ("collective-failed", "dave", collected(silent={"collect": ["dave"]})),
    ("collective-wrong", "bob", collected(result("scatter", "bob", correct=False))),
    ("collective-slow", "bob", collected(*(result("pair", *way, bits=1e8) for way in WAYS if "bob" in way))),
    ("collective-slow", "alice, bob", collected(result("pair", "alice", "bob", bits=1e8))),
]


@pytest.mark.parametrize(("code", "subject", "found"), COLLECTIVES)
def test_a_fault_of_a_collective_is_found(code: str, subject: str, found: TrialReports) -> None:
    bad = [each for each in run(collectives.CHECKS, found) if each.severity is not Severity.OK]
    assert [(each.code, each.subject) for each in bad] == [(code, subject)]


@pytest.mark.parametrize("nodes", [2, 3, 4, 7, 20])
def test_every_two_nodes_are_a_pair_once_and_nobody_is_in_two_at_a_time(nodes: int) -> None:
    plan = rounds(nodes)
    assert len(plan) == nodes - 1 + nodes % 2
    assert all(len(set(sum(pairs, ()))) == 2 * len(pairs) for pairs in plan)
    assert sorted(pair for pairs in plan for pair in pairs) == [
        (a, b) for a in range(nodes) for b in range(a + 1, nodes)
    ]


def test_every_check_of_nodes_and_ways_has_a_fault() -> None:
    assert {check.code for check in nodes.CHECKS} == {each[0] for each in NODES}
    assert {check.code for check in ways.CHECKS} == {each[0] for each in BETWEEN}
    assert {check.code for check in collectives.CHECKS} == {each[0] for each in COLLECTIVES}


def test_which_port_is_likely_blocked_follows_from_what_is_heard() -> None:
    cut = both("alice", "bob", **CUT)
    blocked = [each for each in run(ways.CHECKS, tried(bad=cut)) if each.code == "overlay"]
    assert OVER_VXLAN in blocked[0].sentence and "4789/udp" in blocked[0].mend
    silent = [PortReport(node="alice", peer="bob", port=7946, error="no answer")]
    cause = [each for each in run(ways.CHECKS, tried(bad=cut, ports=silent)) if each.code == "overlay"]
    assert OVER_VXLAN not in cause[0].sentence and "do not hear each other either" in cause[0].sentence


def test_the_largest_packet_that_passes_is_the_mtu_to_set() -> None:
    (hole,) = [
        each
        for each in run(ways.CHECKS, tried(bad=both("alice", "bob", passes=1373)))
        if each.code == "black-hole"
    ]
    assert "driver.mtu=1372" in hole.mend and "alice to bob: up to 1373 bytes arrive" in hole.evidence


@pytest.mark.parametrize(
    ("bad", "names", "guilty", "pairs"),
    [
        ([], "abc", [], []),
        ([("a", "b"), ("b", "a")], "abc", [], [("a", "b")]),
        ([("a", "c"), ("b", "c")], "abc", ["c"], []),
        ([("a", "c")], "ac", [], [("a", "c")]),
        ([("a", "d"), ("b", "d"), ("c", "d"), ("a", "b")], "abcd", ["d"], [("a", "b")]),
        # everything is bad: nobody in particular
        ([("a", "b"), ("b", "c"), ("a", "c")], "abc", [], [("a", "b"), ("a", "c"), ("b", "c")]),
    ],
)
def test_who_is_to_blame(
    bad: list[tuple[str, str]], names: str, guilty: list[str], pairs: list[tuple[str, str]]
) -> None:
    assert blame(bad, list(names)) == (guilty, pairs)


# ---- containers and what is left of them ---------------------------------------------------------------------------


def test_containers_go_to_every_node_in_a_network_of_their_own_and_carry_the_labels_that_remove_them() -> (
    None
):
    stack = DoctorStack("swarmtrain-doctor-1", "m/1/2/3", "image:1")
    args = stack.make_service("answer")
    text = " ".join(args)
    assert args[:2] == ["service", "create"] and args[-3:] == ["image:1", "probe", "answer"]
    assert "--mode global --restart-condition none" in text and "--endpoint-mode dnsrr" in text
    assert "--network swarmtrain-doctor-1_way" in text and "NVIDIA_VISIBLE_DEVICES=void" in text
    with_gpu = stack.make_service(containers.GPUS, gpu_kind="NVIDIA-GPU")
    assert with_gpu[with_gpu.index("--generic-resource") + 1] == "NVIDIA-GPU=1"
    assert "swarmtrain-doctor-1_gpus-NVIDIAGPU" in with_gpu and "NVIDIA_VISIBLE_DEVICES=void" not in with_gpu
    on_host = stack.make_service("ports", containers.HOST)
    assert "dnsrr" not in on_host and on_host[on_host.index("--network") + 1] == "host"
    for made in (args, on_host, stack.make_network(), stack.make_bundle()):
        assert (
            "com.docker.stack.namespace=swarmtrain-doctor-1" in made and "swarmtrain.doctor=m/1/2/3" in made
        )


def test_who_asks_is_told_of_everybody_and_the_ports_of_managers() -> None:
    told = json.loads(containers.peers([node(1), node(2)], {"id1": "10.0.1.2"}))
    assert [load(ProbePeer, each) for each in told] == [ProbePeer("alice", "answer-id1", "10.0.1.2")]
    ports = json.loads(containers.ports([node(1), node(2, **WORKER)]))
    assert [(each["node"], each["port"]) for each in ports] == [
        ("alice", 7946),
        ("bob", 7946),
        ("alice", 2377),
    ]


def test_reports_are_found_among_other_lines_each_once() -> None:
    line = reports.line_of(ProbeDone("bob", "ask"))
    text = f'warning: x\n{line}\n{line}\nprefix | {line[:-4]}\nswarmtrain-doctor {{"kind": "new"}}\n'
    assert reports.reports_in(text) == [ProbeDone("bob", "ask")]
    report = pair("alice", "bob", **CUT)
    assert reports.reports_in(reports.line_of(report)) == [report]


def test_a_task_says_where_it_answers() -> None:
    attached = {"Network": {"Spec": {"Name": "x_way"}}, "Addresses": ["10.0.1.3/24"]}
    inspected = {"NodeID": "id1", "Status": {"State": "running"}, "NetworksAttachments": [attached]}
    assert task_of(inspected, "x_way").address == "10.0.1.3"
    assert task_of({"Status": {"State": "pending", "Err": "no"}}, "x_way").error == "no"


@pytest.mark.parametrize(
    ("owner", "left"),
    [
        ("here/7/100/1000", False),  # at work
        ("here/7/99/1000", True),  # its number is another process's by now
        ("there/7/100/1000", False),  # on another machine, not long ago
        ("there/7/100/1", True),
        ("garbled", True),
    ],
)
def test_what_is_left_is_told_from_what_is_at_work(owner: str, left: bool) -> None:
    assert leftovers.is_left(owner, 1200.0, "here", 100) is left


def test_this_process_is_at_work() -> None:
    made = leftovers.owner()
    assert list(leftovers._left([("a", made)])) == []
    assert list(leftovers._left([("a", made.replace("/", "/9", 1))])) == ["a"]
