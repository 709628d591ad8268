"""How what the sides say stands in JSON: what the annotations of a dataclass mean, and by what messages are told apart.

    generation: Annotated[int, WireKey("g")]           under another name
    error: Annotated[WorkerError | None, OMITTED] = None   left out while it has its default
    exit: Annotated[WorkerExit | None, INLINE] = None  its keys stand among those of the object that holds it

A message is a dataclass with a tag (`message`). codec.py reads and writes by this, and the documentation is made of it.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable
from dataclasses import MISSING, dataclass
from enum import Enum
from functools import cache
from typing import Annotated, Any, TypeVar, cast

T = TypeVar("T")

Document = dict[str, Any]  # a JSON object


@dataclass(frozen=True)
class WireKey:
    """The key of a field on the wire, where it is not the field's name."""

    name: str


class FieldForm(Enum):
    """How a field stands in the object."""

    OMITTED = "left out while it has its default"
    INLINE = "its keys stand among the others"


OMITTED, INLINE = FieldForm.OMITTED, FieldForm.INLINE


@dataclass(frozen=True)
class Tag:
    """By what a message is told from others.

    Args:
        name: the tag.
        nested: the fields are in an object under the tag; else the tag is the key of one of them.
        by: the key whose value is the tag; empty where the tag is a key itself.
    """

    name: str
    nested: bool = False
    by: str = ""


def message(name: str, *, nested: bool = False, by: str = "") -> Callable[[type[T]], type[T]]:
    """Make a dataclass a message; see `Tag`."""

    def mark(kind: type[T]) -> type[T]:
        setattr(kind, "_tag", Tag(name, nested, by))  # noqa: B010 - of a class that is known here as any type
        return kind

    return mark


def tag_of(kind: type) -> Tag | None:
    """A message's tag; None for what only stands in messages."""
    return cast("Tag | None", kind.__dict__.get("_tag"))


@dataclass(frozen=True)
class Field:
    """A field of a dataclass as it travels; `fields_of` lists them, also for the documentation."""

    name: str
    key: str
    kind: Any  # its type, without what was annotated
    omitted: bool
    inline: bool
    default: Callable[[], Any] | None  # None: it must be there


@cache
def fields_of(kind: type) -> tuple[Field, ...]:
    """The fields of a dataclass, in order."""
    hints = typing.get_type_hints(kind, include_extras=True)
    found = []
    for each in dataclasses.fields(kind):
        hint: Any = hints[each.name]
        marks: list[Any] = []
        if typing.get_origin(hint) is Annotated:
            hint, *marks = typing.get_args(hint)
        key = next((mark.name for mark in marks if isinstance(mark, WireKey)), each.name)
        default: Callable[[], Any] | None = None
        if each.default_factory is not MISSING:
            default = each.default_factory
        elif each.default is not MISSING:
            default = cast("Callable[[], Any]", lambda value=each.default: value)
        found.append(Field(each.name, key, hint, OMITTED in marks, INLINE in marks, default))
    return tuple(found)
