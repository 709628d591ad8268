"""A node's init, as tini is elsewhere: no orphan is left whatever dies, and what dies is started again.

It is the container's process 1, or on local the process that everything of a node descends from; a coordinator has one,
too. Orphans of its child, of the workers or of the workers' own children come to it, since it is their subreaper; when
the child ends, however it ends, the init kills what is left of the tree. In a container it then passes the exit code
on, and Docker starts the container again; on local there is nobody else to do that. A child that was stopped nobody
else would wake anywhere.

In a container everything ends with its process 1. On local a child whose init is killed goes on, since nothing is
wrong with it; the init has written down which it is, so that the launcher finds it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from swarmtrain.wire.clock import MACHINE
from swarmtrain.wire.machine import processes

# In the directory that a local launcher starts an init in: which process its child is.
CHILD_FILE = Path("kept.json")

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_AGAIN_SECONDS = 1.0  # as Swarm waits before it starts a task again
_SHORT_SECONDS = 5.0  # a life that is not worth another one
_SHORT_LIVES = 3
_STOPPED_SECONDS = 10.0  # for which a child may be stopped, as by a person who looks at it
_LOOK_SECONDS = 0.1
_SWEEP_SECONDS = 2.0  # in which what is about to end by itself does
_DYING_SECONDS = 10.0  # until what even SIGKILL does not end is given up


def supervise(work: Callable[[], int], *, again: bool = False, note: Path | None = None) -> int:
    """Run ``work`` in a child; return its exit code when nothing below this process is left running.

    Args:
        work: its exit code 0 means: done, not to be started again.
        again: start it again when it ends otherwise, unless it was this process that was told to end, or it keeps
            dying within seconds.
        note: the file in which it is written down which process the child is.
    """
    processes.become_subreaper()
    child = 0
    told = False

    def forward(number: int, frame: FrameType | None) -> None:
        nonlocal told
        told = True
        processes.kill_all([child] if child else [], number)

    lives = code = 0
    init = os.getpid()
    while True:
        began = time.monotonic()
        # A signal that comes now is for the next child.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        if told:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return code
        child = os.fork()
        if child == 0:
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            if not again:
                processes.die_with_parent(init, signal.SIGTERM)
            return work()
        if note is not None:
            _write_down(child, note)
        for number in _SIGNALS:
            signal.signal(number, forward)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        code = _wait(child)
        child = 0
        _sweep()
        lives = lives + 1 if time.monotonic() - began < _SHORT_SECONDS else 0
        if code == 0 or told or not again or lives >= _SHORT_LIVES:
            return code
        print(f"ended with {code}; starting it again", file=sys.stderr, flush=True)
        time.sleep(_AGAIN_SECONDS)


def _write_down(child: int, note: Path) -> None:
    fields = {"pid": child, "began": processes.began(child), "boot": MACHINE.boot()}
    with contextlib.suppress(OSError):  # a disk that is full is no reason not to go on
        note.write_text(json.dumps(fields))


def _wait(child: int) -> int:
    """Reap orphans until the child itself has ended, and wake it where it was stopped."""
    while True:
        pid, status = os.waitpid(-1, os.WUNTRACED)
        if pid == child and os.WIFSTOPPED(status):
            _wake(child)
        elif pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _wake(child: int) -> None:
    """A child that stays stopped stands in the way of the whole run, and of everybody who could start another."""
    limit = time.monotonic() + _STOPPED_SECONDS
    while processes.halted(child):
        if time.monotonic() > limit:
            print("was stopped; it goes on", file=sys.stderr, flush=True)
            processes.kill_all([child], signal.SIGCONT)
            return
        time.sleep(_LOOK_SECONDS)


def _sweep() -> None:
    """Kill whatever is left: a spawner that is about to end by itself gets a moment to do it in order.

    What even that does not end, since it is stuck in a driver or another user's, is given up.
    """
    patience = time.monotonic() + _SWEEP_SECONDS
    while left := processes.descendants(os.getpid()):
        if time.monotonic() > patience + _DYING_SECONDS:
            print(f"left behind, as nothing ends them: processes {left}", file=sys.stderr, flush=True)
            return
        if time.monotonic() > patience:
            processes.kill_all(left)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.02)
    sys.stderr.flush()
