"""The commented example that ``swarmtrain init`` writes, made of the job's keys: each of them, with its default."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator

from swarmtrain.job import checks
from swarmtrain.job.keys import Described
from swarmtrain.job.spec import KEYS

_WIDTH = 119
_INTRODUCTION = """\
A training job for `swarmtrain run`. Only one of script, module and command must be here; every other key is shown with
its default, behind a `#`. A flag (--nodes 3) wins over a variable (SWARMTRAIN_NODES), and that over this file.
Durations are written 90s, 10m, 1h30m; sizes 512m, 8g.
"""


def init_text(name: str = "", script: str = "train.py", schema: str = "") -> str:
    """The example, for a job of this name and script.

    Args:
        name: made of the script's name when empty; made valid when it is not.
        script: relative to where the file will lie.
        schema: path or address of the JSON schema (`job.made.schema`), for editors; empty to leave its line out.
    """
    name = checks.made_name(name or re.sub(r"\.py$", "", script.rpartition("/")[2]))
    set_here = {"name": _scalar(name), "script": _scalar(script)}
    lines = [f"# yaml-language-server: $schema={schema}"] if schema else []
    lines += [f"# {line}" for line in _INTRODUCTION.splitlines()]
    for key, each in KEYS.items():
        if "." in key:
            continue
        if title := each.key.section:
            lines += ["", f"# --- {title} ".ljust(_WIDTH, "-")]
        lines += ["", *_comment(each)]
        lines += [f"{key}: {set_here[key]}"] if key in set_here else [f"# {line}" for line in _shown(each)]
    return "\n".join([*lines, ""])


def _comment(each: Described) -> Iterator[str]:
    yield from textwrap.wrap(_text(each), _WIDTH, initial_indent="# ", subsequent_indent="# ")
    for part in each.nested:
        text = f"{part.name.partition('.')[2]}: {_text(part)}"
        yield from textwrap.wrap(text, _WIDTH, initial_indent="# - ", subsequent_indent="#   ")


def _text(each: Described) -> str:
    """What a key does, and what holds without it where that is no value."""
    without = "" if each.written or each.nested else each.key.default
    return f"{each.key.text} Left out: {without}." if without else each.key.text


def _shown(each: Described) -> Iterator[str]:
    """A key, and those inside of it, with their defaults."""
    yield f"{each.name.rpartition('.')[2]}: {each.written}".rstrip()
    for part in each.nested:
        yield from (f"  {line}" for line in _shown(part))


def _scalar(text: str) -> str:
    """As a YAML scalar: plain where that is certain to stay text, else in quotes."""
    is_plain = re.fullmatch(r"[A-Za-z][\w./-]*", text, re.ASCII) and text not in ("true", "false", "null")
    return text if is_plain else json.dumps(text)
