"""What messages, events and the status are made of, and how it stands in JSON.

Each is a `Struct`, as are the values that the coordinator decides with; a message has a tag besides (`message`), by
which it is told from others. How a field stands in JSON is in its annotation:

    generation: Annotated[int, WireKey("g")]           under another name
    error: Annotated[WorkerError | None, OMITTED] = None   left out while it has its default
    exit: Annotated[WorkerExit | None, INLINE] = None  its keys stand among those of the object that holds it

codec.py reads and writes by this, and the documentation is made of it.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable
from enum import Enum
from functools import cache
from typing import Annotated, Any, TypeVar, cast

from swarmtrain.structs import Struct as Struct
from swarmtrain.structs import default_of

T = TypeVar("T")

Document = dict[str, object]  # a JSON object


class WireKey(Struct):
    """The key of a field on the wire, where it is not the field's name."""

    name: str


class FieldForm(Enum):
    """How a field stands in the object."""

    OMITTED = "left out while it has its default"
    INLINE = "its keys stand among the others"


OMITTED, INLINE = FieldForm.OMITTED, FieldForm.INLINE


class Tag(Struct):
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
    """Make a struct a message; see `Tag`."""

    def mark(kind: type[T]) -> type[T]:
        setattr(kind, "_tag", Tag(name, nested, by))  # noqa: B010 - of a class that is known here as any type
        return kind

    return mark


def tag_of(kind: type) -> Tag | None:
    """A message's tag; None for what only stands in messages."""
    return cast("Tag | None", kind.__dict__.get("_tag"))


class Field(Struct):
    """A field of a struct as it travels; `fields_of` lists them, also for the documentation."""

    name: str
    key: str
    kind: Any  # its type, without what was annotated
    omitted: bool
    inline: bool
    default: Callable[[], Any] | None  # None: it must be there


@cache
def fields_of(kind: type) -> tuple[Field, ...]:
    """The fields of a struct, in order."""
    hints: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if base is not Struct:  # nothing of its own travels
            hints |= inspect.get_annotations(base, eval_str=True)
    found = []
    for each in dataclasses.fields(kind):
        hint: Any = hints[each.name]
        marks: list[Any] = []
        if typing.get_origin(hint) is Annotated:
            hint, *marks = typing.get_args(hint)
        key = next((mark.name for mark in marks if isinstance(mark, WireKey)), each.name)
        found.append(Field(each.name, key, hint, OMITTED in marks, INLINE in marks, default_of(each)))
    return tuple(found)
