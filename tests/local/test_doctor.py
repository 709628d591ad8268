"""The doctor's collectives with real processes: three of this machine stand for three nodes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections import Counter

from swarmtrain.protocol.codec import dump
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
