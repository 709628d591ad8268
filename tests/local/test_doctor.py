"""The doctor with real processes: collectives, for which three of this machine stand for three nodes; and a run."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from browser import SWARMTRAIN
from waiting import until

from swarmtrain import Client, ClusterError, Job, RunHandle
from swarmtrain.job import Restart
from swarmtrain.protocol.codec import dump
from swarmtrain.protocol.evidence.seen import FlightFinding
from swarmtrain.protocol.probes import reports
from swarmtrain.protocol.probes.reports import CollectiveReport, ProbeDone, ProbePeer

# A container's host name is its own, and leads to it; here it is a variable, and all are on loopback.
PROGRAM = """
import os, socket, sys
from swarmtrain.probe import collectives, main
socket.gethostname = lambda: os.environ["HOSTNAME_HERE"]
socket.gethostbyname = lambda name: "127.0.0.1"
collectives.PORT = int(sys.argv[1])
sys.exit(main.main(["collect"]))
"""
NODES = ("alice", "bob", "carol")


def test_every_collective_is_right_and_every_two_nodes_are_tried() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    peers = json.dumps([dump(ProbePeer(name, f"collect-{name}", "")) for name in NODES])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(port)],
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                reports.ENV_NODE: name,
                reports.ENV_PEERS: peers,
                "HOSTNAME_HERE": f"collect-{name}",
            },
        )
        for name in NODES
    ]
    said = [each for process in processes for each in reports.reports_in(process.communicate(timeout=120)[0])]
    assert [process.returncode for process in processes] == [0, 0, 0]
    results = [each for each in said if isinstance(each, CollectiveReport)]
    assert [each.error for each in results if each.error] == []
    assert all(each.correct and each.seconds > 0 and each.bits > 0 for each in results)
    names = Counter(each.name for each in results)
    assert names == {"all-reduce": 3, "broadcast": 3, "gather": 3, "scatter": 3, "pair": 6}
    pairs = {(each.node, each.peer) for each in results if each.name == "pair"}
    assert pairs == {(first, second) for first in NODES for second in NODES if first != second}
    assert [each for each in said if isinstance(each, ProbeDone)] == [
        ProbeDone(name, "collect") for name in NODES
    ]


PARTED = """
import time, torch
import torch.distributed as dist
dist.init_process_group("gloo")
while True:
    dist.all_reduce(torch.ones(64, dtype=torch.int32 if dist.get_rank() == 1 else torch.float32))
    dist.barrier()
    time.sleep(0.1)
"""


@pytest.mark.long
def test_collectives_that_are_not_the_same_and_come_through_are_found_while_all_seems_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWARMTRAIN_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(PARTED)
    handle = Client("local").run(Job(script="train.py", name="parted", nodes=2))
    try:
        until(lambda: any(each.kind == "parted" for each in findings(handle)), 60, "records of both ranks")
        code, found = examined("parted")
        assert code == 3
        (its,) = (each for each in found if each["code"] == "run-collectives")
        assert (its["severity"], its["subject"]) == ("error", "rank 1")
        assert "all_reduce" in its["sentence"] and "of Int [64]" in its["sentence"]
    finally:
        handle.kill()


def findings(handle: RunHandle) -> list[FlightFinding]:
    try:
        return handle.stacks().findings
    except ClusterError:  # no worker runs yet
        return []


def test_a_run_on_this_machine_is_examined_while_it_trains_and_after_it_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWARMTRAIN_HOME", str(tmp_path / "home"))
    (tmp_path / "train.py").write_text(
        "import time, pathlib\nwhile not pathlib.Path('end').exists(): time.sleep(0.1)\nraise ValueError('no data')\n"
    )
    monkeypatch.chdir(tmp_path)
    handle = Client("local").run(Job(script="train.py", name="ill", nodes=2, restart=Restart(max=0)))
    try:
        until(lambda: handle.status().state == "running", 60)
        code, found = examined("ill")
        assert "run-node-silent" not in {each["code"] for each in found if each["severity"] != "ok"}
        assert {"run-diagnosis": "ok", "run-shm": "ok", "torch": "ok"}.items() <= {
            each["code"]: each["severity"] for each in found
        }.items()
        for member in handle.status().members:
            work = Path(handle.status().directories[member.node].work)
            (work / "end").touch()
        until(lambda: handle.status().has_ended, 60)
        code, found = examined("ill")
        assert code == 3
        (diagnosis,) = (each for each in found if each["code"] == "run-diagnosis")
        assert diagnosis["severity"] == "error" and "ValueError: no data" in diagnosis["sentence"]
        assert "run-untried" in {each["code"] for each in found}
    finally:
        handle.remove(force=True)


def examined(name: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code of `doctor NAME`, and what it found."""
    argv = [SWARMTRAIN, "doctor", name, "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert done.stdout, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return done.returncode, found
