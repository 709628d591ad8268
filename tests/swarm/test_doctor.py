"""`doctor` on a real Swarm: quiet where all is well, and naming the pair, the node and the port where it is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from firewall import dropped
from sound_lab import known
from waiting import until

from swarmtrain.docker.command import Docker
from swarmtrain.doctor.check import CheckFinding, Severity
from swarmtrain.doctor.cluster.containers import LABEL_OWNER
from swarmtrain.doctor.cluster.examine import examine
from swarmtrain.doctor.cluster.trial import TrialOptions
from swarmtrain.lab.lab import Lab

DOCTOR = [sys.executable, "-c", "from swarmtrain.ui.cli import main; main()", "doctor"]


def found(image: str) -> dict[str, CheckFinding]:
    """What is wrong, by its code, but for what is true of a sound lab; and nothing is left afterwards."""
    findings = examine(Docker(), TrialOptions(image), lambda words: None)
    assert left() == []
    bad, good = (Severity.ERROR, Severity.WARNING), known() | {"busy"}
    return {each.code: each for each in findings if each.severity in bad and each.code not in good}


def left() -> list[str]:
    """Services, networks and configs of doctors."""
    shown = ("--quiet", "--filter", f"label={LABEL_OWNER}")
    return [
        name for kind in ("service", "network", "config") for name in Docker().run(kind, "ls", *shown).split()
    ]


def test_a_sound_swarm_has_no_fault_and_nothing_is_left(machines: Lab, torch_image: str) -> None:
    assert found(torch_image) == {}


@pytest.mark.long  # test_doctor_run.py has one for each change
def test_a_blocked_overlay_is_found_between_the_two_machines_it_lies_between(
    machines: Lab, torch_image: str
) -> None:
    with dropped(machines, 3, "-s", machines.node(2).address(), "-p", "udp", "--dport", "4789"):
        wrong = found(torch_image)
    assert set(wrong) == {"overlay"}
    assert (
        wrong["overlay"].subject == "lab-2, lab-3"
        and "4789/udp is likely blocked" in wrong["overlay"].sentence
    )


@pytest.mark.long
def test_packets_that_are_too_large_for_one_machine_are_found(machines: Lab, torch_image: str) -> None:
    with dropped(machines, 3, "-p", "udp", "--dport", "4789", "-m", "length", "--length", "1400:65535"):
        wrong = found(torch_image)
    assert set(wrong) == {"black-hole"}
    assert (
        wrong["black-hole"].subject == "lab-3"
        and "com.docker.network.driver.mtu=13" in wrong["black-hole"].mend
    )


@pytest.mark.long
def test_what_a_killed_doctor_leaves_the_next_one_removes(machines: Lab, torch_image: str) -> None:
    killed = subprocess.Popen(
        [*DOCTOR, "--image", torch_image], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until(lambda: len(left()) >= 3)
    killed.kill()
    killed.wait()
    done = subprocess.run([*DOCTOR, "--json"], capture_output=True, check=False)
    assert "leftovers" in [each["code"] for each in json.loads(done.stdout)]
    assert left() == []


@pytest.mark.long
def test_ctrl_c_leaves_nothing(machines: Lab, torch_image: str) -> None:
    running = subprocess.Popen(
        [*DOCTOR, "--image", torch_image], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    until(lambda: len(left()) >= 3)
    os.kill(running.pid, signal.SIGINT)
    _, words = running.communicate(timeout=60)
    assert (running.returncode, left()) == (130, []), words


@pytest.mark.long
def test_a_node_without_the_image_is_named(machines: Lab) -> None:
    wrong = found("swarmtrain/no-such-image:1")
    assert set(wrong) == {"image-missing"}


@pytest.mark.long
def test_a_machine_behind_a_slow_link_is_named(machines: Lab, torch_image: str) -> None:
    machines.node(3).limit("50mbit")
    try:
        findings = examine(Docker(), TrialOptions(torch_image), lambda words: None)
    finally:
        machines.node(3).limit(None)
    assert [each.subject for each in findings if each.code == "slow-way"] == ["lab-3"]


def test_collectives_are_tried_and_right(machines: Lab, torch_image: str) -> None:
    findings = examine(Docker(), TrialOptions(torch_image, collectives=True), lambda words: None)
    assert left() == []
    tried = [each for each in findings if each.code.startswith("collective")]
    assert [each.sentence.partition(":")[0] for each in tried if each.severity is Severity.OK] == [
        "right to the last bit, of 4 MiB with gloo"
    ]
    assert [each for each in tried if each.severity is Severity.ERROR] == []
