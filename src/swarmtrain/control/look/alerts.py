"""Trying whether alerts arrive: from a run's coordinator, or from here with a job that was not started yet."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from swarmtrain.errors import RequestError
from swarmtrain.protocol.alerts.alert import AlertMessage, AlertTarget
from swarmtrain.protocol.alerts.answer import AlertAnswer
from swarmtrain.protocol.ask import ask
from swarmtrain.protocol.requests import AlertTestRequest

if TYPE_CHECKING:
    from swarmtrain.job import LoadedJob
    from swarmtrain.launchers.base import Launcher, Run


def ask_for_test(launcher: Launcher, run: Run) -> Iterator[AlertAnswer]:
    """What everybody whom a run tells answers to a test.

    Raises:
        ClusterError: nobody answers for the run, or it tells nobody.
    """
    with launcher.connect(run) as link:
        for reply in ask(link, AlertTestRequest()):
            if reply.alert_answer is not None:
                yield reply.alert_answer


def try_from_here(loaded: LoadedJob) -> Iterator[AlertAnswer]:
    """The same of a job, sent from this machine.

    Raises:
        RequestError: it tells nobody.
    """
    from swarmtrain.protocol.alerts.delivery import attempt

    targets = [AlertTarget.webhook(name, address) for name, address in loaded.webhooks.items()]
    if loaded.job.alerts.command:
        targets.append(AlertTarget.command(loaded.job.alerts.command))
    if not targets:
        raise RequestError(
            f"the job {loaded.job.name} tells nobody of alerts",
            "give it `alerts:` with slack, webhook or command (docs/alerts.md)",
        )
    for target in targets:
        yield attempt(target, AlertMessage.trial(loaded.job.name, time.time()), loaded.environment)
