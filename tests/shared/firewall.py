"""What a machine of the lab lets in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from swarmtrain.lab.lab import Lab


@contextmanager
def dropped(lab: Lab, node: int, *rule: str) -> Iterator[None]:
    """A rule of the firewall of a machine, by which what comes in vanishes."""
    lab.node(node).exec("iptables", "-I", "INPUT", *rule, "-j", "DROP")
    try:
        yield
    finally:
        lab.node(node).exec("iptables", "-D", "INPUT", *rule, "-j", "DROP")
