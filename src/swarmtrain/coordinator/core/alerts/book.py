"""Which of a run's events people are told of, and who has been. Pure.

Everything follows from the journal: `AlertBook.apply` is the only code by which a book changes, a living coordinator
applies each event that it appends, and one that is started again applies them all. So it neither repeats an alert that
was taken nor loses one that was not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, replace
from typing import Any

from swarmtrain.coordinator.core.incident_log import signature
from swarmtrain.protocol.alerts.alert import Alert
from swarmtrain.protocol.alerts.kinds import ALERT_KINDS, AlertKind
from swarmtrain.protocol.facts import Failure, Outcome
from swarmtrain.protocol.journal.event import Event
from swarmtrain.protocol.journal.events import (
    Ended,
    GenerationEnded,
    GenerationFailed,
    GenerationFormed,
    Recovered,
)
from swarmtrain.protocol.journal.remarks import SnapshotFailed, StallSeen, StragglerSeen
from swarmtrain.protocol.journal.told import AlertRaised, AlertSettled
from swarmtrain.protocol.schema import Struct
from swarmtrain.wire.plural import counted, plural

WINDOW = 3600.0  # seconds in which alerts are counted, and in which one of the same thing is not repeated
_LAST: tuple[AlertKind, ...] = ("failed", "finished")  # which nothing holds back: a run has one of them


class AlertPolicy(Struct):
    """What the job says of alerts.

    Attributes:
        kinds: of which people are told.
        most: alerts in an hour, but for that of the end.
        targets: the names of those who are told.
    """

    kinds: frozenset[AlertKind] = frozenset(ALERT_KINDS)
    most: int = 20
    targets: tuple[str, ...] = ()


class AlertBook(Struct):
    """The alerts of a run after some of its events.

    Attributes:
        waiting: those that some target has not settled, oldest first: as many as the policy lets pass in the time in
            which they are given up, at most.
        settled: by target, up to which event.
        passed: when alerts were let pass, within the window.
        recent: by kind and what it is about, when that was told last, within the window.
        held: how many were held back since one was let pass.
        generation: the newest.
        what: befell the run, where it has not gone on from that yet.
    """

    policy: AlertPolicy = field(default_factory=AlertPolicy)
    waiting: tuple[Alert, ...] = ()
    settled: Mapping[str, int] = field(default_factory=dict)
    passed: tuple[float, ...] = ()
    recent: Mapping[tuple[str, str], float] = field(default_factory=dict)
    held: int = 0
    generation: int = 0
    what: str = ""

    def apply(self, event: Event) -> AlertBook:
        """The book after one more event."""
        match event:
            case AlertSettled():
                return self._settles(event)
            case GenerationFormed():
                return replace(self, generation=event.generation)
            case GenerationEnded():
                return replace(self, what=event.incident.what)
        alert = self._of(event)
        return self if alert is None else self._takes(alert)

    def next_for(self, target: str) -> Alert | None:
        """The first alert that a target is still to be told of."""
        known = self.settled.get(target, 0)
        return next((alert for alert in self.waiting if alert.number > known), None)

    def _of(self, event: Event) -> Alert | None:
        """The alert of an event; None where the job wants none of it."""
        make = _MAKERS.get(type(event))
        found = make(self, event) if make is not None else None
        if found is None or found[0] not in self.policy.kinds:
            return None
        kind, about = found
        return Alert(number=event.seq, kind=kind, about=about, text=event.text, time=event.time)

    def _takes(self, alert: Alert) -> AlertBook:
        key, begin = (alert.kind, alert.about), alert.time - WINDOW
        passed = tuple(each for each in self.passed if each > begin)
        recent = {each: time for each, time in self.recent.items() if time > begin}
        if alert.kind not in _LAST and (key in recent or len(passed) >= self.policy.most):
            held = self.held + (alert.kind != "hung")  # of one standstill the journal tells several times
            return replace(self, passed=passed, recent=recent, held=held)
        if alert.kind not in _LAST:
            passed = (*passed, alert.time)
        notes = []
        if self.held:
            notes.append(
                f"{counted(self.held, 'alert')} before this {plural(self.held, 'was', 'were')} held back"
            )
        if len(passed) >= self.policy.most and alert.kind not in _LAST:
            free = passed[0] + WINDOW - alert.time
            notes.append(
                f"this is number {len(passed)} within an hour: others are held back for {free / 60:.0f} min"
            )
        return replace(
            self,
            waiting=(*self.waiting, replace(alert, note="; ".join(notes))),
            passed=passed,
            recent=recent | {key: alert.time},
            held=0,
        )

    def _settles(self, event: AlertSettled) -> AlertBook:
        settled = {**self.settled, event.target: max(event.number, self.settled.get(event.target, 0))}
        least = min((settled.get(target, 0) for target in self.policy.targets), default=0)
        waiting = tuple(alert for alert in self.waiting if alert.number > least)
        return replace(self, settled=settled, waiting=waiting)


# ---- of which kind an event is, and what it is about ---------------------------------------------------------------

_Found = tuple[AlertKind, str] | None
_NO_SPACE = ("No space left on device", "Disk quota exceeded")  # as strerror has ENOSPC and EDQUOT


def _ended(book: AlertBook, event: Ended) -> _Found:
    return ("failed", "") if event.outcome is Outcome.FAILED else ("finished", "")


def _recovered(book: AlertBook, event: Recovered) -> _Found:
    """A change of the group that a person asked for, or a node that came, heals nothing."""
    return None if event.planned else ("healed", signature(Failure("", "", 0.0, book.what)))


def _failed(book: AlertBook, event: GenerationFailed) -> _Found:
    if event.failure.kind == "node":
        return ("node_lost", event.failure.node)
    return ("hung", f"generation {book.generation}") if event.failure.kind == "hang" else None


def _stalled(book: AlertBook, event: StallSeen) -> _Found:
    return ("hung", f"generation {book.generation}")


def _slowed(book: AlertBook, event: StragglerSeen) -> _Found:
    return ("slow", f"rank {event.rank}")


def _unsaved(book: AlertBook, event: SnapshotFailed) -> _Found:
    return ("disk_low", event.node) if any(each in event.text for each in _NO_SPACE) else None


def _raised(book: AlertBook, event: AlertRaised) -> _Found:
    return event.alert, event.about


_MAKERS: Mapping[type[Event], Callable[[AlertBook, Any], _Found]] = {
    Ended: _ended,
    Recovered: _recovered,
    GenerationFailed: _failed,
    StallSeen: _stalled,
    StragglerSeen: _slowed,
    SnapshotFailed: _unsaved,
    AlertRaised: _raised,
}
