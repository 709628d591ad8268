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
from collections.abc import Callable, Mapping
from dataclasses import MISSING, FrozenInstanceError, dataclass, field
from enum import Enum
from functools import cache
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar, cast

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:  # a word for type checkers alone, which Python itself has since 3.11

    def dataclass_transform(**_):  # noqa: D103
        return lambda kind: kind


T = TypeVar("T")

Document = dict[str, object]  # a JSON object


class _Arguments:
    """The arguments of a struct, for `inspect.signature`."""

    def __get__(self, value: object, kind: type[Struct]) -> Signature:
        either, named = Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY
        found = []
        for each in dataclasses.fields(cast(Any, kind)):
            defaults = (it for it in (each.default, each.default_factory) if it is not MISSING)
            how = named if each.kw_only else either
            found.append(
                Parameter(each.name, how, default=next(defaults, Parameter.empty), annotation=each.type)
            )
        return Signature(sorted(found, key=lambda parameter: parameter.kind))


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Struct:
    """A frozen dataclass, in a tenth of the time: what `dataclass` compiles for each class anew stands here once.

    Every process makes some ninety of them as it starts.
    """

    _defaults: ClassVar[Mapping[str, Callable[[], Any] | None]] = {}  # by field; None: it must be given
    _positional: ClassVar[tuple[str, ...]] = ()
    __signature__ = _Arguments()

    def __init_subclass__(cls, *, kw_only: bool = False) -> None:
        super().__init_subclass__()
        dataclass(init=False, repr=False, eq=False, kw_only=kw_only)(cls)
        fields = dataclasses.fields(cast(Any, cls))
        cls._defaults = {each.name: _default(each) for each in fields}
        cls._positional = tuple(each.name for each in fields if not each.kw_only)

    def __init__(self, *values: Any, **named: Any) -> None:
        own = vars(self)
        own.update(zip(self._positional, values), **named)  # noqa: B905 - is looked at below
        once = len(own) == len(values) + len(named)
        if len(own) < len(self._defaults):
            for name, make in self._defaults.items():
                if make is not None and name not in own:
                    own[name] = make()
        if not once or own.keys() != self._defaults.keys():
            inspect.signature(type(self)).bind(*values, **named)  # raises a TypeError that says what is wrong

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name in self._defaults))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._defaults)
        return f"{type(self).__qualname__}({shown})"

    if not TYPE_CHECKING:  # which has no such attribute anyway

        def __setattr__(self, name: str, value: object) -> None:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")

        def __delattr__(self, name: str) -> None:
            raise FrozenInstanceError(f"cannot delete field {name!r}")


def _default(field: dataclasses.Field[Any]) -> Callable[[], Any] | None:
    """What makes a field's default; None where it has none."""
    if field.default_factory is not MISSING:
        return field.default_factory
    return None if field.default is MISSING else lambda: field.default


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
        found.append(Field(each.name, key, hint, OMITTED in marks, INLINE in marks, _default(each)))
    return tuple(found)
