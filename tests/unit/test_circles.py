"""No file needs another that needs it, not even for its types: each can be read after those that it imports."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import parsed
import pytest

SOURCE = Path(__file__).parents[2] / "src"

# Imports that would close a circle, by who imports whom, and why they stay. They are for types alone.
CLOSING = {
    ("control.resize", "control.handle"): "a handle offers what it is asked for, which asks the handle",
    ("control.files.everywhere", "control.handle"): "the same",
    ("control.files.run_files", "control.handle"): "the same",
    ("control.snapshots.snapshots", "control.handle"): "the same",
}


def sources() -> dict[str, str]:
    """The modules' code by their names; a package is called as its directory."""
    return {
        ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): parsed.text(file)
        for file in SOURCE.glob("swarmtrain/**/*.py")
    }


@cache
def statements(code: str) -> list[ast.Import | ast.ImportFrom]:
    """What imports: at once, in a function, or for its types."""
    return [node for node in parsed.nodes(code) if isinstance(node, ast.Import | ast.ImportFrom)]


@cache
def imports(code: str, modules: frozenset[str]) -> frozenset[str]:
    """Which of these modules the code imports."""
    found: frozenset[str] = frozenset()
    for node in statements(code):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= members & modules
            if not members <= modules:
                found |= {node.module}
    return found & modules


def circle(sources: Mapping[str, str], closing: Iterable[tuple[str, str]] = ()) -> list[str]:
    """Modules of which each imports the one before, and the first the last; empty where there are none such."""
    left_out, modules = set(closing), frozenset(sources)
    graph = {
        name: {each for each in imports(code, modules) - {name} if (name, each) not in left_out}
        for name, code in sources.items()
    }
    # The package itself imports the public names when they are asked for.
    graph["swarmtrain"] = set()
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_files_need_each_other() -> None:
    closing = {(f"swarmtrain.{one}", f"swarmtrain.{other}") for one, other in CLOSING}
    assert circle(sources(), closing) == []


@pytest.mark.parametrize("kept", CLOSING)
def test_what_is_said_to_close_a_circle_does(kept: tuple[str, str]) -> None:
    closing = {(f"swarmtrain.{one}", f"swarmtrain.{other}") for one, other in CLOSING if (one, other) != kept}
    assert circle(sources(), closing) != []


@pytest.mark.parametrize(
    "code",
    [
        "from a import b",
        "import a.b",
        "def f():\n    from a.b import B",
        "if TYPE_CHECKING:\n    from a.b import B",
    ],
)
def test_a_circle_would_be_noticed(code: str) -> None:
    files = {"swarmtrain": "", "a": "", "a.b": "from a.c import C", "a.c": code}
    assert set(circle(files)) == {"a.b", "a.c"}
