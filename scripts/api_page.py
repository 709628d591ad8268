"""The page of the Python API, made of the docstrings: ``python scripts/api_page.py > docs/api.md``.

With ``--names`` it prints the public names instead, for the list of the last version's in ``tests/unit/golden``. What
is public is what a public module's ``__all__`` names. Tests hold the page and the list to what this prints.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from types import ModuleType

from pydantic import BaseModel

from swarmtrain.protocol.schema import Struct

MODULES = ("swarmtrain", "swarmtrain.trainer", "swarmtrain.trainer.snapshot", "swarmtrain.trainer.snapshots")

_INTRODUCTION = """\
# Python API

Made of the docstrings by `python scripts/api_page.py > docs/api.md`. What is here is public: [how it
changes](../CONTRIBUTING.md#public-names) is announced. Everything else may change with any version.

`swarmtrain` needs no torch, and imports a name when it is used; `swarmtrain.trainer` needs nothing but torch.
"""
_SECTION = re.compile(r"(Args|Attributes|Returns|Raises):")
_ENTRY = re.compile(r"(\*{0,2}\w+(?:, \w+)*): (.*)", re.DOTALL)


def page() -> str:
    """The whole page as Markdown."""
    return "\n".join(line for part in _parts() for line in [part, ""]).rstrip() + "\n"


def _parts() -> Iterator[str]:
    yield _INTRODUCTION.rstrip()
    told: set[int] = set()
    for name in MODULES:
        module = importlib.import_module(name)
        yield f"## {name}"
        yield from _text(inspect.getdoc(module) or "")
        for public in sorted(module.__all__, key=str.lower):
            value = getattr(module, public)
            if isinstance(value, ModuleType) or public.startswith("__"):
                continue  # a module has its own section
            yield f"### {name}.{public}"
            if id(value) in told:
                yield "The same as above."
            else:
                told.add(id(value))
                yield from _class(public, value) if inspect.isclass(value) else _function(public, value)


def _class(name: str, kind: type) -> Iterator[str]:
    if issubclass(kind, BaseModel):
        yield from _text(inspect.getdoc(kind) or "")
        yield "Its arguments are the keys of the [job file](job-file.md)."
        return
    bases = [base.__name__ for base in kind.__bases__ if base not in (object, tuple, Struct)]
    yield _code(f"class {name}({', '.join(bases)})" if bases else f"class {name}{_signature(kind)}")
    yield from _text(inspect.getdoc(kind) or "")
    if fields := _fields(kind):
        yield "\n".join(fields)
    for member, value in _members(kind):
        if isinstance(value, property):
            yield f"**`{member}`** → `{_annotation(value.fget)}`"
            yield from _text(inspect.getdoc(value) or "")
        else:
            yield from _function(f"{name}.{member}", value)


def _members(kind: type) -> Iterator[tuple[str, object]]:
    """The public methods and properties that a class itself defines, in its order."""
    for name, value in vars(kind).items():
        value = value.__func__ if isinstance(value, staticmethod | classmethod) else value
        documented = isinstance(value, property) or inspect.isfunction(value)
        if documented and not name.startswith("_"):
            yield name, value


def _fields(kind: type) -> list[str]:
    """The fields that no docstring tells of, with the comments behind them."""
    if "Args:" in (kind.__doc__ or "") or "Attributes:" in (kind.__doc__ or ""):
        return []
    if not dataclasses.is_dataclass(kind) and not hasattr(kind, "_fields"):
        return []
    lines = []
    for line in inspect.getsource(kind).splitlines():
        match = re.match(r"    (\w+): ([^=#]+?)(?: = [^#]*?)?(?:  # (.*))?$", line)
        if match and match[1] in inspect.get_annotations(kind):
            lines.append(f"- `{match[1]}: {match[2]}`" + (f": {match[3]}" if match[3] else ""))
    return lines


def _function(name: str, function: object) -> Iterator[str]:
    assert callable(function), name
    result = _annotation(function)
    yield _code(f"{name}{_signature(function)}" + (f" -> {result}" if result else ""))
    yield from _text(inspect.getdoc(function) or "")


def _signature(function: Callable[..., object]) -> str:
    """Names and defaults; types as they are written."""
    signature = inspect.signature(function)
    parameters = [each for each in signature.parameters.values() if each.name not in ("self", "cls")]
    shown = [
        each.replace(default=_Shown("...")) if _is_made_anew(each.default) else each for each in parameters
    ]
    text = str(signature.replace(parameters=shown, return_annotation=inspect.Signature.empty))
    text = re.sub(r"ForwardRef\('([^']*)'\)", r"\1", text)
    text = re.sub(
        r"(: |-> )(?:'([^']*)'|\"([^\"]*)\")", lambda found: found[1] + (found[2] or found[3]), text
    )
    return re.sub(r"Annotated\[((?:[^][,]|\[[^][]*\])*), [^][]*\]", r"\1", text)


def _is_made_anew(default: object) -> bool:
    """Whether a default has no words of its own: a function, or what a dataclass makes for each object."""
    return default is not inspect.Parameter.empty and (callable(default) or "factory" in repr(default))


class _Shown:
    """A default whose words are given."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _annotation(function: object) -> str:
    return str(getattr(function, "__annotations__", {}).get("return", ""))


def _code(signature: str) -> str:
    """A signature in a block, a line for each parameter where one line would be too long."""
    if len(signature) > 100:
        head, _, rest = signature.partition("(")
        inner, _, tail = rest.rpartition(")")
        lines = [f"    {each}," for each in _split(inner)]
        signature = "\n".join([f"{head}(", *lines, f"){tail}"])
    return f"```python\n{signature}\n```"


def _split(text: str) -> list[str]:
    """At commas that are in no brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _text(doc: str) -> Iterator[str]:
    """A docstring as Markdown: its sections as lists, indented text as code."""
    for paragraph in _paragraphs(doc):
        match = _SECTION.match(paragraph)
        if match:
            yield f"*{match[1]}*\n\n" + _list(paragraph[match.end() :])
        elif paragraph.startswith("    "):
            yield f"```python\n{textwrap.dedent(paragraph)}\n```"
        else:
            yield _inline(paragraph)


def _paragraphs(doc: str) -> list[str]:
    """At empty lines, but for those within indented text."""
    paragraphs: list[str] = []
    for paragraph in doc.split("\n\n"):
        if paragraph.startswith("    ") and paragraphs and paragraphs[-1].startswith("    "):
            paragraphs[-1] += f"\n\n{paragraph}"
        else:
            paragraphs.append(paragraph)
    return paragraphs


def _list(body: str) -> str:
    """Entries, of which each may go on in lines that are indented further; errors may share a line."""
    entries: list[str] = []
    body = re.sub(r"(?<=\.) (?=[A-Z]\w*(?:Error|Exit): |Stopped: )", "\n", body)
    for line in textwrap.dedent(body.strip("\n")).splitlines():
        if line.startswith(" ") and entries:
            entries[-1] += " " + line.strip()
        else:
            entries.append(line.strip())
    return "\n".join(f"- {_entry(each)}" for each in entries if each)


def _entry(text: str) -> str:
    match = _ENTRY.fullmatch(text)
    return f"`{match[1]}`: {_inline(match[2])}" if match else _inline(text)


def _inline(text: str) -> str:
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    return re.sub(r"``(.+?)``", r"`\1`", text, flags=re.DOTALL)


def names() -> list[str]:
    """Every public name, with the methods and fields of classes, and the parameters of functions."""
    found = []
    for name in MODULES:
        module = importlib.import_module(name)
        for public in module.__all__:
            value = getattr(module, public)
            found.append(f"{name}.{public}")
            if inspect.isclass(value):
                for member, method in _members(value):
                    found += _with_parameters(f"{name}.{public}.{member}", method)
            if callable(value) and not (inspect.isclass(value) and issubclass(value, BaseModel)):
                found += _with_parameters(f"{name}.{public}", value)[1:]
    return sorted(found)


def _with_parameters(name: str, value: object) -> list[str]:
    if not callable(value):
        return [name]
    parameters = inspect.signature(value).parameters
    return [name, *(f"{name}({each})" for each in parameters if each not in ("self", "cls"))]


if __name__ == "__main__":
    print("\n".join([*names(), ""]) if "--names" in sys.argv else page(), end="")
