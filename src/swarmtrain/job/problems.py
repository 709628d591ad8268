"""The mistakes in a job, all of them at once, in sentences.

`Problem` is one mistake at one key; `Mistakes` carries all of them, and `JobError` those of a job. `explain`
translates pydantic's errors, so that no user meets its words. `job.spec` raises; `job.load` adds the line or the
flag each mistake came from.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from swarmtrain.errors import RequestError

KeyPath = tuple[str | int, ...]

# What other tools call our keys.
SYNONYMS = {
    "cmd": "command",
    "cpus": "resources.cpus",
    "entrypoint": "script",
    "environment": "env",
    "gpus": "resources.gpus",
    "hang_timeout": "restart.hang_timeout",
    "hosts": "nodes",
    "max_restarts": "restart.max",
    "memory": "resources.memory",
    "nnodes": "nodes",
    "node_timeout": "restart.node_timeout",
    "nproc_per_node": "workers_per_node",
    "num_nodes": "nodes",
    "replicas": "nodes",
    "restarts": "restart.max",
    "restart_policy": "restart",
    "nproc-per-node": "workers_per_node",
}

_TYPES = {
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping of names to values",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "int_from_float": "must be a whole number",
    "int_type": "must be a whole number",
    "list_type": "must be a list",
    "mapping_type": "must be a mapping of names to values",
    "model_attributes_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "sequence_str": "must be a list",
    "is_instance_of": "must be a list",
    "string_type": "must be text",
    "tuple_type": "must be a list",
}


@dataclass(frozen=True)
class Problem:
    """One mistake.

    Args:
        path: the key it is at, ("resources", "gpus") or ("volumes", 1); empty when it is about the whole job.
        text: what is wrong, as the end of a sentence that begins with the key.
        place: where the value came from, ``swarmtrain.yaml:7``; empty for a value from Python.
        flag: the flag or variable it came from instead; it stands for the key then.
    """

    path: KeyPath
    text: str
    place: str = ""
    flag: str = ""

    def __str__(self) -> str:
        key = self.flag or dotted(self.path)
        return ": ".join(part for part in (self.place, key, self.text) if part)

    def at(self, place: str = "", flag: str = "") -> Problem:
        """The same mistake, with where it came from."""
        return dataclasses.replace(self, place=place, flag=flag)


class Mistakes(RequestError):
    """What a person wrote is wrong.

    Args:
        problems: every mistake that was found, at least one.
    """

    noun: ClassVar[str]  # what was written

    def __init__(self, problems: Iterable[Problem], hint: str = "") -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in self.problems]
        many = [f"the {self.noun} has {len(lines)} mistakes", *(f"  {line}" for line in lines)]
        super().__init__("\n".join(lines if len(lines) == 1 else many), hint)


class JobError(Mistakes):
    """The job is wrong."""

    noun = "job"


def dotted(path: KeyPath) -> str:
    """A path as people write it: ``resources.gpus``, ``volumes[1]`` (the first is 1)."""
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def unknown_key(key: str, known: Sequence[str]) -> str:
    """``unknown key (did you mean nodes?)``."""
    return "unknown key" + did_you_mean(SYNONYMS.get(key, "") or key, [*known, *SYNONYMS.values()])


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` (did you mean nodes?)`` for the nearest of the ``known`` words; empty when none is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def explain(
    error: ValidationError, known: Sequence[str], inner: Mapping[str, Sequence[str]]
) -> list[Problem]:
    """Pydantic's errors in our words.

    Args:
        known: the keys of the job. inner: the keys inside the keys that hold a mapping of fixed keys.
    """
    problems = [_explain_one(details, known, inner) for details in error.errors(include_url=False)]
    return list(dict.fromkeys(problems))


def _explain_one(details: ErrorDetails, known: Sequence[str], inner: Mapping[str, Sequence[str]]) -> Problem:
    path = tuple(part for part in details["loc"] if part != "[key]")
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        keys = inner.get(str(path[0]), ()) if len(path) > 1 else known
        return Problem(path, unknown_key(str(path[-1]), keys))
    if kind == "value_error":
        return Problem(path, str(context["error"]))
    if kind == "literal_error":
        words = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        return Problem(
            path,
            f"{shown(details['input'])} is not one of {', '.join(words)}"
            + did_you_mean(str(details["input"]), words),
        )
    if kind == "too_short":
        return Problem(path, "is empty")
    if kind in ("greater_than_equal", "greater_than"):
        word = "at least" if kind == "greater_than_equal" else "more than"
        return Problem(path, f"must be {word} {context.get('ge', context.get('gt'))}")
    if kind in _TYPES:
        return Problem(path, f"{_TYPES[kind]}, not {shown(details['input'])}" + _quoting(kind, details))
    return Problem(path, details["msg"][:1].lower() + details["msg"][1:])


def shown(value: object) -> str:
    """A value in a message, short: ``'abc'``, ``3``, ``true``, ``a list``, ``nothing``."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int, float)):
        text = repr(value)
        return text if len(text) <= 60 else text[:56] + "...'"
    return (
        "a mapping" if isinstance(value, dict) else "a list" if isinstance(value, (list, tuple)) else "that"
    )


def _quoting(kind: str, details: ErrorDetails) -> str:
    is_scalar = isinstance(details["input"], (bool, int, float))
    return " (put it in quotes)" if kind == "string_type" and is_scalar else ""
