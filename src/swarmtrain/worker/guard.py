"""Two processes that watch each other, so that nothing outlives the spawner.

A spawner that is killed cannot clean up, and what its workers left in sessions of their own would go on. So the
process that the agent started stays behind as a small guard, and its child is the spawner. When the spawner dies,
its workers die with it (PR_SET_PDEATHSIG), the rest is adopted by the guard, and the guard kills it. When the guard
dies, the spawner is told and ends everything itself. The guard's exit therefore means: nothing is left.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from swarmtrain.wire.machine.processes import become_subreaper, die_with_parent, kill_all
from swarmtrain.worker import processes


def split(keep: int) -> None:
    """Fork; return in the child, which is the spawner. The parent never returns: it exits as the child does.

    Args:
        keep: the spawner's socket. The guard closes it, so that the agent sees the end of the spawner at once.
    """
    guard = os.getpid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the agent to interpret
    become_subreaper()
    child = os.fork()
    if child:
        os.close(keep)
        sys.exit(_watch(child))
    become_subreaper()
    die_with_parent(guard, signal.SIGTERM)


def _watch(child: int) -> int:
    """Wait for the spawner, then kill whatever it has left; its exit status, as a shell would give it."""

    def forward(number: int, frame: FrameType | None) -> None:
        kill_all([child], number)

    signal.signal(signal.SIGTERM, forward)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    processes.end_descendants()
    return code if code >= 0 else 128 - code
