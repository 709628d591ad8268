"""A YAML file as plain values, the line of each, and every mistake in its form.

Called by `job.load`. It works on YAML's node graph instead of on constructed objects, because only there a value is
still as it was written (``1e-3``, ``1.10``, ``True``) and a key that comes twice still has two lines.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLWarning
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from swarmtrain.job.problems import JobError, KeyPath, Problem

# No job is nested deeper; an alias may refer to what holds it.
_DEPTH = 4
_LARGEST = 1 << 20

_TAG = "tag:yaml.org,2002:"
_INDICATORS = {
    "\t": "a tab cannot indent or begin a value: use spaces",
    "@": "a value that begins with @ needs quotes",
}
_INDICATORS |= {
    "`": "a value that begins with ` needs quotes",
    "%": "a value that begins with % needs quotes",
}


@dataclass
class Document:
    """What a job file holds.

    Args:
        name: the file's name in messages.
        values: keys to plain values.
        lines: the line of each key and each item, from 1, by its path.
        problems: mistakes of form, such as a key that comes twice, with their lines.
        as_written: below these keys, numbers and booleans are text.
    """

    name: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    as_written: Collection[str] = ()

    def place(self, path: KeyPath) -> str:
        """``swarmtrain.yaml:7``: the line of a path, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.name}:{self.lines[path]}" if path else self.name


def read(path: Path, name: str = "", as_written: Collection[str] = ()) -> Document:
    """Read a job file.

    Args:
        name: what messages call it; the path by default.
        as_written: see `Document`.

    Raises:
        JobError: it cannot be read at all, or it is not a YAML mapping.
    """
    name = name or str(path)
    root = _compose(_text(path, name), name)
    if not isinstance(root, MappingNode):
        what = "a list" if isinstance(root, SequenceNode) else "a single value" if root else "nothing"
        raise _unreadable(name, f"holds {what}, not keys and values", "`swarmtrain init` writes an example")
    document = Document(name, as_written=as_written)
    document.values = _mapping(root, (), document)
    return document


def parse_value(text: str, *, as_written: bool) -> Any:
    """One value, as it would be read behind a key in a job file; for ``--set``.

    Raises:
        ValueError: it is not YAML.
    """
    document = Document(as_written=("",) if as_written else ())
    try:
        root = _compose(text, "")
    except JobError as error:
        raise ValueError(error.problems[0].text) from None
    value = _value(root, ("",), document) if root else None
    if document.problems:
        raise ValueError(document.problems[0].text)
    return value


def _text(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except FileNotFoundError:
        raise _unreadable(name, "there is no such file", "`swarmtrain init` writes one") from None
    except IsADirectoryError:
        raise _unreadable(name, "is a directory, not a job file") from None
    except OSError as error:
        raise _unreadable(name, f"cannot be read: {error.strerror}") from None
    if len(content) > _LARGEST:
        raise _unreadable(name, "is larger than 1 MiB: no job file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _unreadable(f"{name}:{line}", "is not UTF-8 text") from None


def _compose(text: str, name: str) -> Node | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", YAMLWarning)
            root: Node | None = YAML().compose(text)
            return root
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise _unreadable(f"{name}{line}", f"is not YAML: {_reason(error)}") from None
    except ReaderError as error:
        number = text.count("\n", 0, error.position) + 1
        raise _unreadable(f"{name}:{number}", "is not text: it holds a control character") from None
    except RecursionError:
        raise _unreadable(name, "is nested too deeply") from None


def _reason(error: MarkedYAMLError) -> str:
    said = str(error.problem or error.context or "it cannot be understood")
    for character, meaning in _INDICATORS.items():
        if said.startswith("found character") and repr(character) in said:
            return meaning
    meanings = {
        "mapping values are not allowed here": "a second colon here (a value with `: ` in it needs quotes)",
        "could not find expected ':'": "a key without a colon",
        "but found another document": "a second document begins (`---`)",
    }
    return meanings.get(said, said)


def _unreadable(place: str, text: str, hint: str = "") -> JobError:
    return JobError([Problem((), text, place)], hint)


def _mapping(node: MappingNode, path: KeyPath, document: Document) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, child in _pairs(node, path, document):
        here = (*path, key.value)
        line = key.start_mark.line + 1
        if key.value in values:
            text = f"the same key twice (first in line {document.lines[here]})"
            document.problems.append(Problem(here, text, f"{document.name}:{line}"))
            continue
        document.lines[here] = line
        values[key.value] = _value(child, here, document)
    return values


def _pairs(node: MappingNode, path: KeyPath, document: Document) -> Iterator[tuple[ScalarNode, Node]]:
    for key, child in node.value:
        if isinstance(key, ScalarNode):
            yield key, child
        else:
            place = f"{document.name}:{key.start_mark.line + 1}"
            text = "a key must be a single word (a value that begins with { or [ needs quotes)"
            document.problems.append(Problem(path, text, place))


def _value(node: Node, path: KeyPath, document: Document) -> Any:
    if isinstance(node, MappingNode):
        return _mapping(node, path, document) if len(path) < _DEPTH else {}
    if isinstance(node, SequenceNode):
        return _sequence(node, path, document) if len(path) < _DEPTH else []
    return _scalar(node, as_written=path[0] in document.as_written)


def _sequence(node: SequenceNode, path: KeyPath, document: Document) -> list[Any]:
    values = []
    for index, item in enumerate(node.value):
        here = (*path, index)
        document.lines[here] = item.start_mark.line + 1
        values.append(_value(item, here, document))
    return values


def _scalar(node: Node, as_written: bool) -> str | int | float | bool | None:
    """A scalar by YAML 1.2's core schema; text where it is none of that."""
    text: str = node.value
    if isinstance(node, ScalarNode) and node.style == ">":
        text = text.replace("\a", "")  # with which ruamel marks where it has folded
    kind = str(node.tag).removeprefix(_TAG)
    if kind == "null":
        return None
    if as_written:
        return text
    try:
        if kind == "bool":
            return text.lower() == "true"
        if kind == "int":
            return int(text.replace("_", ""), 0 if text.lower().lstrip("+-").startswith(("0o", "0x")) else 10)
        if kind == "float":
            return float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        pass  # written for another version of YAML, such as 1:30 under %YAML 1.1
    return text
