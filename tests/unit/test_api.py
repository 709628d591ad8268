"""The public face: what is exported, what is documented and what is promised are the same."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import swarmtrain
from swarmtrain import trainer

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "scripts"))
api_page: Any = importlib.import_module("api_page")
MODULES = [importlib.import_module(name) for name in api_page.MODULES]

# What public signatures mention and is not public itself, and why.
INTERNAL = {
    "Code": "how the code is packed; a person reads its sentences in the plan's notices",
    "Checked": "a launcher's own, between its check and its submit",
    "Key": "a pair of numbers: the fence and the step",
    "KeyPath": "a tuple of keys and indices",
    "Launcher": "for launchers that come with swarmtrain, and stand-ins for them in tests",
    "LogsRequest": "what a selection is on the wire",
    "SeriesRequest": "what a range is on the wire",
    "Measure": "a function of outputs and targets",
    "Origin": "where a command line was typed",
    "Override": "a flag's words, for the command line",
    "Placement": "which node each part is on, as the text of the plan says",
    "PrecisionName": "three words, which the signature lists in the documentation",
    "Progress": "a function of two numbers",
    "Resumption": "what a run goes on from, as the notices say",
    "Reporter": "the trainer's own",
    "Stateful": "anything with state_dict and load_state_dict",
    "RunSecret": "a secret",
}


def public() -> Iterator[tuple[str, object]]:
    """Every public name of every public module."""
    for module in MODULES:
        for name in module.__all__:
            value = getattr(module, name)
            if not isinstance(value, ModuleType):
                yield f"{module.__name__}.{name}", value


def functions() -> Iterator[tuple[str, Callable[..., object]]]:
    """Every public function, constructor and method."""
    for name, value in public():
        if inspect.isclass(value):
            # A job's keys are given by name, and documents of the protocol are read, not made.
            if not hasattr(value, "model_fields") and not value.__module__.startswith("swarmtrain.protocol"):
                yield name, value
            for member, method in inspect.getmembers(value, inspect.isroutine):
                if not member.startswith("_") and "swarmtrain" in (getattr(method, "__module__", "") or ""):
                    yield f"{name}.{member}", method
        elif inspect.isfunction(value):
            yield name, value


def test_the_page_is_made_of_the_docstrings() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert page == api_page.page(), "make it anew: python scripts/api_page.py > docs/api.md"


def test_every_public_name_is_there_and_has_its_documentation() -> None:
    named = [(name, value) for name, value in public() if not name.endswith("__version__")]
    assert [name for name, value in named if not inspect.getdoc(value)] == []
    assert swarmtrain.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="has no attribute 'Cleint'"):
        getattr(swarmtrain, "Cleint")  # noqa: B009
    assert {*swarmtrain.__all__} <= {*dir(swarmtrain)}


def test_type_checkers_see_the_names_that_can_be_imported() -> None:
    tree = ast.parse(Path(swarmtrain.__file__).read_text(encoding="utf-8"))
    (seen,) = (
        each for each in tree.body if isinstance(each, ast.If) and ast.unparse(each.test) == "TYPE_CHECKING"
    )
    imports = {
        alias.name: each.module
        for each in seen.body
        if isinstance(each, ast.ImportFrom)
        for alias in each.names
    }
    assert imports == {name: home for home, names in swarmtrain._HOMES.items() for name in names}
    assert sorted([*imports, "__version__"], key=str) == sorted(swarmtrain.__all__)
    assert (Path(swarmtrain.__file__).parent / "py.typed").is_file()


def test_a_public_module_exports_all_that_it_offers() -> None:
    offered = {name for name, value in vars(trainer).items() if not name.startswith("_")}
    inner = {name for name in offered if isinstance(getattr(trainer, name), ModuleType)}
    assert offered - inner == {*trainer.__all__} - inner
    for module in (trainer.snapshot, trainer.snapshots):
        defined = {
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
        }
        assert defined <= {*module.__all__}


def test_booleans_are_given_by_name() -> None:
    found = [
        f"{name}({parameter.name})"
        for name, function in functions()
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is not parameter.KEYWORD_ONLY
        and (isinstance(parameter.default, bool) or str(parameter.annotation) in ("bool", "bool | None"))
    ]
    assert found == []


def test_a_type_that_a_public_signature_mentions_is_public_or_says_why_not() -> None:
    exported = {name.rpartition(".")[2] for name, _ in public()}
    mentioned = set()
    for _, function in functions():
        module = importlib.import_module(function.__module__)
        ours = _names_of_ours(Path(str(module.__file__)))
        written = [parameter.annotation for parameter in inspect.signature(function).parameters.values()]
        written.append(getattr(function, "__annotations__", {}).get("return", ""))
        mentioned |= {word for each in written for word in re.findall(r"\w\w+", str(each)) if word in ours}
    assert mentioned - exported - {*INTERNAL} == set()


def _names_of_ours(path: Path) -> set[str]:
    """What a module defines, and what it takes from other modules of the package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("swarmtrain"):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.add(node.targets[0].id)
    return found


def vanished(before: list[str], now: list[str], changes: str) -> list[str]:
    """The names of the last version that are gone, and of which the changelog does not say so."""
    removed = "".join(re.findall(r"^### Removed\n(.*?)(?=^##|\Z)", changes, re.MULTILINE | re.DOTALL))
    return [name for name in before if name not in now and f"`{name}`" not in removed]


def test_no_public_name_goes_without_a_word() -> None:
    golden = (ROOT / "tests" / "unit" / "golden" / "public_names.txt").read_text(encoding="utf-8")
    before = [line for line in golden.splitlines() if not line.startswith("#")]
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert vanished(before, api_page.names(), changes) == []


def test_a_name_that_went_without_a_word_would_be_noticed() -> None:
    changes = "## 0.3.0\n\n### Removed\n\n- `swarmtrain.old`: use new\n\n## 0.2.0\n\n- `swarmtrain.gone`\n"
    assert vanished(["swarmtrain.new", "swarmtrain.old", "swarmtrain.gone"], ["swarmtrain.new"], changes) == [
        "swarmtrain.gone"
    ]
