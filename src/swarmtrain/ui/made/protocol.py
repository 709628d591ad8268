"""The tables of docs/architecture.md that say what the sides say to each other, made of the types in `protocol`.

Between two comments, ``<!-- protocol: NAME -->`` and ``<!-- end -->``, stands what is made. A message's line has its
keys on the wire, each with the field's name in Python where that is longer, and what the docstrings say of them.
"""

from __future__ import annotations

import enum
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, Literal

from swarmtrain.protocol.codec import Family
from swarmtrain.protocol.from_agent import FROM_AGENT
from swarmtrain.protocol.replies import NodeReply, RunReply
from swarmtrain.protocol.requests import REQUESTS, TerminalInput
from swarmtrain.protocol.schema import Field, fields_of, tag_of
from swarmtrain.protocol.spawner import FROM_SPAWNER, TO_SPAWNER
from swarmtrain.protocol.status import Status
from swarmtrain.protocol.to_agent import TO_AGENT

_SCALARS = {str: "text", int: "int", float: "number", bool: "bool"}
_MADE = re.compile(r"(<!-- protocol: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_protocol(page: str) -> str:
    """A page with what stands between its comments made anew."""
    return _MADE.sub(lambda match: f"{match[1]}\n{_TABLES[match[2]]()}\n{match[3]}", page)


def _requests() -> str:
    rows = []
    for kind in REQUESTS.kinds:
        what, _, replies = _summary(kind).partition(" Repl")
        rows.append((f"`{_name(kind)}`", _keys(_fields(kind), _told(kind)), _joined(what, f"Repl{replies}")))
    typed = _keys(_fields(TerminalInput), _told(TerminalInput))
    rows.append(("(after `exec`)", typed, "What a person types."))
    return _table(("op", "keys", "what, and its replies"), rows)


def _replies() -> str:
    rows = []
    for kind in (RunReply, NodeReply):
        told = _told(kind, repeated=True)
        rows += [
            (f"`{each.key}`", _form(each.kind), told.get(each.name) or _summary(_inner(each.kind)))
            for each in _fields(kind)
            if not (kind is NodeReply and each.name in ("error", "done"))
        ]
    return _table(("key of a reply", "is", "what"), rows)


def _messages(family: Family[Any]) -> Callable[[], str]:
    def table() -> str:
        rows = [
            (f"`{_name(kind)}`", _keys(_fields(kind), _told(kind)), _summary(kind)) for kind in family.kinds
        ]
        return _table(("message", "keys", "what"), rows)

    return table


def _status() -> str:
    told = _told(Status, repeated=True)
    rows = []
    for each in _fields(Status):
        inner = _inner(each.kind)
        about = told.get(each.name) or (_summary(inner) if is_dataclass(inner) else "")
        rows.append((f"`{each.key}`", _form(each.kind), about))
    return _table(("key", "is", "what"), rows)


def _objects() -> str:
    """Whatever stands in messages, replies and the status, and is an object or a list of its own."""
    found: dict[type, None] = {}
    roots: list[type] = [*FROM_AGENT.kinds, *TO_AGENT.kinds, *REQUESTS.kinds, RunReply, NodeReply, Status]
    for root in roots:
        _gather(root, found)
    rows = [
        (f"`{kind.__name__}`", _members(kind), _summary(kind))
        for kind in sorted(set(found) - set(roots), key=lambda each: each.__name__)
    ]
    return _table(("object", "keys", "what"), rows)


_TABLES: Mapping[str, Callable[[], str]] = {
    "requests": _requests,
    "replies": _replies,
    "status": _status,
    "from_agent": _messages(FROM_AGENT),
    "to_agent": _messages(TO_AGENT),
    "to_spawner": _messages(TO_SPAWNER),
    "from_spawner": _messages(FROM_SPAWNER),
    "objects": _objects,
}


# ---- of one type -----------------------------------------------------------------------------------------------------


def _fields(kind: Any) -> tuple[Field, ...]:
    return fields_of(kind)


def _name(kind: type) -> str:
    tag = tag_of(kind)
    assert tag is not None, "a message has a tag"
    return tag.name


def _gather(kind: Any, found: dict[type, None]) -> None:
    """Find the objects and lists that the fields of one are, or hold; what is inline is none of its own."""
    fields = _fields(kind) if is_dataclass(kind) else ()
    for each in fields:
        for part in filter(_is_shown, _leaves(each.kind)):
            if not each.inline:
                found[part] = None
            _gather(part, found)


def _is_shown(kind: Any) -> bool:
    return is_dataclass(kind) or (isinstance(kind, type) and hasattr(kind, "_fields"))


def _leaves(hint: Any) -> list[Any]:
    args = [arg for arg in typing.get_args(hint) if arg is not type(None)]
    return [leaf for arg in args for leaf in _leaves(arg)] if args else [hint]


def _inner(hint: Any) -> Any:
    """What a field holds, one or many of it."""
    return _leaves(hint)[-1]


def _members(kind: Any) -> str:
    if is_dataclass(kind):
        return _keys(_fields(typing.cast(type, kind)), _told(typing.cast(type, kind)))
    return "in a list: " + ", ".join(_with(f"`{name}`", _told(kind).get(name, "")) for name in kind._fields)


def _keys(fields: Sequence[Field], told: Mapping[str, str]) -> str:
    shown = []
    for each in fields:
        if each.inline:
            inner = _inner(each.kind)
            shown.append("those of a reply" if inner is NodeReply else _keys(_fields(inner), _told(inner)))
            continue
        name = "" if each.key == each.name else each.name
        shown.append(_with(f"`{each.key}`", ": ".join(filter(None, [name, told.get(each.name, "")]))))
    return ", ".join(shown)


def _with(key: str, about: str) -> str:
    return f"{key} ({about})" if about else key


def _form(hint: Any) -> str:
    """A type as readers of JSON say it."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return f"{_form(next(arg for arg in args if arg is not type(None)))} or null"
    if origin is Literal:
        return " or ".join(f"`{arg}`" for arg in args)
    if origin in (list, tuple):
        return f"list of {_form(args[0])}"
    if origin is not None and len(args) == 2:
        return "object" if args[1] in (Any, object) else f"object of {_form(args[1])}"
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return " or ".join(f"`{each.value}`" for each in hint)
    return _SCALARS.get(hint, f"`{getattr(hint, '__name__', hint)}`")


# ---- of docstrings ---------------------------------------------------------------------------------------------------


def _summary(kind: Any) -> str:
    """The first paragraph of a docstring."""
    return _plain((inspect.getdoc(kind) or "").partition("\n\n")[0])


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")


def _told(kind: type, *, repeated: bool = False) -> dict[str, str]:
    """What a docstring's Attributes say of each field.

    Args:
        repeated: what is said of several stands with each of them, not only with the first.
    """
    told: dict[str, str] = {}
    section = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    for entry in re.split(r"\n(?=    \S)", section):
        names, _, about = entry.strip().partition(": ")
        first, *others = names.split(", ")
        told[first] = _plain(about).rstrip(".")
        told |= dict.fromkeys(others, told[first] if repeated else "")
    return told


def _joined(what: str, replies: str) -> str:
    return f"{what} {replies}" if replies != "Repl" else what


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"
