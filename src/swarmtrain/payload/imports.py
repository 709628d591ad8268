"""What a script imports, as far as its text tells: one that has no use for torch need not wait for it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

_MOST_BYTES = 1 << 20  # of a file that is read for it
_IMPORT = re.compile(
    r"^[ \t]*(?:import[ \t]+(?P<names>[^#\n]+)|from[ \t]+(?P<name>[\w.]+)[ \t]+import\b)", re.M
)


def only_standard(script: Path) -> bool:
    """Whether a script imports nothing but the standard library and plain modules beside it, and never says `torch`.

    What cannot be read, or is not understood, may import anything.
    """
    todo, seen = [script], set[Path]()
    while todo:
        path = todo.pop()
        seen.add(path)
        try:
            text = path.read_text() if path.stat().st_size <= _MOST_BYTES else "torch"
        except (OSError, ValueError):
            return False
        if "torch" in text:
            return False
        for name in _imported(text):
            if not name.isidentifier():  # a sentence of a docstring, say
                return False
            beside = script.with_name(f"{name}.py")
            if beside.is_file():
                todo += [beside] if beside not in seen else []
            elif name not in sys.stdlib_module_names:
                return False
    return True


def _imported(text: str) -> Iterator[str]:
    """The names of the modules that are imported, but for what is below them."""
    for found in _IMPORT.finditer(text):
        for each in (found["names"] or found["name"]).split(","):
            yield each.strip().partition(" ")[0].partition(".")[0]
