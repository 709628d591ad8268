"""The types of the job's keys: what each takes, as pydantic and the JSON schema see it.

Only `job.spec` and `job.nested` use them. The rules for single values are in `job.checks`; here they are hung on types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    WithJsonSchema,
)
from pydantic_core import CoreSchema

from swarmtrain.job import checks
from swarmtrain.job.keys import Takes
from swarmtrain.job.problems import shown
from swarmtrain.job.units import (
    format_duration,
    format_share,
    format_size,
    parse_duration,
    parse_share,
    parse_size,
)

SMALLEST_MEMORY = 6 << 20  # what Docker lets a container have at least
SMALLEST_SHM = 1 << 20
SMALLEST_RATE = 0.01  # of a link's time


class Strict(BaseModel):
    """A mapping of fixed keys: nothing unknown, nothing converted, nothing changed afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ExistingNetwork(Strict):
    """An attachable network that was made by someone else."""

    existing: str = Field(description="Its name.")


@dataclass(frozen=True)
class OrWord:
    """On a type: the JSON schema takes one of these words in its place."""

    words: tuple[str, ...]

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The schema of the type, or one of the words."""
        return {"anyOf": [{"enum": list(self.words)}, handler(core_schema)]}


def _written(value: object) -> object:
    """A number or a boolean as the text it is written with in YAML."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (int, float)) else value


def _duration(value: object) -> float:
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise ValueError(f"{shown(value)} {error}") from None
    if seconds < 1:
        raise ValueError(f"must be at least {format_duration(1)}, not {shown(value)}")
    return seconds


def _size(least: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        try:
            size = parse_size(value)
        except ValueError as error:
            raise ValueError(f"{shown(value)} {error}") from None
        if size < least:
            raise ValueError(f"must be at least {format_size(least)}, not {size} bytes")
        return size

    return check


def _workers(value: object) -> int | str:
    if value in ("auto", "cpu"):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return checks.bounded(value)
    raise ValueError(f"must be auto, cpu or a number from 1 up, not {shown(value)}")


def _hang(value: object) -> float | str:
    if value in ("auto", "off"):
        return str(value)
    if value is False or value in ("never", "none", "no"):
        raise ValueError(f"must be auto, off or a duration, not {shown(value)} (did you mean off?)")
    try:
        return _duration(value)
    except ValueError as error:
        raise ValueError(f"{error}; or auto, or off") from None


def _files(value: object) -> str | tuple[str, ...]:
    if value == "auto":
        return "auto"
    if isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value):
        return tuple(checks.pattern(each) for each in value)
    raise ValueError(f"must be auto or a list of patterns, not {shown(value)}")


def _share(value: object) -> object:
    if value in ("auto", "off"):
        return value
    if value is False:
        raise ValueError(f"must be auto, off or a list of patterns, not {shown(value)} (did you mean off?)")
    try:
        found = _files(value)
    except ValueError as error:
        raise ValueError(str(error).replace("auto or", "auto, off or", 1)) from None
    if not found:
        raise ValueError("must be auto, off or a list of patterns, not an empty one (did you mean off?)")
    return found


def _patterns(value: object) -> tuple[str, ...]:
    if isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value):
        return tuple(checks.pattern(each) for each in value)
    raise ValueError(f"must be a list of patterns, not {shown(value)}")


def _replicas(value: object) -> int | str:
    if value == "all" or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise ValueError(f"must be all or a number from 0 up, not {shown(value)}")


def _share_rate(value: object) -> float:
    try:
        share = parse_share(value)
    except ValueError as error:
        raise ValueError(f"{shown(value)} {error}") from None
    if share < SMALLEST_RATE:
        raise ValueError(f"must be at least {format_share(SMALLEST_RATE)}, not {shown(value)}")
    return share


def _network(value: object) -> object:
    if value in ("overlay", "encrypted", "host") or isinstance(value, ExistingNetwork):
        return value
    if isinstance(value, str) and value.startswith("existing:"):
        value = {"existing": value.removeprefix("existing:")}
    if isinstance(value, Mapping) and list(value) == ["existing"]:
        return ExistingNetwork(existing=checks.network_name(value["existing"]))
    raise ValueError(f"must be overlay, encrypted, host or {{existing: NAME}}, not {shown(value)}")


_TEXT_SCHEMA = {"type": ["string", "number", "boolean"]}
_DURATION_SCHEMA = WithJsonSchema({"type": ["string", "number"], "examples": ["90s", "10m", "1h30m"]})
_SIZE_SCHEMA = WithJsonSchema({"type": ["string", "integer"], "examples": ["512m", "8g"]})
_NODES_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": checks.MOST},
            {"type": "string", "pattern": r"^ *[0-9]+ *\.\. *[0-9]+ *$"},
            {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True},
        ]
    }
)
_WORKERS_SCHEMA = WithJsonSchema(
    {"anyOf": [{"enum": ["auto", "cpu"]}, {"type": "integer", "minimum": 1, "maximum": checks.MOST}]}
)
_FILES_SCHEMA = WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "array", "items": {"type": "string"}}]})
_PATTERNS_SCHEMA = WithJsonSchema({"type": "array", "items": {"type": "string"}})
_SHARE_SCHEMA = WithJsonSchema(
    {"anyOf": [{"enum": ["auto", "off"]}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
)
_REPLICAS_SCHEMA = WithJsonSchema({"anyOf": [{"const": "all"}, {"type": "integer", "minimum": 0}]})
_RATE_SCHEMA = WithJsonSchema({"type": ["string", "number"], "examples": ["10%", "100%"]})
_HANG_SCHEMA = WithJsonSchema({"type": ["string", "number"], "examples": ["auto", "off", "10m"]})
_ENV_SCHEMA = WithJsonSchema(
    {"type": "object", "additionalProperties": {"type": [*_TEXT_SCHEMA["type"], "null"]}}
)

Text = Annotated[
    str, BeforeValidator(_written), AfterValidator(checks.text), WithJsonSchema({**_TEXT_SCHEMA})
]
_TEXTS = Takes("list of text", as_written=True)
Texts = Annotated[Sequence[Text], AfterValidator(tuple), _TEXTS]
Command = Annotated[Sequence[Text], Field(min_length=1), AfterValidator(checks.command), _TEXTS]
Duration = Annotated[
    float, PlainValidator(_duration), _DURATION_SCHEMA, Takes("duration", "DURATION", format_duration)
]
HangTimeout = Annotated[
    float | Literal["auto", "off"],
    PlainValidator(_hang),
    _HANG_SCHEMA,
    Takes("`auto`, `off` or duration", "auto|off|DURATION"),
]
_SIZE = Takes("size", "SIZE", format_size)
Memory = Annotated[int, PlainValidator(_size(SMALLEST_MEMORY)), _SIZE_SCHEMA, _SIZE]
SharedMemory = Annotated[int, PlainValidator(_size(SMALLEST_SHM)), _SIZE_SCHEMA, _SIZE]

Name = Annotated[str, AfterValidator(checks.job_name)]
Script = Annotated[str, AfterValidator(checks.script), Takes("path")]
Module = Annotated[str, AfterValidator(checks.module)]
Image = Annotated[str, AfterValidator(checks.image), Takes("image reference")]
Interpreter = Annotated[str, AfterValidator(checks.interpreter)]
NodeName = Annotated[str, AfterValidator(checks.node_name), Takes("name of a node")]
Kind = Annotated[str, AfterValidator(checks.resource_kind), Takes("text", "NAME")]

Nodes = Annotated[
    int | str | Sequence[str],
    PlainValidator(checks.nodes),
    _NODES_SCHEMA,
    Takes("number, range or list of names"),
]
Workers = Annotated[
    int | Literal["auto", "cpu"],
    PlainValidator(_workers),
    _WORKERS_SCHEMA,
    Takes("number, `auto` or `cpu`", "N|auto|cpu"),
]
Network = Annotated[
    Literal["overlay", "encrypted", "host"] | ExistingNetwork,
    BeforeValidator(_network),
    Takes("`overlay`, `encrypted`, `host`, `{existing: NAME}`", "NAME"),
]
Files = Annotated[
    Literal["auto"] | Sequence[str],
    PlainValidator(_files),
    _FILES_SCHEMA,
    Takes("`auto` or list of patterns"),
]
Share = Annotated[
    Literal["auto", "off"] | Sequence[str],
    PlainValidator(_share),
    _SHARE_SCHEMA,
    Takes("`auto`, `off` or list of patterns"),
]
Patterns = Annotated[
    Sequence[str], PlainValidator(_patterns), _PATTERNS_SCHEMA, Takes("list of patterns", "PATTERN")
]
Replicas = Annotated[
    int | Literal["all"], PlainValidator(_replicas), _REPLICAS_SCHEMA, Takes("number or `all`", "N|all")
]
ShareRate = Annotated[
    float, PlainValidator(_share_rate), _RATE_SCHEMA, Takes("percentage", "PERCENT", format_share)
]
Port = Annotated[int, Field(ge=1024, le=65535)]
Constraints = Annotated[
    Sequence[Annotated[str, AfterValidator(checks.constraint)]], AfterValidator(tuple), Takes("list of text")
]
Volumes = Annotated[
    Sequence[Annotated[str, AfterValidator(checks.volume)]],
    AfterValidator(checks.volumes),
    Takes("list of `source:target[:ro]`"),
]
Environment = Annotated[
    Mapping[Annotated[str, AfterValidator(checks.variable_name)], Text | None],
    _ENV_SCHEMA,
    Takes("names to values", as_written=True),
]
