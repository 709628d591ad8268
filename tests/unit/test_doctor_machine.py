"""`doctor --on local`, and what the doctor's containers do, with real sockets on this machine."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swarmtrain.doctor.check import Severity, run
from swarmtrain.doctor.machine.examine import CHECKS
from swarmtrain.doctor.machine.facts import MachineFacts, TorchFacts
from swarmtrain.probe import answering, asking, machine, main
from swarmtrain.probe.asking import AskingManner
from swarmtrain.protocol.probes import reports
from swarmtrain.protocol.probes.reports import MachineReport, ProbePeer, ProbePort

GIB = 1 << 30
SOUND = MachineFacts(
    python="/usr/bin/python3",
    torch=TorchFacts("", "2.13.0", "13.0", True, True, True, 2),
    cpus=8,
    memory=64 * GIB,
    memory_free=60 * GIB,
    swap_used=0,
    shm=32 * GIB,
    shm_free=32 * GIB,
    shm_left=(),
    home="/home/ada/.local/share/swarmtrain",
    disk=500 * GIB,
    disk_free=300 * GIB,
    nofile=65536,
    nproc=-1,
    gpus=2,
    driver="570.1",
    toolkit="1.19.0",
    loopback=True,
    named="127.0.1.1",
    ports=50,
)
ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
FAULTS: list[tuple[str, Severity, dict[str, Any]]] = [
    ("torch", ERROR, {"torch": TorchFacts(error="ModuleNotFoundError: No module named 'torch'")}),
    ("torch", ERROR, {"torch": replace(SOUND.torch, gloo=False)}),
    ("gpus", ERROR, {"driver": ""}),
    ("gpus", ERROR, {"torch": replace(SOUND.torch, cuda="")}),
    ("gpus", ERROR, {"torch": replace(SOUND.torch, devices=0)}),
    ("gpus", WARNING, {"torch": replace(SOUND.torch, nccl=False)}),
    ("shm", WARNING, {"shm": 64 << 20}),
    ("shm", WARNING, {"shm_free": 1 << 20, "shm_left": ("torch_1",)}),
    ("local-memory", WARNING, {"memory_free": GIB}),
    ("local-memory", NOTE, {"swap_used": 20 * GIB}),
    ("local-disk", WARNING, {"disk_free": 2 * GIB}),
    ("local-disk", ERROR, {"disk_free": GIB // 4}),
    ("limits", WARNING, {"nofile": 1024}),
    ("limits", WARNING, {"nproc": 100}),
    ("loopback", ERROR, {"loopback": False}),
    ("loopback", WARNING, {"ports": 3}),
    ("loopback", WARNING, {"named": ""}),
    ("local-toolkit", NOTE, {"toolkit": "1.18.0"}),
]


def test_a_sound_machine_has_no_fault() -> None:
    assert {each.severity for each in run(CHECKS, SOUND)} == {Severity.OK}


@pytest.mark.parametrize(("code", "severity", "facts"), FAULTS)
def test_a_fault_of_the_machine_is_found(code: str, severity: Severity, facts: dict[str, Any]) -> None:
    found = run(CHECKS, replace(SOUND, **facts))
    assert [(each.code, each.severity) for each in found if each.severity is not Severity.OK] == [
        (code, severity)
    ]


def test_every_check_of_the_machine_has_a_fault() -> None:
    assert {check.code for check in CHECKS} == {each[0] for each in FAULTS}


# ---- containers ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def port() -> int:
    """A port of this machine where somebody answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = int(probe.getsockname()[1])
    answering.serve(number, "127.0.0.1")
    return number


def test_the_way_to_somebody_who_answers_is_measured(port: int) -> None:
    peers = [ProbePeer("here", "localhost", "127.0.0.1"), ProbePeer("bob", "localhost", "127.0.0.1")]
    (report,) = asking.pairs("here", peers, AskingManner("lo", 0.05, port))
    assert (report.peer, report.tcp, report.udp, report.resolved) == ("bob", "", "", ["127.0.0.1"])
    assert report.passes == report.mtu == 65_535
    assert report.latency is not None and report.latency < 1 and abs(report.offset or 0.0) < 1
    assert report.bandwidth is not None and report.bandwidth > 1e6


def test_a_way_without_an_end_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_SECONDS", 0.05)
    (report,) = asking.pairs(
        "here", [ProbePeer("bob", "no-such-name.invalid", "127.0.0.1")], AskingManner(port=1)
    )
    assert (report.tcp, report.udp) == ("connection refused", "no answer")
    assert (report.resolved, report.passes, report.bandwidth) == ([], None, None)


def test_one_stream_is_swallowed_at_a_time(port: int) -> None:
    with (
        socket.create_connection(("127.0.0.1", port)) as first,
        socket.create_connection(("127.0.0.1", port)) as second,
    ):
        for connection, busy in ((first, False), (second, True)):
            connection.sendall(b'{"do": "swallow"}\n')
            assert json.loads(connection.makefile("rb").readline()) == {"busy": busy}


def test_an_answer_is_not_answered_so_that_one_forged_datagram_keeps_no_two_nodes_busy(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(10)
        probe.connect(("127.0.0.1", port))
        probe.send(b"question" + b"." * 28)
        answer = probe.recv(64)
        for sent in (answer, b"", b"x", b"another!" + b"." * 28):
            probe.send(sent)
        assert probe.recv(64)[:8] == b"another!"  # and to none of the three before it


def test_a_node_is_looked_at_also_while_somebody_else_has_it_answer(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "PORT", port)
    (report,) = main._answer("here")
    assert isinstance(report, MachineReport) and report.node == "here"


def test_who_fills_the_way_without_an_end_lets_others_try_theirs(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "_STREAM_SECONDS", 0.0)
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.settimeout(10)
        stream = stranger.makefile("rwb")
        stream.write(b'{"do": "swallow"}\n')
        stream.flush()
        assert json.loads(stream.readline()) == {"busy": False}
        stranger.sendall(b"a drop")
        assert stream.read(1) == b""  # it was hung up on
    assert answering._swallowing.acquire(timeout=10)
    answering._swallowing.release()


def test_packets_that_vanish_are_searched_for_the_largest_that_does_not(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrives = asking._arrives
    monkeypatch.setattr(asking, "_arrives", lambda probe, packet: packet <= 1300 and arrives(probe, packet))
    error, passes = asking._datagrams("127.0.0.1", port, 1450)
    assert error == "" and passes is not None and 1292 <= passes <= 1300


def test_ports_of_other_machines_are_tried(port: int) -> None:
    wanted = [
        ProbePort("here", "127.0.0.1", 1),
        ProbePort("bob", "127.0.0.1", port),
        ProbePort("bob", "127.0.0.1", 1),
    ]
    assert [(each.port, each.error) for each in asking.ports("here", wanted)] == [
        (port, ""),
        (1, "connection refused"),
    ]


def test_a_container_sees_its_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where the run works: it is written there
    here = machine.look("here", "lo")
    assert here.node == "here" and here.memory > here.memory_free > 0 and here.disk > 0
    assert here.write_seconds is not None and here.cpus > 0
    assert here.mtu > 1500 and here.shm >= here.shm_free >= 0
