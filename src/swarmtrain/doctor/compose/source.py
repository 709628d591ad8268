"""A Compose file as a tree of values that know their lines.

Read on YAML's node graph, where anchors, merges and quotes are still as they were written: a finding names the line
that a person has to change, also where an alias brings it into three services.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLWarning
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from swarmtrain.errors import RequestError

_DEPTH = 20  # an alias may hold itself
_LARGEST = 1 << 20
_MERGE = "<<"
_VARIABLE = re.compile(r"\$(?:\$|\{(\w+)(?:(:?[-?+])([^}]*))?\}|(\w+))")


@dataclass(frozen=True)
class Written:
    """A value of the file and where it stands.

    Args:
        value: text as it was written, a list, a mapping, or None for nothing.
        line: of its key, or of its own where it has none; from 1.
        last: the last line of it.
        kind: of a scalar: ``str``, ``int``, ``float``, ``bool`` or ``null``, as YAML takes it.
    """

    value: str | tuple[Written, ...] | Mapping[str, Written] | None
    line: int
    last: int = 0
    kind: str = "str"

    def get(self, *path: str) -> Written | None:
        """What stands below these keys; None where nothing does."""
        here: Written | None = self
        for key in path:
            here = here.value.get(key) if here is not None and isinstance(here.value, Mapping) else None
        return here

    def entries(self, *path: str) -> dict[str, Written]:
        """The entries of the mapping below these keys, or of a list of names; none where there is neither."""
        here = self.get(*path)
        if here is None:
            return {}
        if isinstance(here.value, Mapping):
            return dict(here.value)
        return {item.text(): item for item in here.items()}

    def items(self) -> tuple[Written, ...]:
        """The items of a list; none where it is no list."""
        return self.value if isinstance(self.value, tuple) else ()

    def text(self, *path: str) -> str:
        """The text below these keys; empty where there is none."""
        here = self.get(*path)
        return here.value if here is not None and isinstance(here.value, str) else ""

    def is_true(self, *path: str) -> bool:
        """Whether what stands below these keys says yes."""
        return self.text(*path).lower() in ("true", "yes", "on")


@dataclass(frozen=True)
class ComposeSource:
    """A file: its name in messages, its lines, its root."""

    name: str
    lines: tuple[str, ...]
    root: Written

    def has_variable(self, written: Written) -> bool:
        """Whether who deploys decides about a value, by a variable in its line."""
        return "${" in self.lines[written.line - 1] if written.line <= len(self.lines) else False

    def line_of(self, words: str, within: Written) -> int:
        """The line of a value in which these words stand; its own where they are split."""
        for number in range(within.line, max(within.last, within.line) + 1):
            if number <= len(self.lines) and words in self.lines[number - 1]:
                return number
        return within.line


def read(path: Path) -> ComposeSource:
    """Read a file.

    Raises:
        RequestError: there is none, or it is no Compose file.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise RequestError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if len(content) > _LARGEST:
        raise RequestError(f"{path} is larger than 1 MiB: no Compose file")
    return parse(content.decode("utf-8", "replace"), str(path))


def parse(text: str, name: str, environment: Mapping[str, str] | None = None) -> ComposeSource:
    """The tree of a text. Variables get the values of ``environment``, by default this process's, or their defaults.

    Raises:
        RequestError: it is no Compose file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", YAMLWarning)
            node = YAML().compose(text)
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise RequestError(f"{name}{line} is not YAML: {error.problem or error.context}") from None
    except (ReaderError, RecursionError):
        raise RequestError(f"{name} is not text that YAML can be read from") from None
    variables = os.environ if environment is None else environment
    root = _written(node, 1, variables, 0) if node is not None else Written(None, 1)
    if not isinstance(root.value, Mapping) or not root.entries("services"):
        raise RequestError(
            f"{name} has no services: it is no Compose file", "a stack for a Swarm begins with services:"
        )
    return ComposeSource(name, tuple(text.splitlines()), root)


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """A text as Docker takes it, with variables replaced; one that has neither value nor default stays as it is."""

    def replaced(match: re.Match[str]) -> str:
        name = match[1] or match[4]
        if name is None:
            return "$"
        if value := variables.get(name):
            return value
        return match[3] if match[2] in ("-", ":-") else match[0]

    return _VARIABLE.sub(replaced, text)


def variables_in(text: str) -> set[str]:
    """The variables that Docker would replace in a text as it was written."""
    return {name for match in _VARIABLE.finditer(text) if (name := match[1] or match[4])}


def _written(node: Node, line: int, variables: Mapping[str, str], depth: int) -> Written:
    last = node.end_mark.line + 1
    if depth > _DEPTH:
        return Written(None, line, last, "null")
    if isinstance(node, MappingNode):
        return Written(dict(_pairs(node, variables, depth)), line, last, "map")
    if isinstance(node, SequenceNode):
        items = (_written(each, each.start_mark.line + 1, variables, depth + 1) for each in node.value)
        return Written(tuple(items), line, last, "list")
    assert isinstance(node, ScalarNode)
    kind = str(node.tag).rpartition(":")[2]
    if kind == "null":
        return Written(None, line, last, kind)
    text = str(node.value)
    if node.style == ">":
        text = text.replace("\a", "")  # ruamel marks where it has folded
    return Written(interpolate(text, variables), line, last, kind)


def _pairs(node: MappingNode, variables: Mapping[str, str], depth: int) -> Iterator[tuple[str, Written]]:
    """Entries, what is merged first: what a mapping says itself wins."""
    for key, child in node.value:
        if key.value == _MERGE:
            for each in child.value if isinstance(child, SequenceNode) else [child]:
                merged = _written(each, key.start_mark.line + 1, variables, depth + 1)
                yield from merged.entries().items()
    for key, child in node.value:
        if isinstance(key, ScalarNode) and key.value != _MERGE:
            yield str(key.value), _written(child, key.start_mark.line + 1, variables, depth + 1)
