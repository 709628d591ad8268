"""The first seconds of a run: its coordinator answers, or its launcher says what keeps it from its place.

A trouble that Docker reports may pass by itself (a task is restarted, a node comes up), so it counts once it has
been there for `TROUBLE_SECONDS`. Then the run fails with that reason instead of waiting for its join deadline.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from swarmtrain.control.result import Status
from swarmtrain.errors import ClusterError

if TYPE_CHECKING:
    from swarmtrain.launchers.base import Launcher, Run

TROUBLE_SECONDS = 3.0
LOOK_SECONDS = 1.0
_ASK_SECONDS = 0.2


class Persistence:
    """Turns what a launcher says now into what is certain. Pure: the caller brings the time.

    Args:
        seconds: how long a trouble must have been there without a break.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None

    def certain(self, trouble: str, now: float) -> str:
        """The trouble once it has lasted; empty before."""
        if not trouble:
            self._since = None
            return ""
        if self._since is None:
            self._since = now
        return trouble if now - self._since >= self._seconds else ""


class Lookout:
    """Looks for trouble while a run starts, from a thread of its own, and calls ``found`` when it is certain."""

    def __init__(self, launcher: Launcher, run: Run, found: Callable[[], None]) -> None:
        self._launcher = launcher
        self._run = run
        self._found = found
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="lookout", daemon=True)
        self.reason = ""

    def __enter__(self) -> Lookout:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.rest()

    def rest(self) -> None:
        """Stop looking: the run has started, or ended. Safe to call twice."""
        self._over.set()

    def _look(self) -> None:
        persistence = Persistence(TROUBLE_SECONDS)
        while not self._over.wait(LOOK_SECONDS):
            reason = persistence.certain(trouble_of(self._launcher, self._run), time.monotonic())
            if reason and not self._over.is_set():
                self.reason = reason
                self._found()
                return


def trouble_of(launcher: Launcher, run: Run) -> str:
    """What the launcher reports; nothing when it cannot tell."""
    try:
        return launcher.trouble(run)
    except ClusterError:
        return ""  # Docker did not answer this time; whoever waits has a limit of its own


def await_answer(launcher: Launcher, run: Run, ask: Callable[[], Status], patience: float) -> None:
    """Return once the coordinator answers and nothing keeps the run from its place.

    An answer alone is not enough: a coordinator that died at once is answered for by its archive.

    Args:
        ask: one attempt to speak to the coordinator; raises ClusterError while that is not possible.
        patience: seconds of silence after which it is given up.

    Raises:
        ClusterError: the launcher knows why it does not get there, or the time is over.
    """
    begin = time.monotonic()
    persistence = Persistence(TROUBLE_SECONDS)
    while True:
        silence: ClusterError | None = None
        try:
            status = ask()
            if status["generation"] or status["cause"]:
                return
        except ClusterError as error:
            silence = error
        trouble, now = trouble_of(launcher, run), time.monotonic()
        if reason := persistence.certain(trouble, now):
            hint = f"`swarmtrain rm {run.id}` takes away what there is of it"
            raise ClusterError(f"{run.id} cannot start: {reason}", hint) from silence
        if silence is None and not trouble:
            return
        if silence is not None and now - begin >= patience:
            raise ClusterError(
                f"the coordinator of {run.id} did not answer within {patience:.0f} s: {silence.message}",
                silence.hint,
            ) from silence
        time.sleep(_ASK_SECONDS)
