"""Events of alerts: of what people are told, and what became of telling them."""

from __future__ import annotations

from typing import Annotated, ClassVar

from swarmtrain.protocol.alerts.kinds import AlertKind
from swarmtrain.protocol.journal.remarks import Remark
from swarmtrain.protocol.schema import OMITTED


class AlertRaised(Remark, kw_only=True):
    """Something was measured of which people are to be told.

    Attributes:
        alert: its kind.
        about: whom or what it is about.
    """

    kind: ClassVar[str] = "alert"
    alert: AlertKind
    about: Annotated[str, OMITTED] = ""


class AlertSettled(Remark, kw_only=True):
    """A target has taken an alert, and everything before it is settled there, too.

    Attributes:
        number: of the event that it tells of.
        target: the target's name.
    """

    kind: ClassVar[str] = "alert_sent"
    number: int
    target: str


class AlertGivenUp(AlertSettled, kw_only=True):
    """A target was not told of an alert, and will not be."""

    kind: ClassVar[str] = "alert_unsent"
