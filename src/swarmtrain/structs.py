"""Frozen dataclasses that cost little to define: what travels, and what is decided with, is made of them.

`protocol/schema.py` says how the fields of one stand in JSON.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, FrozenInstanceError, dataclass, field
from inspect import Parameter, Signature
from threading import RLock
from typing import TYPE_CHECKING, Any, ClassVar, cast

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:  # a word for type checkers alone, which Python itself has since 3.11

    def dataclass_transform(**_):  # noqa: D103
        return lambda kind: kind


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


class _Late:
    """An attribute that a struct's class gets, with the others, when the first of them is asked for."""

    _completing: ClassVar = RLock()  # to make a class a dataclass twice would lose its defaults

    def __init__(self, name: str, *, kw_only: bool) -> None:
        self._name, self._kw_only = name, kw_only

    def __get__(self, value: object, kind: type[Struct]) -> Any:
        with self._completing:
            if vars(kind)[self._name] is self:  # no other thread has been here
                self._complete(kind)
        return getattr(kind, self._name)

    def _complete(self, kind: type[Struct]) -> None:
        dataclass(init=False, repr=False, eq=False, kw_only=self._kw_only)(kind)
        fields = dataclasses.fields(cast(Any, kind))
        kind._defaults = {each.name: default_of(each) for each in fields}
        kind._positional = tuple(each.name for each in fields if not each.kw_only)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Struct:
    """A frozen dataclass, in a tenth of the time: what `dataclass` compiles for each class anew stands here once.

    Every process defines a hundred of them and more as it starts, and uses few. So a class is made a dataclass when it
    is first used as one: when there is a first value of it, or its fields are asked for.
    """

    _defaults: ClassVar[Mapping[str, Callable[[], Any] | None]] = {}  # by field; None: it must be given
    _positional: ClassVar[tuple[str, ...]] = ()
    __signature__ = _Arguments()

    def __init_subclass__(cls, *, kw_only: bool = False) -> None:
        super().__init_subclass__()
        for name in ("_defaults", "_positional", "__dataclass_fields__"):
            setattr(cls, name, _Late(name, kw_only=kw_only))

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
        told = (each.name for each in dataclasses.fields(cast(Any, self)) if each.repr)
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in told)
        return f"{type(self).__qualname__}({shown})"

    if not TYPE_CHECKING:  # which has no such attribute anyway

        def __setattr__(self, name: str, value: object) -> None:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")

        def __delattr__(self, name: str) -> None:
            raise FrozenInstanceError(f"cannot delete field {name!r}")


def default_of(field: dataclasses.Field[Any]) -> Callable[[], Any] | None:
    """What makes a field's default; None where it has none."""
    if field.default_factory is not MISSING:
        return field.default_factory
    return None if field.default is MISSING else lambda: field.default
