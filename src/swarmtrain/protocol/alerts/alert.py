"""An alert, where it goes, and how it reads there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import field
from typing import Annotated, Literal

from swarmtrain.protocol import codec
from swarmtrain.protocol.alerts.kinds import WORDS, AlertKind
from swarmtrain.protocol.evidence.diagnosis import Diagnosis
from swarmtrain.protocol.schema import OMITTED, Struct

_LETTERS = 2000  # of a message to people; Slack itself takes 40,000


class Alert(Struct, kw_only=True):
    """Something that people are told of who do not look.

    Attributes:
        number: of the event in the run's journal that it tells of; with the run it is the alert's identity.
        kind: which of those that a job can name.
        about: whom or what it is about; what is told of the same again soon is held back.
        text: a sentence.
        time: Unix time by the run's clock.
        note: what was held back before it, or will be after it, in a sentence; empty where nothing is.
    """

    number: int
    kind: AlertKind
    text: str
    time: float
    about: str = ""
    note: str = ""


class AlertMessage(Struct, kw_only=True):
    """An alert as it goes out: the document that a generic webhook and a command get.

    Attributes:
        version: of this document.
        id: the same however often it is sent: who must not act twice keeps it.
        kind: which of those that a job can name.
        title: a sentence that begins with the run's name.
        test: somebody tries whether it arrives; nothing has happened.
        diagnosis: of a run that has failed.
    """

    run: str
    kind: str
    title: str
    text: str
    time: float
    id: str
    about: str = ""
    note: str = ""
    test: bool = False
    diagnosis: Annotated[Diagnosis | None, OMITTED] = None
    version: int = 1

    @staticmethod
    def of(run: str, submission: str, alert: Alert, diagnosis: Diagnosis | None = None) -> AlertMessage:
        """The message of an alert.

        Args:
            submission: tells the run from one that has its number after it was removed.
        """
        return AlertMessage(
            run=run,
            kind=alert.kind,
            title=f"{run} {WORDS[alert.kind].title}",
            text=alert.text,
            time=round(alert.time, 3),
            id=f"{run}-{submission}#{alert.number}",
            about=alert.about,
            note=alert.note,
            diagnosis=diagnosis,
        )

    @staticmethod
    def trial(run: str, time: float) -> AlertMessage:
        """What is sent to see whether it arrives."""
        text = "this is a test: nothing has happened"
        return AlertMessage(
            run=run,
            kind="test",
            title=f"{run} can reach you",
            text=text,
            time=time,
            id=f"{run}#test",
            test=True,
        )


class AlertTarget(Struct, kw_only=True):
    """Somebody who is told.

    Attributes:
        name: on screens, and in the journal: ``slack SLACK_URL``, ``command notify-send``.
        address: of a webhook, which is a secret.
        argv: of a command.
    """

    name: str
    kind: Literal["slack", "webhook", "command"]
    address: str = field(default="", repr=False)
    argv: tuple[str, ...] = ()

    @staticmethod
    def webhook(name: str, address: str) -> AlertTarget:
        """A webhook, by the name that `job.alerting` gives it: its kind, and where its address was found."""
        return AlertTarget(
            name=name, kind="slack" if name.startswith("slack ") else "webhook", address=address
        )

    @staticmethod
    def command(argv: Sequence[str]) -> AlertTarget:
        """A command."""
        return AlertTarget(name=f"command {argv[0]}", kind="command", argv=tuple(argv))


class AlertOrder(Struct):
    """What the process that sends one reads on its standard input.

    Attributes:
        environment: what a command has besides that process's own.
    """

    target: AlertTarget
    message: AlertMessage
    environment: dict[str, str] = field(default_factory=dict, repr=False)


def body(target: AlertTarget, message: AlertMessage) -> bytes:
    """What a target gets: JSON, on one line."""
    document = {"text": slack_text(message)} if target.kind == "slack" else codec.dump(message)
    text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    return text.encode(errors="replace") + b"\n"  # what a worker wrote need not be UTF-8


def slack_text(message: AlertMessage) -> str:
    """A message in Slack's markup, whose three letters of its own are escaped, and which mentions nobody."""
    lines = [f"*{_plain(message.title)}*", _plain(message.text)]
    if (found := message.diagnosis) is not None:
        lines += [_plain(found.verdict)] if found.verdict and found.verdict not in message.text else []
        lines += [f"cause ({found.sure}): {_plain(found.cause)}"] if found.cause else []
        for each in found.remedies[:2]:
            lines.append(f"try: {_plain(each.text)}" + (f" `{_plain(each.command)}`" if each.command else ""))
    lines += [f"_{_plain(message.note)}_"] if message.note else []
    return "\n".join(lines)[:_LETTERS]


def _plain(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
