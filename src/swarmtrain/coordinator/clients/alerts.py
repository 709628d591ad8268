"""A test that is sent to everybody whom a run tells of alerts, from where it tells them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from swarmtrain.coordinator.run.alerts.targets import targets_of, tell
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.errors import ClusterError
from swarmtrain.protocol.alerts.alert import AlertMessage
from swarmtrain.protocol.alerts.answer import AlertAnswer


async def test(run: RunController) -> AsyncIterator[AlertAnswer]:
    """What each target answers, once; nothing is tried again.

    Raises:
        ClusterError: the run tells nobody.
    """
    targets = targets_of(run.spec, run.secret)
    if not targets:
        raise ClusterError(
            f"{run.secret.run} tells nobody of alerts",
            "give its job `alerts:` with slack, webhook or command (docs/alerts.md)",
        )
    for target in targets:
        message = AlertMessage.trial(run.secret.run, run.journal.clock.now())
        yield await tell(target, message, run.secret)
