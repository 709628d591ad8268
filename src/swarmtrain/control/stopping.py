"""Stopping a run, also one whose coordinator comes and goes meanwhile."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from swarmtrain.errors import ChannelError, ClusterError, Refused
from swarmtrain.protocol.ask import ask
from swarmtrain.protocol.requests import StatusRequest, StopRequest
from swarmtrain.protocol.status import Status

if TYPE_CHECKING:
    from swarmtrain.launchers.base import Launcher, Run
    from swarmtrain.wire.link import Link

# Seconds for a silent coordinator to come back before its run is killed: one that has died is started again at once,
# but on a machine that trains, or by a Swarm, that takes some.
_STOP_PATIENCE = 30.0


def stop(launcher: Launcher, run: Run, reason: str) -> None:
    """Stop a run, and wait until it has ended; kill one whose coordinator stays silent.

    Args:
        reason: why, for the record; empty for a person's wish.

    Raises:
        Refused: its coordinator answers, and will not; one that speaks another version, say. Nothing is killed.
    """
    heard = time.monotonic()
    while True:
        answers = False
        try:
            with launcher.connect(run) as link:
                answers = bool(status_over(link))
                for _ in ask(link, StopRequest(reason)):
                    pass
            return
        except Refused:
            raise
        except ClusterError:
            now = time.monotonic()
            heard = now if answers else heard  # it has died while the run was ending
            if now - heard >= _STOP_PATIENCE:
                launcher.kill(run)
                return
            time.sleep(0.5)


def status_over(link: Link) -> Status:
    """The status document, asked for over a link."""
    (reply,) = ask(link, StatusRequest())
    if reply.status is None:
        raise ChannelError("the coordinator answered without a status")
    return reply.status
