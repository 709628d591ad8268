"""The keys of a job below ``alerts``, with what their values may be; `job.spec` has it as one of its own."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, WithJsonSchema

from swarmtrain.job import checks, fields
from swarmtrain.job.fields import Strict
from swarmtrain.job.keys import Flag, Key, Takes
from swarmtrain.job.problems import did_you_mean, shown
from swarmtrain.protocol.alerts.kinds import ALERT_KINDS


def _address_source(value: str) -> str:
    """Where the address of a webhook is: a variable's name, or a path with a stroke in it.

    An address itself is a secret, and no error shows it.
    """
    if "://" in value:
        raise ValueError(
            "the address of a webhook is a secret: give the name of a variable, or a file, that has it"
        )
    if ("/" in value and value.isprintable() and not value.endswith("/")) or checks.is_variable(value):
        return value
    raise ValueError(f"{shown(value)} is neither the name of a variable nor a path, which has a / in it")


def _address_sources(values: Iterable[str]) -> tuple[str, ...]:
    """Several of them, each once."""
    listed = tuple(values)
    if same := checks.twice(listed):
        raise ValueError(f"the same twice: {', '.join(same)}")
    return listed


def _alert_command(value: Sequence[str]) -> tuple[str, ...]:
    """A program that is there wherever the coordinator is: a name, or an absolute path; and its arguments."""
    checks.command(value)
    if "/" in value[0] and not value[0].startswith("/"):
        raise ValueError(
            f"{shown(value[0])}: give a program's name or an absolute path: it runs beside the coordinator"
        )
    return tuple(value)


def _alert_events(value: object) -> str | tuple[str, ...]:
    """``all``, or a list of events."""
    if value == "all":
        return "all"
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError(f"must be all or a list of events, not {shown(value)}")
    for each in value:
        if each not in ALERT_KINDS:
            near = did_you_mean(str(each).replace("-", "_"), ALERT_KINDS)
            raise ValueError(f"{shown(each)} is no event: they are {', '.join(ALERT_KINDS)}{near}")
    return tuple(dict.fromkeys(value))


def _alert_choice(text: Any) -> Any:
    """``all``, or events with commas between them."""
    if not isinstance(text, str) or text == "all":
        return text
    return [event.strip() for event in text.split(",")]


def _words_of(text: Any) -> Any:
    """A command's words, as a shell would take them.

    Raises:
        ValueError: a quote is open.
    """
    return shlex.split(text) if isinstance(text, str) else text


_SOURCES_SCHEMA = WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}})
_EVENTS_SCHEMA = WithJsonSchema(
    {"anyOf": [{"const": "all"}, {"type": "array", "items": {"enum": list(ALERT_KINDS)}, "minItems": 1}]}
)
AddressSources = Annotated[
    Sequence[Annotated[str, AfterValidator(_address_source)]],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    AfterValidator(_address_sources),
    _SOURCES_SCHEMA,
    Takes("variable or path, or a list of them"),
]
AlertCommand = Annotated[
    fields.Command, AfterValidator(_alert_command), Takes("list of text", as_written=True)
]
AlertEvents = Annotated[
    Literal["all"] | Sequence[str],
    PlainValidator(_alert_events),
    _EVENTS_SCHEMA,
    Takes("`all` or list of events"),
]


class Alerting(Strict):
    """Whom a run tells, and of what."""

    slack: Annotated[
        AddressSources,
        Key(
            "Incoming webhooks of Slack, or of what takes its messages (Mattermost, Rocket.Chat, Discord with "
            "`/slack`). An address is a secret: each is named by the variable that holds it where the job is "
            "submitted, or by the path of a file there, with a stroke in it.",
            example="[SLACK_URL]",
            flags=(
                Flag("--alert-slack", "A Slack webhook that is told.", many=True, metavar="VARIABLE|FILE"),
            ),
        ),
    ] = ()
    webhook: Annotated[
        AddressSources,
        Key(
            "Webhooks that get the alert as a JSON document, named in the same way.",
            example="[./hook-url]",
            flags=(Flag("--alert-webhook", "A webhook that is told.", many=True, metavar="VARIABLE|FILE"),),
        ),
    ] = ()
    command: Annotated[
        AlertCommand | None,
        Key(
            "A command that gets the same document on its standard input, and has 30 seconds. It runs where the "
            "coordinator does: on a Swarm in its container.",
            example="[/usr/local/bin/page, me]",
            default="none",
            flags=(Flag("--alert-command", parse=_words_of, metavar="COMMAND"),),
        ),
    ] = None
    on: Annotated[
        AlertEvents,
        Key(
            "Of which events: `failed`, `finished`, `healed`, `node_lost`, `hung`, `slow`, `disk_low`, `nan`, "
            "`diverging`, `gpu_hot`, or `all`.",
            example="[failed, finished]",
            flags=(Flag("--alert-on", "Of which events.", _alert_choice, metavar="EVENT,..."),),
        ),
    ] = "all"
    per_hour: Annotated[
        Annotated[int, Field(ge=1, le=1000)],
        Key(
            "Alerts in an hour at most; that of the end comes in any case. What is held back is counted in the next "
            "one.",
            example="5",
            flags=(Flag("--alerts-per-hour"),),
        ),
    ] = 20
