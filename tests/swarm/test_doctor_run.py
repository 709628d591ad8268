"""`doctor NAME` on a real Swarm: beside a run that trains, which goes on, it finds what was broken under it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import SWARMTRAIN
from firewall import dropped
from sound_lab import known
from waiting import until

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle
from swarmtrain.lab.lab import Lab

# Small steps that never wait for each other: what is broken between the nodes does not stop it.
SCRIPT = """
import time
from swarmtrain.trainer import report
for step in range(1, 100_000):
    report(loss=1 / step, step=step)
    time.sleep(0.05)
"""


def doctor(*words: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and what is wrong by its code, but for what is true of a sound lab."""
    done = subprocess.run(
        [SWARMTRAIN, "doctor", *words, "--json"], capture_output=True, text=True, timeout=240
    )
    assert done.stdout, done.stderr
    findings = json.loads(done.stdout)
    good = known()
    bad = [each for each in findings if each["severity"] in ("error", "warning")]
    return done.returncode, {each["code"]: each for each in bad if each["code"] not in good}


@pytest.fixture
def run(
    machines: Lab, torch_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunHandle]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(SCRIPT)
    handle = Client("swarm").run(Job(script="train.py", name="ill", image=torch_image, nodes=3))
    try:
        until(lambda: (handle.status().step or 0) > 20, 90)
        yield handle
    finally:
        handle.remove(force=True)


def test_a_run_is_examined_beside_its_training_which_goes_on(run: RunHandle, machines: Lab) -> None:
    before = run.status()
    code, wrong = doctor("ill")
    assert (code, wrong) == (0, {})
    after = run.status()
    assert (after.generation, after.restarts) == (before.generation, 0)
    assert (after.step or 0) > (before.step or 0) + 20
    processes = [machines.node(number).exec("ps", "axo", "args") for number in (1, 2, 3)]
    assert not [line for text in processes for line in text.splitlines() if " probe " in line]

    # Large packets to one machine vanish, and small ones pass, as where a path carries less than its ends believe.
    with dropped(machines, 3, "-p", "udp", "--dport", "4789", "-m", "length", "--length", "1400:65535"):
        code, wrong = doctor("ill")
    assert code == 3 and set(wrong) == {"black-hole"}, wrong
    assert wrong["black-hole"]["subject"] == "lab-3"
    assert "com.docker.network.driver.mtu=13" in wrong["black-hole"]["mend"]

    # Nothing passes between two machines, and both reach the coordinator.
    with dropped(machines, 3, "-s", machines.node(2).address(), "-p", "udp", "--dport", "4789"):
        code, wrong = doctor("ill")
    assert code == 3 and set(wrong) == {"overlay"}, wrong
    assert wrong["overlay"]["subject"] == "lab-2, lab-3" and "4789/udp" in wrong["overlay"]["mend"]
    assert run.status().generation == before.generation

    run.stop()
    code, wrong = doctor("ill")
    assert (code, wrong) == (0, {})
