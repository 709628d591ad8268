"""More managers for the lab's Swarm, for a while.

A change follows another one only after a while: a manager counts as reachable before it has caught up, and a leader
that is told to write at that moment may lock itself up for good (Docker 20.10: "data store lock held too long").
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from waiting import until

from swarmtrain.lab.lab import Lab

_SECONDS = 60.0  # for a change to be made
_SETTLE_SECONDS = 5.0


@contextmanager
def more_managers(lab: Lab, *nodes: str) -> Iterator[None]:
    """These nodes are managers, too; afterwards the first one is the only one again, and the lab is whole."""
    try:
        for node in nodes:
            _change(lab, "promote", node)
        yield
    finally:
        lab.up()
        for node in reversed(nodes):
            _change(lab, "demote", node)


def _change(lab: Lab, change: str, node: str) -> None:
    first = lab.node(1).docker
    until(lambda: first.completed("node", change, node).returncode == 0, _SECONDS, f"{change} {node}")
    until(partial(_is_manager, lab, node, change == "promote"), _SECONDS, f"{change} {node} to be done")
    time.sleep(_SETTLE_SECONDS)


def _is_manager(lab: Lab, node: str, wanted: bool) -> bool:
    said = lab.node(node).docker.completed("info", "--format", "{{.Swarm.ControlAvailable}}")
    return said.stdout.strip() == (b"true" if wanted else b"false")
