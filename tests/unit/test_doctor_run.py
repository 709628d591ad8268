"""`doctor NAME`: what follows from what a run says and from what was found beside its workers; how that is asked."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from client_fakes import FakeLauncher, Receive, fixed, seen, status

from swarmtrain.doctor.check import Severity, run
from swarmtrain.doctor.cluster.tried import TrialReports
from swarmtrain.doctor.run.checks import CHECKS
from swarmtrain.doctor.run.examine import OF_NODES
from swarmtrain.doctor.run.facts import CoordinatorSays, RunFacts, present
from swarmtrain.doctor.run.visits import visit
from swarmtrain.launchers.base import Run
from swarmtrain.protocol.evidence.diagnosis import Diagnosis, Observation, Remedy
from swarmtrain.protocol.evidence.seen import FlightFinding
from swarmtrain.protocol.journal.remarks import StartsWarm
from swarmtrain.protocol.probes import reports
from swarmtrain.protocol.probes.reports import MachineReport, PairReport, PortReport, ProbeDone
from swarmtrain.protocol.status import Member

MACHINE: dict[str, Any] = {
    "python": "3.11.2",
    "kernel": "6.1",
    "arch": "x86_64",
    "cpus": 8.0,
    "load": 1.0,
    "memory": 64 << 30,
    "memory_free": 60 << 30,
    "swap": 0,
    "swap_used": 0,
    "disk": 900 << 30,
    "disk_free": 500 << 30,
    "shm": 8 << 30,
    "nofile": 1 << 20,
    "memlock": -1,
    "write_seconds": 0.01,
    "torch": "2.13.0",
    "infiniband": False,
    "mtu": 1450,
    "shm_free": 7 << 30,
}
FINE = Diagnosis(
    run="digits.1", code="healthy", verdict="digits.1 is running, and nothing is wrong that can be seen"
)
NAN = Diagnosis(
    run="digits.1",
    code="loss-nan",
    verdict="the loss is NaN on rank 1",
    rank=1,
    node="lab-2",
    evidence=[Observation("loss nan", rank=1, node="lab-2", place="train.py:7 in step")],
    cause="the learning rate is too high",
    sure="possible",
    remedies=[Remedy("lower it", "swarmtrain run --resume")],
)


def machine(node: str, **facts: Any) -> MachineReport:
    return MachineReport(node=node, **{**MACHINE, **facts})


def tried(**facts: Any) -> TrialReports:
    machines = {node: machine(node, **facts.pop(node, {})) for node in ("lab_1", "lab_2")}
    return TrialReports((), {name.replace("_", "-"): each for name, each in machines.items()}, **facts)


def facts(**changed: Any) -> RunFacts:
    """A run of which something is said, or was found, that is not as it should be."""
    said = {"status": seen(), "diagnosis": FINE} | {
        key: changed.pop(key)
        for key in ("status", "diagnosis", "events", "healthy", "recorded")
        if key in changed
    }
    return RunFacts(CoordinatorSays(**said), **{"tried": tried(), **changed})


def port(node: str, error: str = "") -> PortReport:
    return PortReport(node=node, peer="the coordinator", port=29400, error=error)


UNREACHED = port("lab-2", "name or service not known")
LOST: dict[str, Any] = {"members": [{"node": "lab-2", "state": "lost", "ranks": []}]}
LOOPBACK: dict[str, Any] = {
    "members": [
        {"node": node, "state": "running", "ranks": [0], "address": "1", "interface": interface}
        for node, interface in (("lab-1", "eth0"), ("lab-2", "lo"))
    ]
}
WARM = tuple(
    StartsWarm(text=f"torch 2.13.0, NCCL {nccl} is imported in Python 3.11.2; workers are forked", node=node)
    for node, nccl in (("lab-1", "2.21"), ("lab-2", "2.27"))
)
PARTED = FlightFinding(
    "parted", [1], "0", 4, "broadcast", "rank 1 had broadcast #4 where rank 0 had all_reduce #4"
)
FAULTS = [
    ("run-diagnosis", Severity.WARNING, "lab-2", facts(diagnosis=NAN, healthy=False)),
    (
        "run-diagnosis",
        Severity.ERROR,
        "lab-2",
        facts(diagnosis=NAN, healthy=False, status=seen(state="failed")),
    ),
    ("run-node-lost", Severity.WARNING, "lab-2", facts(status=seen(**LOST))),
    ("run-node-silent", Severity.ERROR, "lab-2", facts(tried=tried(failed={"lab-2": "no answer"}))),
    ("run-untried", Severity.NOTE, "", facts(status=seen(state="succeeded"), tried=TrialReports(()))),
    ("run-untried", Severity.NOTE, "", facts(status=seen(state="starting"), tried=TrialReports(()))),
    ("run-versions", Severity.WARNING, "", facts(events=WARM)),
    (
        "run-coordinator",
        Severity.ERROR,
        "lab-2",
        facts(tried=tried(ports=[UNREACHED]), coordinator="c:29400"),
    ),
    ("run-collectives", Severity.ERROR, "rank 1", facts(recorded=(PARTED,))),
    ("run-shm", Severity.WARNING, "lab-2", facts(tried=tried(lab_2={"shm_free": 1 << 20}))),
    ("run-interface", Severity.ERROR, "lab-2", facts(status=seen(**LOOPBACK))),
]


@pytest.mark.parametrize(("code", "severity", "subject", "found"), FAULTS)
def test_each_fault_is_found_by_its_check(
    code: str, severity: Severity, subject: str, found: RunFacts
) -> None:
    (finding,) = (each for each in run(CHECKS, found) if each.code == code)
    assert (finding.severity, finding.subject) == (severity, subject)


def test_every_check_of_a_run_has_a_fault() -> None:
    assert {check.code for check in CHECKS} == {code for code, *_ in FAULTS}


def test_a_sound_run_has_none_and_says_what_was_looked_at() -> None:
    ports = [port(node) for node in ("lab-1", "lab-2")]
    found = run(
        CHECKS, facts(tried=tried(ports=ports), coordinator="digits-1_coordinator:29400", recorded=())
    )
    assert {each.severity for each in found} == {Severity.OK}
    assert "every node reaches the coordinator by its name, digits-1_coordinator:29400" in [
        each.sentence for each in found
    ]


def test_what_a_diagnosis_says_is_told_with_its_evidence_and_its_command() -> None:
    (finding,) = (
        each for each in run(CHECKS, facts(diagnosis=NAN, healthy=False)) if each.code == "run-diagnosis"
    )
    assert finding.sentence == NAN.verdict and finding.mend.startswith("swarmtrain run --resume; ")
    assert finding.evidence == (
        "cause, possible: the learning rate is too high",
        "rank 1 on lab-2: train.py:7 in step: loss nan",
    )


def test_that_a_node_works_is_no_fault_of_a_run() -> None:
    assert [
        each for each in run(OF_NODES, tried(lab_1={"load": 90.0})) if each.severity is not Severity.OK
    ] == []


def test_nothing_is_tried_where_nobody_is() -> None:
    assert present(seen(state="succeeded")) == [] and present(seen(**LOST)) == []


# ---- how it is asked

PAIR = PairReport(
    node="",
    peer="",
    resolved=["1"],
    tcp="",
    udp="",
    latency=0.001,
    offset=0.0,
    mtu=1450,
    passes=1450,
    bandwidth=1e9,
)


def probe(request: dict[str, Any], receive: Receive) -> Iterator[dict[str, Any]]:
    """Agents of which one is not there, and the other does what it is asked."""
    node, (part, *variables) = request["node"], request["argv"][request["argv"].index("probe") + 1 :]
    told = dict(word.split("=", 1) for word in variables)
    assert told[reports.ENV_NODE] == node and told[reports.ENV_INTERFACE] == "eth0"
    if node == "lab-3":
        yield {"error": "the agent on lab-3 is not there (any more)", "exit": 3}
        return
    said = {
        "answer": machine(node),
        "look": machine(node),
        "ask": PairReport(**{**vars(PAIR), "node": node, "peer": "lab-2" if node == "lab-1" else "lab-1"}),
        "ports": port(node),
    }[part]
    if part == "ask":
        assert "lab-3" not in told[reports.ENV_PEERS]
    lines = f"{reports.line_of(said)}\n{reports.line_of(ProbeDone(node, part))}\n"
    for piece in (lines[:20], lines[20:]):
        yield {"stdout": base64.b64encode(piece.encode()).decode()}
    if part == "answer":
        receive()  # it goes on until the client hangs up
    yield {"done": {"exit": 0}}


def test_nodes_are_looked_at_and_the_ways_between_those_that_answer_are_tried() -> None:
    launcher = FakeLauncher(digits_1=fixed(status(), exec=probe))
    members = [
        Member(name, "running", f"10.0.0.{at}", "eth0") for at, name in enumerate(("lab-1", "lab-2", "lab-3"))
    ]
    said: list[str] = []
    found = visit(launcher, Run("digits", 1, "swarm"), members, "digits-1_coordinator:29400", said.append)
    assert set(found.machines) == {"lab-1", "lab-2"}
    assert found.failed == {"lab-3": "the agent on lab-3 is not there (any more)"}
    assert [(each.node, each.peer) for each in found.pairs] == [("lab-1", "lab-2"), ("lab-2", "lab-1")]
    assert [each.node for each in found.ports] == ["lab-1", "lab-2"] and found.silent == {}
    assert "trying the ways between 2 nodes" in said[1]


def test_nodes_of_one_machine_have_no_way_between_them() -> None:
    launcher = FakeLauncher(digits_1=fixed(status(), exec=probe))
    members = [Member(name, "running", "127.0.0.1", "eth0") for name in ("lab-1", "lab-2")]
    found = visit(launcher, Run("digits", 1, "local"), members, "", lambda text: None)
    assert set(found.machines) == {"lab-1", "lab-2"} and found.pairs == []


def test_a_way_that_only_the_training_makes_slow_is_found_to_be_none() -> None:
    calls: list[str] = []

    def busy(request: dict[str, Any], receive: Receive) -> Iterator[dict[str, Any]]:
        """The first streams of lab-1 meet those of the training."""
        node, part = request["node"], request["argv"][request["argv"].index("probe") + 1]
        calls.append(f"{part} {node}")
        if part != "ask" or node != "lab-1" or calls.count("ask lab-1") > 1:
            yield from probe(request, receive)
            return
        slow = PairReport(**{**vars(PAIR), "node": node, "peer": "lab-2", "bandwidth": 1e7, "latency": 0.5})
        said = f"{reports.line_of(slow)}\n{reports.line_of(ProbeDone(node, part))}\n"
        yield {"stdout": base64.b64encode(said.encode()).decode()}
        yield {"done": {"exit": 0}}

    launcher = FakeLauncher(digits_1=fixed(status(), exec=busy))
    members = [Member(name, "running", "10.0.0.1", "eth0") for name in ("lab-1", "lab-2")]
    found = visit(launcher, Run("digits", 1, "swarm"), members, "", lambda text: None)
    assert calls.count("ask lab-1") == 2
    assert [(each.node, each.bandwidth, each.latency) for each in found.pairs] == [
        ("lab-1", 1e9, 0.001),
        ("lab-2", 1e9, 0.001),
    ]


def test_a_node_that_talks_without_end_or_nonsense_is_hung_up_on() -> None:
    said: list[int] = []

    def talk(request: dict[str, Any], receive: Receive) -> Iterator[dict[str, Any]]:
        if request["node"] == "lab-2":
            yield {"stdout": "abc"}  # no base 64
        for _ in range(1000):
            said.append(1 << 18)
            yield {"stdout": base64.b64encode(b"." * (1 << 18)).decode()}

    launcher = FakeLauncher(digits_1=fixed(status(), exec=talk))
    members = [Member(name, "running", "10.0.0.1", "eth0") for name in ("lab-1", "lab-2")]
    found = visit(launcher, Run("digits", 1, "swarm"), members, "", lambda text: None)
    assert "more than anybody was asked for" in found.failed["lab-1"] and "padding" in found.failed["lab-2"]
    assert sum(said) < 64 << 20
