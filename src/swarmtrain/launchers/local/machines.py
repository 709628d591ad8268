"""The nodes of a run on this machine, from outside: each is the tree of processes below its init."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from swarmtrain.errors import ClusterError
from swarmtrain.wire.machine.processes import descendants, kill_all

if TYPE_CHECKING:
    from swarmtrain.launchers.base import Act, Undo

_SECONDS = 5.0  # in which SIGKILL ends any process that is not stuck in the kernel


class LocalMachines:
    """See `launchers.base.Machines`. No other run's process is below an init of this one.

    Args:
        roots: the inits that live, by node.
        start: starts a node, whose init has gone.
    """

    mix = (
        *("kill-worker", "stop-worker", "kill-container", "kill-coordinator", "freeze", "power-off"),
        "corrupt-snapshot",
    )
    hint = "processes have no cable of their own: try it on a lab, with `swarmtrain lab up`"

    def __init__(self, roots: Callable[[], Mapping[str, int]], start: Callable[[str], None]) -> None:
        self._roots, self._start = roots, start
        self.kinds: Mapping[str, Act] = {
            "kill-container": lambda node, rate: self._kill_container(node),
            "kill-coordinator": lambda node, rate: self._kill_container(""),
            "freeze": lambda node, rate: self._freeze(node),
            "power-off": lambda node, rate: self._power_off(node),
            "power-on": lambda node, rate: self._start(node),
        }

    def nodes(self, kind: str, nodes: Sequence[str]) -> Sequence[str]:
        """All of them."""
        return nodes

    def check(self, kind: str, node: str) -> None:
        """Nothing here belongs to anybody else."""

    def _root(self, node: str) -> int:
        roots = self._roots()
        if node not in roots:
            raise ClusterError(f"{node or 'the coordinator'} has no process any more")
        return roots[node]

    def _kill_container(self, node: str) -> None:
        """All but the init, which is stopped meanwhile, so that it cannot replace what has not died yet."""
        init = self._root(node)
        os.kill(init, signal.SIGSTOP)
        try:
            _kill_below(init)
        finally:
            os.kill(init, signal.SIGCONT)

    def _power_off(self, node: str) -> Undo:
        init = self._root(node)
        os.kill(init, signal.SIGSTOP)
        _kill_below(init)
        os.kill(init, signal.SIGKILL)
        deadline = time.monotonic() + _SECONDS
        while self._roots().get(node) == init:
            if time.monotonic() > deadline:
                raise ClusterError(f"process {init} cannot be killed")
            time.sleep(0.01)
        return lambda: self._start(node)

    def _freeze(self, node: str) -> Undo:
        """The whole tree, from its root, so that nothing is started that would escape."""
        init = self._root(node)
        stopped = [init]
        os.kill(init, signal.SIGSTOP)
        while fresh := [pid for pid in descendants(init) if pid not in stopped]:
            kill_all(fresh, signal.SIGSTOP)
            stopped += fresh

        def thaw() -> None:
            # a number of a process may be another's now
            if self._roots().get(node) == init:
                kill_all([*descendants(init), init], signal.SIGCONT)

        return thaw


def _kill_below(root: int) -> None:
    deadline = time.monotonic() + _SECONDS
    while left := descendants(root):
        if time.monotonic() > deadline:
            raise ClusterError(f"some processes cannot be killed: {left}")
        kill_all(left)
        time.sleep(0.01)
