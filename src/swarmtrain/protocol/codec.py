"""Dataclasses as JSON values, and back: one writer and one strict reader for everything that the sides say.

A dataclass is an object, a NamedTuple an array, a mapping with numbers for keys an object whose keys are these numbers
as text. How a field travels stands in its annotation, and a message has a tag (schema.py), by which a `Family` tells
it from the others of its direction.

Reading is strict about what is known and easy about what is not: a key without a default must be there, every value
must have its type, and what is wrong is named (``output.o: a whole number is wanted, not 'x'``); keys that nobody knows
are passed over, as a newer side may have added them. True is no number, and a whole number will do for any other.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from typing import Any, Generic, Literal, TypeVar, Union, cast

from swarmtrain.errors import ChannelError
from swarmtrain.protocol.schema import Document, Field, Struct, fields_of, tag_of

T = TypeVar("T")

_SCALARS: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_SHOWN = 60  # letters of a value that is no value


class Family(Generic[T]):
    """The messages of one direction.

    Args:
        name: of any of them, for people who read that one makes no sense: ``a message of an agent``.
        kinds: their classes, which are messages with different tags.
    """

    def __init__(self, name: str, *kinds: type[T]) -> None:
        self.name, self.kinds = name, kinds
        self._by_tag = {tag.name: kind for kind in kinds if (tag := tag_of(kind))}
        self._by = next((tag.by for kind in kinds if (tag := tag_of(kind))), "")
        assert len(self._by_tag) == len(kinds), "two messages of one direction have one tag, or one has none"

    def load(self, document: Mapping[str, object]) -> T:
        """The message that an object is.

        Raises:
            ChannelError: it is none of these, or not what it should be; the field is named.
        """
        tag = document.get(self._by) if self._by else next(filter(self._by_tag.__contains__, document), None)
        kind = self._by_tag.get(tag) if isinstance(tag, str) else None
        if kind is None:
            shown = f"{self._by} {tag!r}" if self._by else ", ".join(map(repr, document)) or "nothing"
            raise ChannelError(f"{self.name} that this version does not know: {shown[:_SHOWN]}")
        its = tag_of(kind)
        if its is not None and its.nested:
            return load(kind, document[its.name], its.name)
        return load(kind, document, str(tag))


def load(kind: type[T], value: object, name: str = "") -> T:
    """The value of a dataclass or a NamedTuple that a JSON value is.

    Args:
        name: what it is called where something is wrong with it; by default as its class.

    Raises:
        ChannelError: it is none; the field is named.
    """
    try:
        return cast(T, _codec(cast(Any, kind)).read(value))
    except _Wrong as wrong:
        where = ".".join([name or kind.__name__, *reversed(wrong.path)])
        raise ChannelError(f"{where}: {wrong.what}") from None


def dump(value: object) -> Document:
    """The JSON object of a dataclass; of a message, with its tag."""
    kind: Any = type(value)
    write = _codec(kind).write
    body = cast(Document, write(value) if write is not None else value)
    tag = tag_of(kind)
    if tag is None:
        return body
    if tag.nested:
        return {tag.name: body}
    return {tag.by: tag.name, **body} if tag.by else body


# ---- how each type is read and written -------------------------------------------------------------------------------


class _Wrong(Exception):
    """A value is not what it should be; the path to it grows as this goes up, the innermost first.

    Outside of the tree: `load` makes a ChannelError of it.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what, self.path = what, list[str]()


class _Codec(Struct):
    """One type.

    Attributes:
        read: a JSON value as one of this type. Raises _Wrong.
        write: the other way; None where it is its own JSON value.
        exact: the class whose values need no reading.
    """

    read: Callable[[Any], Any]
    write: Callable[[Any], Any] | None = None
    exact: type | None = None


@cache
def _codec(kind: Any) -> _Codec:
    """How values of a type are read and written."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind in _SCALARS:
        return _scalar(kind)
    if kind is Any or kind is object:
        return _Codec(lambda value: value)
    if origin is Literal or (isinstance(kind, type) and issubclass(kind, Enum)):
        return _choice(kind, args)
    if origin in (Union, types.UnionType):
        (inner,) = (each for each in args if each is not type(None))
        return _optional(_codec(inner))
    if origin in (list, tuple) or (origin is not None and origin.__name__ == "Sequence"):
        return _list(_codec(args[0]), tuple if origin is tuple else list)
    if origin in (dict, Mapping):
        return _mapping(args[0], _codec(args[1]))
    if dataclasses.is_dataclass(kind):
        return _object(cast(type, kind))
    if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _array(kind)
    raise TypeError(f"the protocol has no form for {kind}")


def _scalar(kind: type) -> _Codec:
    what = _SCALARS[kind]

    def read(value: Any) -> Any:
        if type(value) is kind or (kind is float and type(value) is int):
            return value
        raise _Wrong(f"{what} is wanted, not {_short(value)}")

    return _Codec(read, exact=kind)


def _choice(kind: Any, values: tuple[Any, ...]) -> _Codec:
    """One of some values: a Literal, or an Enum by its values."""
    is_enum = not values
    known = {each.value: each for each in kind} if is_enum else {each: each for each in values}

    def read(value: Any) -> Any:
        try:
            return known[value]
        except (KeyError, TypeError):
            raise _Wrong(f"one of {', '.join(map(repr, known))} is wanted, not {_short(value)}") from None

    return _Codec(read, (lambda value: value.value) if is_enum else None)


def _optional(inner: _Codec) -> _Codec:
    write = inner.write
    return _Codec(
        lambda value: None if value is None else inner.read(value),
        None if write is None else lambda value: None if value is None else write(value),
        inner.exact,
    )


def _list(item: _Codec, made: Callable[[list[Any]], Any]) -> _Codec:
    def read(value: Any) -> Any:
        if not isinstance(value, list):
            raise _Wrong(f"a list is wanted, not {_short(value)}")
        index = 0
        try:
            found = []
            for index, each in enumerate(value):  # noqa: B007 - the index is for the error
                found.append(each if type(each) is item.exact else item.read(each))
        except _Wrong as wrong:
            wrong.path.append(str(index))
            raise
        return found if made is list else made(found)

    write = item.write
    return _Codec(read, None if write is None else lambda value: [write(each) for each in value])


def _mapping(key: Any, item: _Codec) -> _Codec:
    """An object with any keys; where they are numbers, as text."""

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _Wrong(f"an object is wanted, not {_short(value)}")
        found = {}
        for name, each in value.items():
            try:
                found[int(name) if key is int else name] = item.read(each)
            except ValueError:
                raise _Wrong(f"whole numbers are wanted as its keys, not {_short(name)}") from None
            except _Wrong as wrong:
                wrong.path.append(str(name))
                raise
        return found

    write = item.write
    if write is None and key is not int:
        return _Codec(read)
    wrote = write or (lambda each: each)
    return _Codec(read, lambda value: {str(name): wrote(each) for name, each in value.items()})


def _array(kind: type) -> _Codec:
    """A NamedTuple: its fields in order, all of them or all that have no default."""
    hints = typing.get_type_hints(kind)
    names = cast("tuple[str, ...]", getattr(kind, "_fields"))  # noqa: B009 - of any NamedTuple
    codecs = [_codec(hints[name]) for name in names]
    exact = [each.exact for each in codecs]
    least = len(names) - len(cast("dict[str, Any]", getattr(kind, "_field_defaults")))  # noqa: B009

    def read(value: Any) -> Any:
        if not isinstance(value, list):
            raise _Wrong(f"a list is wanted, not {_short(value)}")
        if list(map(type, value)) == exact:
            return kind(*value)
        if not least <= len(value):
            raise _Wrong(f"{least} values are wanted, not {len(value)}")
        found = []
        for name, codec, each in zip(names, codecs, value):  # noqa: B905 - a newer side may say more
            try:
                found.append(codec.read(each))
            except _Wrong as wrong:
                wrong.path.append(name)
                raise
        return kind(*found)

    if all(each.write is None for each in codecs):
        return _Codec(read)
    writers = [each.write or (lambda value: value) for each in codecs]
    return _Codec(read, lambda value: [write(each) for write, each in zip(writers, value, strict=True)])


def _object(kind: type) -> _Codec:
    fields = [(each, _codec(each.kind)) for each in fields_of(kind)]
    return _Codec(_object_reader(kind, fields), _object_writer(fields))


def _object_reader(kind: type, fields: list[tuple[Field, _Codec]]) -> Callable[[Any], Any]:
    plan = [
        (each.key, codec.exact, codec.read, each.default, _marks(each) if each.inline else None)
        for each, codec in fields
    ]
    names = [each.name for each, _ in fields]
    by_name = any(each.kw_only for each in dataclasses.fields(kind))

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _Wrong(f"an object is wanted, not {_short(value)}")
        found, key = [], ""
        try:
            for key, exact, read_field, default, marks in plan:
                if marks is not None:
                    key = ""
                    is_there = default is None or any(map(value.__contains__, marks))
                    found.append(read_field(value) if is_there or default is None else default())
                elif key not in value:
                    if default is None:
                        raise _Wrong("is missing")
                    found.append(default())
                else:
                    given = value[key]
                    found.append(given if type(given) is exact else read_field(given))
        except _Wrong as wrong:
            if key:
                wrong.path.append(key)
            raise
        return kind(**dict(zip(names, found, strict=True))) if by_name else kind(*found)

    return read


def _marks(field: Field) -> tuple[str, ...]:
    """The keys by which an inline object is seen to be there: those that it always has."""
    inner = next((each for each in typing.get_args(field.kind) if each is not type(None)), field.kind)
    return tuple(each.key for each in fields_of(inner) if each.default is None)


def _object_writer(fields: list[tuple[Field, _Codec]]) -> Callable[[Any], Document]:
    plan = [
        (each.name, each.key, codec.write, each.default if each.omitted else None, each.inline)
        for each, codec in fields
    ]

    def write(value: Any) -> Document:
        body: Document = {}
        for name, key, write_field, default, inline in plan:
            given = getattr(value, name)
            if inline:
                if given is not None and write_field is not None:
                    body |= write_field(given)
            elif default is None or given != default():
                body[key] = given if write_field is None else write_field(given)
        return body

    return write


def _short(value: object) -> str:
    """A value that was not wanted, for a sentence."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
