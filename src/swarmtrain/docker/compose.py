"""Compose files as text: from a document of plain values to YAML that Docker reads back as the same values.

Docker's reader follows YAML 1.1 in part (``on`` is a boolean, ``22:30`` a number) and replaces variables, so every
string that could be taken for something else is quoted and every ``$`` is doubled. The same document gives the same
text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_INDENT = "  "
_PLAIN = re.compile(r"(?:\./)?[A-Za-z_/][A-Za-z0-9_./=!-]*(?:(?: |:)[A-Za-z0-9_./=!-]+)*")
_WORDS = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null"])
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


class Octal(int):
    """The mode of a file, written as 0444."""


def dump(document: Mapping[str, Any]) -> str:
    """The text of a document made of mappings, sequences, strings, numbers, booleans and None."""
    return "\n".join(_mapping(document, "")) + "\n"


def literal(text: str) -> str:
    """Text that goes where Swarm expands templates, so that it comes out as it is."""
    return text.replace("{{", '{{"{{"}}')


def _mapping(mapping: Mapping[str, Any], indent: str) -> list[str]:
    lines = []
    for key, value in mapping.items():
        name = _string(key, double=False)
        lines += _entry(f"{indent}{name}:", value, indent + _INDENT)
    return lines


def _sequence(sequence: Sequence[Any], indent: str) -> list[str]:
    lines = []
    for value in sequence:
        if isinstance(value, Mapping) and value:
            inner = _mapping(value, indent + _INDENT)
            lines += [f"{indent}- {inner[0].strip()}", *inner[1:]]
        else:
            lines += _entry(f"{indent}-", value, indent + _INDENT)
    return lines


def _entry(start: str, value: Any, indent: str) -> list[str]:
    if isinstance(value, Mapping):
        return [start, *_mapping(value, indent)] if value else [f"{start} {{}}"]
    if isinstance(value, str) or not isinstance(value, Sequence):
        return [f"{start} {_scalar(value)}"]
    if all(isinstance(each, str) and len(each) < 40 for each in value) and len(value) < 6:
        return [f"{start} [{', '.join(_string(each, flow=True) for each in value)}]"]
    return [start, *_sequence(value, indent)]


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, Octal):
        return f"0{value:o}"
    assert isinstance(value, (bool, int, float)), f"{value!r} has no place in a Compose file"
    return json.dumps(value)


def _string(text: str, *, double: bool = True, flow: bool = False) -> str:
    """A string, quoted where it must be; ``double`` its ``$`` in values, which Docker looks into, not in keys."""
    if double:
        text = text.replace("$", "$$")
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS and not (flow and ":" in text):
        return text
    if '"' in text and "'" not in text and text.isprintable():
        return f"'{text}'"
    quoted = json.dumps(text, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)
