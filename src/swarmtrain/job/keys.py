"""How a key of a job is described: `Key`, which `job.spec` hangs on its field.

Everything that speaks of a key is made of that: the flags with their help (`job.flags`, `ui.job_options`), and in
`job.made` the example, the tables of docs/job-file.md and the JSON schema.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema

from swarmtrain.job.problems import shown

_SHAPE = re.compile(r"(?P<nodes>[^x]+)x(?P<workers>[^x]+)")
_RANGE = re.compile(r"[0-9]+(\.\.|:)[0-9]+")


@dataclass(frozen=True)
class Takes:
    """On a type: what it takes, in words.

    Args:
        words: for the page, ``duration``.
        metavar: for a flag, ``DURATION``; click's own where it is empty.
        show: how a value is written; as YAML by default.
        as_written: numbers and booleans in it are text.
    """

    words: str
    metavar: str = ""
    show: Callable[[Any], str] | None = None
    as_written: bool = False


@dataclass(frozen=True)
class Flag:
    """One flag that sets a key.

    Args:
        spelling: ``--gpu-kind``; a word in capitals stands for what follows on a command line without a flag.
        help: what it does; the first sentence of its key's text by default.
        parse: its text as the key's value; None sets nothing.
        short: another spelling, ``-e``.
        metavar: what it takes; by default as its key's type says.
        many: it may be given several times.
        switch: it takes no value.
        hidden: it is another tool's, and not listed.
        key: the key it sets, ``resources.gpus``; filled in by `described`.
    """

    spelling: str
    help: str = ""
    parse: Callable[[Any], Any] | None = None
    short: str = ""
    metavar: str = ""
    many: bool = False
    switch: bool = False
    hidden: bool = False
    key: str = ""

    @property
    def name(self) -> str:
        """The name of its parameter: ``gpu_kind``."""
        return self.spelling.lstrip("-").replace("-", "_").lower()


@dataclass(frozen=True)
class Key:
    """On a field: what the key is.

    Args:
        text: what it does, in sentences that are true in a table, a YAML comment, an editor and, the first of them, a
            flag's help.
        example: a value that is not the default, in YAML.
        default: what holds where it is left out, in words; by default the field's default as it is written.
        flags: what sets it from a command line; by default one of its name.
        section: the heading that it and those behind it stand under, if another one begins here.
        variable: ``SWARMTRAIN_NAME`` sets it, too.
        adds: flags add to what the file says.
    """

    text: str
    example: str
    default: str = ""
    flags: tuple[Flag, ...] | None = None
    section: str = ""
    variable: bool = False
    adds: bool = False

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The schema of the type, described."""
        return {**handler(core_schema), "description": self.text}


@dataclass(frozen=True)
class Described:
    """A key with everything that is known of it.

    Args:
        name: ``resources.gpus``.
        key: its description, with its flags filled in. takes: what its type takes. value: its default.
        nested: the keys inside of it, where it holds a mapping of fixed keys.
    """

    name: str
    key: Key
    takes: Takes
    value: Any
    nested: tuple[Described, ...]

    @property
    def written(self) -> str:
        """The default as it is written in YAML; empty for a mapping of fixed keys, and where there is none."""
        if self.value is None or self.nested:
            return ""
        show = self.takes.show or (lambda value: "[]" if value == () else str(value))
        return show(self.value).lower() if isinstance(self.value, bool) else show(self.value)


def described(model: type[BaseModel], above: str = "") -> Iterator[Described]:
    """The keys of a model, in order."""
    for field_name, field in model.model_fields.items():
        name = above + field_name
        (key,) = (each for each in field.metadata if isinstance(each, Key))
        kind = field.annotation
        inner = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
        nested = tuple(described(inner, f"{name}.")) if inner else ()
        takes = _takes(field)
        flags = key.flags
        if flags is None:
            flags = () if nested else (Flag(f"--{field_name.replace('_', '-')}", switch=kind is bool),)
        filled = tuple(_filled(flag, name, key, takes, kind) for flag in flags)
        yield Described(name, replace(key, flags=filled), takes, field.default, nested)


def first_sentence(text: str) -> str:
    """The first sentence of a key's text."""
    return re.split(r"(?<=\.) (?=[A-Z`])", text, maxsplit=1)[0]


def _filled(flag: Flag, name: str, key: Key, takes: Takes, kind: Any) -> Flag:
    parse = flag.parse or (list if flag.many else None)
    if parse is None and takes.show is None:
        parse = next(
            (each for of, each in ((int, integer), (float, number)) if of in _alternatives(kind)), None
        )
    help, metavar = flag.help or first_sentence(key.text), flag.metavar or takes.metavar
    return replace(flag, key=name, help=help, metavar=metavar, parse=parse)


def _takes(field: FieldInfo) -> Takes:
    """What a field's type says of itself, or what follows from it."""
    kinds = [each for each in field.metadata if isinstance(each, Takes)]
    alternatives = _alternatives(field.annotation)
    for alternative in alternatives:
        kinds += [each for each in getattr(alternative, "__metadata__", ()) if isinstance(each, Takes)]
    if kinds:
        return kinds[0]
    for alternative in alternatives:
        if typing.get_origin(alternative) is Literal:
            words = typing.get_args(alternative)
            return Takes(", ".join(f"`{word}`" for word in words), "|".join(words))
    if {int, float} & {*alternatives}:
        return Takes("number", "N")
    return Takes("boolean" if bool in alternatives else "text" if str in alternatives else "keys below")


def _alternatives(kind: Any) -> list[Any]:
    """A type, or those of a union, with what is bare of annotations in them."""
    origin = typing.get_origin(kind)
    parts = typing.get_args(kind) if origin in (typing.Union, type(int | str)) else (kind,)
    return [*parts, *(each.__origin__ for each in parts if hasattr(each, "__metadata__"))]


# ---- the text of a flag as its key's value -------------------------------------------------------------------


def integer(text: Any) -> Any:
    """The number in ``text``; anything else as it is, for the job's own check to complain about."""
    if not isinstance(text, str) or not re.fullmatch(r"[+-]?[0-9]+", text):
        return text
    try:
        return int(text)
    except ValueError:  # thousands of digits
        raise ValueError(f"{shown(text)} is more than anything can count") from None


def number(text: Any) -> Any:
    """The same for a number with a fraction."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return text


def share_choice(text: Any) -> Any:
    """``auto``, ``off`` or patterns with commas between them."""
    if not isinstance(text, str) or text in ("auto", "off"):
        return text
    return [pattern.strip() for pattern in text.split(",")]


def node_choice(text: Any) -> Any:
    """``3``, ``2..4`` or ``a,b,c``."""
    if not isinstance(text, str) or ".." in text:
        return text
    number = integer(text.strip())
    return number if isinstance(number, int) else [name.strip() for name in text.split(",")]


def node_count(text: Any) -> Any:
    """Torchrun's ``--nnodes``: ``3`` or ``2:4``."""
    if not isinstance(text, str):
        return text
    low, colon, high = text.partition(":")
    count = f"{low}..{high}" if colon else text
    if not re.fullmatch(r"[0-9]+(\.\.[0-9]+)?", count):
        raise ValueError(f"{shown(text)} is no number of nodes, which looks like 3 or 2:4")
    return integer(count)


def worker_count(text: Any) -> Any:
    """Torchrun's ``--nproc-per-node``: ``auto``, ``gpu``, ``cpu`` or a number."""
    return "auto" if text == "gpu" else integer(text)


def join_seconds(configuration: str) -> Any:
    """What torchrun's ``--rdzv-conf`` says of the time to wait for nodes, in seconds; None where it says nothing of it.

    ``join_timeout`` is the elastic rendezvous', ``timeout`` the static one's; nothing else of it has a meaning here.

    Raises:
        ValueError: it is not ``KEY=VALUE,...``.
    """
    pairs = [pair.partition("=") for pair in configuration.split(",") if pair.strip()]
    if not all(equals for _, equals, _ in pairs):
        raise ValueError("is not KEY=VALUE,...")
    values = {key.strip(): value.strip() for key, _, value in pairs}
    return values.get("join_timeout", values.get("timeout"))


def shape(text: str) -> tuple[Any, Any]:
    """TorchX's ``-j``: nodes and workers on each, ``3x1`` or ``2..4x1``; a range alone is one of nodes.

    A number alone is refused: to TorchX it is workers, and most people mean nodes.
    """
    match = _SHAPE.fullmatch(text)
    if match is None and not _RANGE.fullmatch(text):
        raise ValueError(f"{shown(text)} is not nodes x workers, which looks like 3x1, 2..4x1 or 2..4")
    nodes, workers = (match["nodes"], worker_count(match["workers"])) if match else (text, None)
    try:
        return node_count(nodes.replace("..", ":")), workers
    except ValueError:
        raise ValueError(f"{shown(nodes)} is no number of nodes, which looks like 3 or 2..4") from None
