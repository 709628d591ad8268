"""The keeper: the small parent of the agent, so that no orphan is left whatever dies.

It is the container's process 1, or on local the process that everything of a node descends from. Orphans of the
agent, of the workers or of the workers' own children come to it, since it is their subreaper; when the agent ends,
however it ends, the keeper kills what is left of the tree and passes the agent's exit code on. Should the keeper be
killed, the agent is told by SIGTERM and does the same.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from swarmtrain.wire import processes


def main(argv: list[str]) -> int:
    """Run the agent in a child; return its exit code when nothing of the node is left running."""
    processes.become_subreaper()
    keeper = os.getpid()
    child = os.fork()
    if child == 0:
        processes.die_with_parent(signal.SIGTERM, keeper)
        from swarmtrain.agent.agent import run

        return run()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, frame: _forward(child, received))
    code = _wait(child)
    _sweep()
    return code


def _forward(child: int, number: int) -> None:
    try:
        os.kill(child, number)
    except ProcessLookupError:
        pass


def _wait(child: int) -> int:
    """Reap orphans until the agent itself has ended."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _sweep() -> None:
    """Kill whatever is left: a spawner that is about to end by itself gets a moment to do it in order."""
    patience = time.monotonic() + 2.0
    while processes.descendants(os.getpid()):
        if time.monotonic() > patience:
            processes.kill_all(processes.descendants(os.getpid()))
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.02)
    sys.stderr.flush()
