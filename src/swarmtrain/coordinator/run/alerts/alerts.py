"""The alerts of a living run: each is sent to every target, tried again where it was not taken, and then settled.

Beside everything else: an attempt is a process of its own (targets.py), and the run is never held up. What is to be
told is in the book (core/alerts/book.py), which the journal fills; what was told goes back into the journal. A
coordinator that dies between an answer and that sends the same message once more, with the same id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from swarmtrain.coordinator.core.alerts.book import AlertBook, AlertPolicy
from swarmtrain.coordinator.core.model import Phase
from swarmtrain.coordinator.run.alerts.targets import kinds_of, targets_of, tell
from swarmtrain.coordinator.run.alerts.watching import Watching
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.protocol.alerts.alert import Alert, AlertMessage, AlertTarget
from swarmtrain.protocol.alerts.answer import AlertAnswer
from swarmtrain.protocol.alerts.kinds import AlertKind
from swarmtrain.protocol.evidence.diagnosis import Diagnosis
from swarmtrain.protocol.journal.remarks import Warned
from swarmtrain.protocol.journal.told import AlertGivenUp, AlertSettled
from swarmtrain.wire.plural import counted

_FIRST, _LONGEST = 2.0, 300.0  # seconds until an attempt is repeated: at first, and at most
GIVE_UP = 3600.0  # seconds after which an alert is news no more
OLD = 86400.0  # seconds after which nobody is told of it for the first time: nobody led the run for so long
GIVE_UP_ENDED = 300.0  # the same after the end of the run, whose coordinator stays as long
_LOOK = 1.0  # seconds between two looks at the journal, where nothing rings


class Alerts:
    """Tells people of one run; one instance a coordinator.

    Args:
        diagnose: says why it has failed.
    """

    def __init__(self, run: RunController, diagnose: Callable[[RunController], Awaitable[Diagnosis]]) -> None:
        self._run, self._diagnose = run, diagnose
        self._targets = targets_of(run.spec, run.secret)
        kinds: frozenset[AlertKind] = kinds_of(run.spec)
        names = tuple(target.name for target in self._targets)
        self._book = AlertBook(AlertPolicy(kinds, run.spec.alerts_per_hour, names))
        self._read = 0  # events that are in the book
        self._watching = Watching(run, kinds)

    def pending(self) -> bool:
        """Whether somebody is still to be told of something."""
        self._catch_up()
        return bool(self._targets) and bool(self._book.waiting)

    async def serve(self) -> None:
        """Watch and tell, until this is cancelled."""
        work = [self._watching.watch(), *(self._send(target) for target in self._targets)]
        tasks = [asyncio.ensure_future(each) for each in work]
        try:
            await asyncio.gather(*tasks)
        except Exception as error:  # whatever is wrong here, the run is led on
            self._targets = []
            if self._run.phase is not Phase.ENDED:
                self._run.journal.append(Warned(text=f"nobody is told of anything any more: {error!r}"))
        finally:
            for each in tasks:
                each.cancel()

    def _catch_up(self) -> None:
        events = self._run.journal.events
        for event in events[self._read :]:
            self._book = self._book.apply(event)
        self._read = len(events)

    async def _send(self, target: AlertTarget) -> None:
        """Tell one target of everything, in its order."""
        while True:
            self._catch_up()
            alert = self._book.next_for(target.name)
            if alert is not None:
                await self._settle(target, alert)
            elif self._run.phase is Phase.ENDED:
                await asyncio.Event().wait()  # nothing comes after the end
            else:
                await self._run.notifier.wait(_LOOK)

    async def _settle(self, target: AlertTarget, alert: Alert) -> None:
        """Tell a target of one alert, until it has taken it or it is given up."""
        if self._run.journal.clock.now() > alert.time + OLD:
            late = AlertAnswer(target=target.name, delivered=False, said="it is more than a day old")
            return self._write_down(alert, late, 0)
        secret = self._run.secret
        message = AlertMessage.of(secret.run, secret.submission, alert, await self._diagnosis(alert))
        wait, tries = _FIRST, 0
        while True:
            answer, tries = await tell(target, message, secret), tries + 1
            pause = max(wait, answer.after)
            if answer.delivered or answer.final or self._too_late(alert, pause):
                break
            await self._pause(alert, pause)
            wait = min(2 * wait, _LONGEST)
        return self._write_down(alert, answer, tries)

    async def _pause(self, alert: Alert, seconds: float) -> None:
        """Wait so long; or until the run has ended, and the alert would be news no more after the rest of it."""
        now = self._run.journal.clock.monotonic
        until = now() + seconds
        while (left := until - now()) > 0 and not self._too_late(alert, left):
            await asyncio.sleep(min(left, _LOOK))

    def _too_late(self, alert: Alert, wait: float) -> bool:
        """Whether an alert would be news no more after another wait."""
        run, then = self._run, self._run.journal.clock.now() + wait
        ended = run.state.ended
        return then > alert.time + GIVE_UP or (ended is not None and then > ended + GIVE_UP_ENDED)

    def _write_down(self, alert: Alert, answer: AlertAnswer, tries: int) -> None:
        made = AlertSettled if answer.delivered else AlertGivenUp
        done = "was sent to" if answer.delivered else "could not be sent to"
        after = f", after {counted(tries, 'attempt')}" if tries > 1 else ""
        text = (
            f"the alert of event {alert.number} ({alert.kind}) {done} {answer.target}: {answer.said}{after}"
        )
        self._run.journal.append(made(text=text, number=alert.number, target=answer.target))

    async def _diagnosis(self, alert: Alert) -> Diagnosis | None:
        """Why a run has failed; of one that lives another thing may be wrong by now."""
        if alert.kind != "failed" or self._run.phase is not Phase.ENDED:
            return None
        try:
            return await self._diagnose(self._run)
        except (OSError, LookupError, TypeError, ValueError):
            return None  # the alert says that it failed, and why, in any case
