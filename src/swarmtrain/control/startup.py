"""The first seconds of a run: its coordinator answers, or its launcher says what keeps it from its place.

One that has moved is awaited here, too.

A trouble that Docker reports may pass by itself (a task is restarted, a node comes up), so it counts once it has
been there for `TROUBLE_SECONDS`, or for as long as its launcher says that it may take to pass. Then the run fails
with that reason instead of waiting for its join deadline.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from swarmtrain.control.result import killed, never_started
from swarmtrain.control.views import left_behind
from swarmtrain.errors import ClusterError, in_short
from swarmtrain.protocol.status import Status
from swarmtrain.swarm.obstacles import Obstacle

if TYPE_CHECKING:
    from swarmtrain.launchers.base import Launcher, Run

TROUBLE_SECONDS = 3.0
LOOK_SECONDS = 1.0
_CALM_SECONDS = 2.5  # after a look that finds nothing: each is several questions to a busy Docker
_ASK_SECONDS = 0.2
_VAIN_SECONDS = 2.5  # between questions to a coordinator of which there is no sign
_MOVE_SECONDS = 120.0  # for a coordinator to answer on another machine


class Persistence:
    """Turns what a launcher says now into what is certain. Pure: the caller brings the time.

    Args:
        seconds: how long a trouble must have been there without a break.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None

    def certain(self, trouble: Obstacle, now: float) -> str:
        """The trouble once it has lasted, in words; empty before."""
        if not trouble:
            self._since = None
            return ""
        if self._since is None:
            self._since = now
        patience = max(self._seconds, trouble.passes)
        return trouble.text if now - self._since >= patience else ""

    @property
    def pause(self) -> float:
        """Seconds until the next look is due."""
        return _CALM_SECONDS if self._since is None else LOOK_SECONDS


class CannotStart(ClusterError):
    """The run does not get to its place."""

    def __init__(self, run: Run, reason: str) -> None:
        super().__init__(
            f"{run.id} cannot start: {reason}",
            f"`swarmtrain status {run.id}` keeps the reason, `swarmtrain rm {run.id}` forgets it",
        )
        self.reason = reason


class StartupWatch:
    """Looks for trouble while a run starts, from a thread of its own, and calls ``found`` when it is certain.

    It looks once it is told that the run has not begun: trouble of one that has is no reason to end it.
    """

    def __init__(self, launcher: Launcher, run: Run, found: Callable[[], None]) -> None:
        self._launcher = launcher
        self._run = run
        self._found = found
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="lookout", daemon=True)
        self.reason = ""

    def __enter__(self) -> StartupWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.rest()

    def look(self) -> None:
        """Begin to look. Safe to call twice."""
        if self._thread.ident is None:
            self._thread.start()

    def rest(self) -> None:
        """Stop looking: the run has started, or ended. Safe to call twice."""
        self._over.set()

    def _look(self) -> None:
        persistence = Persistence(TROUBLE_SECONDS)
        pause = LOOK_SECONDS
        while not self._over.wait(pause):
            reason = persistence.certain(trouble_of(self._launcher, self._run), time.monotonic())
            if reason and not self._over.is_set():
                self.reason = reason
                self._found()
                return
            pause = persistence.pause


def trouble_of(launcher: Launcher, run: Run) -> Obstacle:
    """What the launcher reports; nothing when it cannot tell."""
    try:
        return launcher.trouble(run)
    except ClusterError:
        return Obstacle()  # Docker did not answer this time; whoever waits has a limit of its own


def end_of(launcher: Launcher, run: Run) -> Status | None:
    """How a run ended of which no coordinator tells; None where its launcher does not know that either."""
    if run.live:
        return None
    if run.killed:
        return killed(run.id, run.job, run.killed, run.created, run.ended)
    trouble = trouble_of(launcher, run)
    return never_started(run.id, run.job, trouble.text, run.created) if trouble else None


def refuse(launcher: Launcher, run: Run, status: Callable[[], Status], reason: str) -> bool:
    """Take away what a run that cannot start has; whether that was done.

    What stays of it is no reason to hide why it cannot. One that its coordinator has begun with at this moment is left
    alone: its files are what it has trained so far.
    """
    with contextlib.suppress(ClusterError):
        if status().generation:
            return False
    with contextlib.suppress(ClusterError):
        launcher.refuse(run, reason)
    return True


def explained(launcher: Launcher, run: Run, status: Status) -> Status:
    """The same status, with what only a client can add to its end.

    That is a file which lies here and did not travel, and what is known of nodes that have not joined.
    """
    if status.state == "failed" and not status.generation and status.cause is None:
        with contextlib.suppress(ClusterError):  # Docker does not answer, and what is known stays said
            heard = [member.node for member in status.members if member.address]
            if why := launcher.unheard(run, heard):
                return dataclasses.replace(status, reason=f"{status.reason}; {why}")
    return left_behind.explained(status, run)


def await_answer(launcher: Launcher, run: Run, ask: Callable[[], Status], patience: float) -> None:
    """Return once the coordinator answers and nothing keeps the run from its place.

    An answer alone is not enough: a coordinator that died at once is answered for by its archive.

    Args:
        ask: one attempt to speak to the coordinator; raises ClusterError while that is not possible.
        patience: seconds of silence after which it is given up.

    Raises:
        CannotStart: the launcher knows why it does not get there. ClusterError: the time is over.
    """
    begin = asked = looked = time.monotonic()
    persistence, pause = Persistence(TROUBLE_SECONDS), LOOK_SECONDS
    silence: ClusterError | None = ClusterError("there is no sign of it yet")
    while True:
        if _may_answer(launcher, run) or time.monotonic() - asked >= _VAIN_SECONDS:
            try:
                status, silence = ask(), None
                if status.generation or status.cause:
                    return
            except ClusterError as error:
                silence = error
            asked = time.monotonic()
        now = time.monotonic()
        if silence is None or now - looked >= pause:
            looked, trouble = now, trouble_of(launcher, run)
            if reason := persistence.certain(trouble, now):
                raise CannotStart(run, reason) from silence
            if silence is None and not trouble:
                return
            pause = persistence.pause
        if silence is not None and now - begin >= patience:
            raise ClusterError(
                f"the coordinator of {run.id} did not answer within {patience:.0f} s: {in_short(silence)}",
                silence.hint,
            ) from silence
        time.sleep(_ASK_SECONDS)


def _may_answer(launcher: Launcher, run: Run) -> bool:
    try:
        return launcher.may_answer(run)
    except ClusterError:
        return True  # and whoever asks hears what is wrong


def answer_of_moved(ask: Callable[[], Status]) -> Status:
    """What a coordinator that has moved says first.

    Args:
        ask: as `await_answer` takes it.

    Raises:
        ClusterError: it does not answer within two minutes.
    """
    deadline = time.monotonic() + _MOVE_SECONDS
    while True:
        try:
            return ask()
        except ClusterError:
            if time.monotonic() > deadline:
                raise
        time.sleep(LOOK_SECONDS)
