"""What the code's style asks for and no linter has a rule for."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import parsed
import pytest

from swarmtrain.wire.plural import counted, plural

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "swarmtrain"
SOURCES = sorted(
    file for place in ("src", "tests", "examples", "benchmarks") for file in ROOT.glob(f"{place}/**/*.py")
)


def test_counted_things_are_said_in_the_singular_or_the_plural() -> None:
    assert [counted(number, "step") for number in (0, 1, 2, 1.0, 0.5)] == [
        *("0 steps", "1 step", "2 steps", "1.0 step", "0.5 steps")
    ]
    assert counted(2, "process", "processes") == "2 processes"
    assert [plural(number, "has", "have") for number in (1, 3)] == ["has", "have"]


def numbers_by_hand(code: str) -> Iterator[int]:
    """The lines where a conditional chooses between ``1 thing`` and ``things``, or between an s and none."""
    for node in parsed.nodes(code):
        if isinstance(node, ast.IfExp):
            texts = [each.value for each in (node.body, node.orelse) if isinstance(each, ast.Constant)]
            if any(text == "s" or str(text).startswith("1 ") for text in texts):
                yield node.lineno


def exploded(code: str) -> Iterator[int]:
    """The lines where a comment behind a statement made the formatter break the statement up."""
    for number, line in enumerate(code.splitlines(), 1):
        if re.match(r" *[)\]}][^#\"']*  # (?!noqa|type:)", line):
            yield number


def patched_times(code: str) -> Iterator[int]:
    """The lines where a clock is put into a module's place: whatever counts time takes one as an argument."""
    for number, line in enumerate(code.splitlines(), 1):
        if re.search(
            r"""setattr\((?:[\w.]*\btime, |[^()]*["'](?:time|monotonic|perf_counter)(?:_ns)?["'])""", line
        ):
            yield number


def places(find: Callable[[str], Iterator[int]], root: str = "") -> list[str]:
    files = [file for file in SOURCES if file.is_relative_to(ROOT / root) and "healthy" not in file.parts]
    return [f"{file.relative_to(ROOT)}:{line}" for file in files for line in find(parsed.text(file))]


# The third person of what functions do.
_DOES = re.compile(
    "(Add|Ask|Begin|Bring|Build|Call|Change|Check|Claim|Close|Compare|Copie|Count|Create|Decide|Delete|End|Find|Fix|Get|Give"
    "|Goe|Hold|Join|Keep|Leave|Let|List|Load|Look|Make|Measure|Move|Open|Parse|Passe|Print|Put|Raise|Read|Reload|Remove"
    "|Rename|Report|Return|Save|Say|Seed|Send|Set|Start|Stop|Take|Trie|Turn|Wait|Warn|Write)e?s\\b"
)


def third_person(code: str) -> Iterator[int]:
    """The lines of functions whose docstrings tell what they do instead of saying it, or naming what they return."""
    for node in parsed.nodes(code):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and _DOES.match(
            ast.get_docstring(node) or ""
        ):
            yield node.lineno


def test_docstrings_of_functions_are_in_one_mood() -> None:
    assert places(third_person, "src") == [], "`Remove a file.` or `The file's size.`, not `Removes a file.`"


def test_one_helper_makes_plurals() -> None:
    assert places(numbers_by_hand, "src") == [], "swarmtrain.wire.plural does this"


def test_a_comment_that_breaks_a_statement_up_stands_above_it() -> None:
    assert places(exploded) == []


@pytest.mark.parametrize(
    "code", ["'1 node' if n == 1 else f'{n} nodes'", "f\"{n} file{'s' if n > 1 else ''}\""]
)
def test_a_plural_by_hand_would_be_noticed(code: str) -> None:
    assert list(numbers_by_hand(code)) == [1]


@pytest.mark.parametrize("text", ["Removes a file.", "Returns its size.", "Goes on.", "Passes it."])
def test_another_mood_would_be_noticed(text: str) -> None:
    assert list(third_person(f"def f():\n    '{text}'")) == [1]
    assert list(third_person("def f():\n    'Seconds since then.'")) == []


def test_a_statement_that_was_broken_up_would_be_noticed() -> None:
    assert list(exploded("if (\n    so\n):  # and why\n    pass\n")) == [3]


def test_no_test_patches_time() -> None:
    assert places(patched_times, "tests") == [], (
        "tests/shared/hand_clock.py is a clock that tests turn by hand"
    )


@pytest.mark.parametrize(
    "code",
    [
        'patch.setattr_(module, "time", clock)',
        'patch.setattr_(module.time, "monotonic", f)',
        'setattr_(time, "x", f)',
    ],
)
def test_a_patched_time_would_be_noticed(code: str) -> None:
    assert list(patched_times(code.replace("_(", "("))) == [1]


def classes(file: Path) -> Iterator[str]:
    """The names of a file's classes, also of those inside of others and of functions."""
    for node in parsed.nodes(parsed.text(file)):
        if isinstance(node, ast.ClassDef):
            yield node.name


def test_a_class_name_has_one_meaning() -> None:
    named = [(name, file) for file in SOURCES if file.is_relative_to(ROOT / "src") for name in classes(file)]
    assert len(named) > 300
    by_name: dict[str, set[str]] = {}
    for name, file in named:
        by_name.setdefault(name, set()).add(str(file.relative_to(ROOT)))
    assert {name: sorted(files) for name, files in by_name.items() if len(files) > 1} == {}


# What nobody could guess, and what it is called now.
_PRIVATE = {
    "bell": "notifier",
    "candid": "reports phases",
    "chronicle": "incident log",
    "cooperative": "can pause",
    "desk": "node requests",
    "errand": "node requests",
    "grip": "held fault",
    "keeper": "init",
    "lookout": "startup watch",
    "lose": "mark lost",
    "membership": "decide",
    "regather": "re-form",
    "roll": "members",
    "stillborn": "never started",
    "story": "narration",
    "terms": "model",
    "ticket": "run secret",
    "vital": "pulse writer",
}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def identifiers(code: str) -> Iterator[str]:
    """Every name that a module defines, imports, takes or uses."""
    for node in parsed.nodes(code):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name
            case ast.keyword(arg=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name
            case ast.alias(name=name, asname=other):
                yield from (name, other or "")


def private_words(names: Iterable[str]) -> set[str]:
    """Of these names, those that have a private word in them, also as a plural."""
    return {
        name
        for name in names
        for word in _WORD.findall(name)
        if not _PRIVATE.keys().isdisjoint((word.lower(), word.lower().removesuffix("s")))
    }


def test_no_private_word_is_left_in_a_name() -> None:
    found = {
        f"{file.relative_to(SOURCE)}: {name}"
        for file in SOURCES
        if file.is_relative_to(SOURCE)
        for name in private_words(
            [*file.relative_to(SOURCE).with_suffix("").parts, *identifiers(parsed.text(file))]
        )
    }
    assert sorted(found) == [], f"what these are called: {_PRIVATE}"


@pytest.mark.parametrize(
    "code",
    [
        "class NodeErrands: ...",
        "def _regather(): ...",
        "run.lose(node)",
        "f(on_bell=1)",
        "import desk as d",
        "LOOKOUT = 1",
    ],
)
def test_a_private_word_would_be_noticed(code: str) -> None:
    assert len(private_words(identifiers(code))) == 1
    assert private_words(["close", "closed", "reform", "enrolled", "history"]) == set()


def test_a_folder_holds_a_dozen_files_at_most() -> None:
    full = {
        str(folder.relative_to(SOURCE))
        for folder in {file.parent for file in SOURCE.glob("**/*.py")}
        if len([file for file in folder.glob("*.py") if file.name != "__init__.py"]) > 12
    }
    assert full == set()


_MOST_LINES = 350
# Files that are longer, and why they are one thing.
LONG_FILES = {
    "job/spec.py": "a table: every key of a job, with all that is ever said of it",
    "control/handle.py": "what a program may ask of a run: each method is its words in docs/api.md, and a call",
}


def test_a_file_that_is_long_has_a_reason() -> None:
    long = {
        str(file.relative_to(SOURCE))
        for file in SOURCE.glob("**/*.py")
        if len(parsed.text(file).splitlines()) > _MOST_LINES
    }
    assert long == set(LONG_FILES), f"over {_MOST_LINES} lines: what in it is a thing of its own?"


_BARE = re.compile(r"(?:[Dd]ict|Mapping)\[str, Any\]")
# Where a dictionary of anything is what is meant, and why.
BARE_DICTIONARIES = {
    **dict.fromkeys(
        (
            "trainer/dealing.py",
            "trainer/precision.py",
            "trainer/seeding.py",
            "trainer/snapshot.py",
            "trainer/snapshots/files.py",
            "trainer/snapshots/manager.py",
            "trainer/snapshots/writer.py",
            "trainer/state.py",
        ),
        "a state, as `state_dict` of torch's own objects gives it",
    ),
    **dict.fromkeys(
        (
            "docker/command.py",
            "doctor/cluster/trial.py",
            "lab/host.py",
            "lab/node.py",
            "launchers/docker/inspected.py",
            "swarm/cluster.py",
            "swarm/tasks.py",
        ),
        "what docker prints of a thing, of which a few keys are read",
    ),
    **dict.fromkeys(
        (
            "docker/compose.py",
            "launchers/swarm/helpers.py",
            "launchers/swarm/stacks.py",
            "swarm/helpers.py",
            "swarm/parts.py",
        ),
        "a Compose file",
    ),
    **dict.fromkeys(
        ("job/together.py", "job/flags.py", "ui/job_options.py"), "what a person wrote, unchecked"
    ),
    "job/made/schema.py": "a JSON Schema",
    "wire/disk/records.py": "a line of a file; workers write what they like into theirs",
    "wire/disk/snapshots.py": "a manifest of any version",
}


def public_signatures(tree: ast.Module | ast.ClassDef) -> Iterator[ast.expr]:
    """The types of what public functions and methods take and return, and those that get a public name."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_signatures(node)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if not node.name.startswith("_") or node.name == "__init__":
                given = node.args
                taken = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
                hints = [*(each.annotation for each in taken if each is not None), node.returns]
                yield from (hint for hint in hints if hint is not None)
        elif (
            isinstance(tree, ast.Module)
            and isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and not node.targets[0].id.startswith("_")
        ):
            yield node.value


def bare_dictionaries(code: str) -> list[str]:
    return [
        text for hint in public_signatures(parsed.module(code)) if _BARE.search(text := ast.unparse(hint))
    ]


def test_a_dictionary_of_anything_is_in_no_public_signature_without_a_reason() -> None:
    found = {
        str(file.relative_to(SOURCE))
        for file in SOURCE.glob("**/*.py")
        if bare_dictionaries(parsed.text(file))
    }
    assert found == set(BARE_DICTIONARIES), "a dataclass, or dict[str, object] for what is only written"


@pytest.mark.parametrize(
    "code",
    [
        "def f(a: int, **more: list[dict[str, Any]]): ...",
        "class A:\n    async def f(self) -> Mapping[str, Any] | None: ...",
        "Message = dict[str, Any]",
    ],
)
def test_a_dictionary_of_anything_would_be_noticed(code: str) -> None:
    assert len(bare_dictionaries(code)) == 1
    assert bare_dictionaries(re.sub(r"\b(f|A|Message)\b", r"_\1", code)) == []


_PARTS = "|".join(sorted(folder.parent.name for folder in SOURCE.glob("*/__init__.py")))
_DOTTED = re.compile(rf"`(?:swarmtrain\.)?((?:{_PARTS})(?:\.\w+)+)`")
_PYTHON_FILE = re.compile(r"(?<![\w/.*])((?:[a-z_]+/)*[a-z_]+\.py)\b")
# Files of users, and of Python.
_NOT_OURS = {
    "torch/distributed/run.py",
    "train.py",
    "script.py",
    "setup.py",
    "main.py",
    "a.py",
    "run.py",
    "eval.py",
}


def missing_names(text: str, file: Path) -> Iterator[str]:
    """What a docstring or a comment names of the source, and is not there."""
    for name in _DOTTED.findall(text):
        parts = name.split(".")
        for length in range(len(parts), 0, -1):
            home = SOURCE.joinpath(*parts[:length])
            found = next(
                (each for each in (home.with_suffix(".py"), home / "__init__.py") if each.is_file()), None
            )
            if found is not None:
                code = parsed.text(found)
                yield from [name for rest in parts[length:] if not re.search(rf"\b{rest}\b", code)]
                break
        else:
            yield name
    for path in _PYTHON_FILE.findall(text):
        homes = (ROOT, SOURCE, file.parent, *file.parents)
        if path not in _NOT_OURS and not any((home / path).is_file() for home in homes):
            yield path


def said(file: Path) -> Iterator[str]:
    """The docstrings and comments of a file."""
    code = parsed.text(file)
    for node in parsed.nodes(code):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""
    yield from re.findall(r"# (.*)", code)


def test_what_docstrings_and_comments_name_of_the_source_is_there() -> None:
    files = [file for file in SOURCES if file.is_relative_to(SOURCE)]
    found = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in files
        for text in said(file)
        for name in missing_names(text, file)
    }
    assert sorted(found) == []


@pytest.mark.parametrize(
    "text", ["see `swarm.nowhere`", "as `wire.clock.Nothing` says", "read by nowhere.py"]
)
def test_a_name_that_is_gone_would_be_noticed(text: str) -> None:
    assert list(missing_names(text, SOURCE / "wire" / "clock.py"))
