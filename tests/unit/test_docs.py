"""What the documentation says exists: linked files, commands and flags, tests and source files."""

from __future__ import annotations

import ast
import contextlib
import importlib
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import parsed
import pytest

from swarmtrain.ui.cli import cli

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "swarmtrain"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)

# Flags that the pages name of other programs: torchrun, docker, pip, and the scripts among the examples.
FOREIGN = {
    *("--nproc-per-node", "--nproc_per_node", "--nnodes", "--node_rank", "--master_addr", "--master_port"),
    *("--batch_size", "--snapshot_path", "--epochs", "--lr", "--resolve-image", "--with-registry-auth"),
    *("--cap-add", "--privileged", "--advertise-addr", "--data-path-addr", "--gpus", "--network", "--leave"),
}

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PATH = re.compile(r"[\w.-]+(/[\w.-]+)+\.(py|md|yml|yaml|json|txt)(::test_\w+)?")


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def spans(page: Path) -> list[str]:
    """What stands between backticks."""
    return [" ".join(span.split()) for span in _SPAN.findall(prose(page))]


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every command line of swarmtrain on a page, in a block or between backticks."""
    lines = [span for span in spans(page) if span.startswith("swarmtrain ")]
    for block in _FENCE.findall(page.read_text(encoding="utf-8")):
        for line in block.splitlines():
            found = re.match(r"\s*(?:\$ )?(swarmtrain \S.*)", line)
            if found and "[OPTIONS]" not in line:
                lines.append(re.split(r" {2,}", found[1])[0])  # what follows in the line describes it
    for line in lines:
        yield from pipeline(line)


def pipeline(line: str) -> Iterator[list[str]]:
    """The commands of a shell line that are swarmtrain's, without its name."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;>")
    lexer.whitespace_split = True
    command: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("|&;>"):
            if command[:1] == ["swarmtrain"]:
                yield command[1:]
            command = []
        else:
            command.append(word)


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@EACH_PAGE
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in _LINK.findall(prose(page)):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@EACH_PAGE
def test_every_command_is_one_of_swarmtrains(page: Path) -> None:
    wrong = [f"{shlex.join(words)}: {mistake}" for words in commands(page) if (mistake := parse(words))]
    assert wrong == []


def parse(line: list[str]) -> str:
    """What is wrong with a command line; parameters may be missing, since a page often names a command alone."""
    words = list(line)
    command: click.Command = cli
    context = click.Context(cli, info_name="swarmtrain")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        found = command.get_command(context, name)
        if found is None:
            return f"there is no command {name}"
        command = found
        context = click.Context(command, context, name, **command.context_settings)
    if isinstance(command, click.Group) and not words:
        return ""
    try:
        command.parse_args(context, words)
    except (click.MissingParameter, click.exceptions.NoArgsIsHelpError, click.exceptions.Exit):
        return ""
    except click.UsageError as error:
        return error.format_message()
    return ""


def test_a_wrong_command_would_be_noticed() -> None:
    def found(line: str) -> list[str]:
        return [parse(words) for words in pipeline(line)]

    assert found("swarmtrain train x.py") == ["there is no command train"]
    assert found("swarmtrain lab dwon") == ["there is no command dwon"]
    assert "No such option" in found("swarmtrain logs digits --ranks 0")[0]
    assert "No such option" in found("swarmtrain run -d x.py && swarmtrain attach x --tial 3")[1]
    assert found("swarmtrain run -j 3x1 train.py --epochs 20") == [""]
    assert found("swarmtrain logs digits --regex 'loss|error' | head") == [""]
    assert found("swarmtrain exec -t digits lab-2 -- bash") == [""]


@EACH_PAGE
def test_every_flag_between_backticks_exists(page: Path) -> None:
    known = FOREIGN | set(flags(cli, click.Context(cli)))
    named = {re.split(r"[ =]", span)[0] for span in spans(page) if re.match(r"--[a-z]", span)}
    if page.name in ("trainer.md", "benchmarks.md"):  # these speak of scripts, which have flags of their own
        return
    assert named - known == set()


def flags(command: click.Command, context: click.Context) -> Iterator[str]:
    """Every flag of a command and of what is below it."""
    for parameter in command.get_params(context):
        yield from (*parameter.opts, *parameter.secondary_opts)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from flags(below, click.Context(below, context, name))


@EACH_PAGE
def test_every_source_and_test_that_is_named_exists(page: Path) -> None:
    missing = []
    for span in spans(page):
        if not _PATH.fullmatch(span):
            continue
        path, _, test = span.partition("::")
        homes = (ROOT, ROOT / "src" / "swarmtrain", page.parent)
        file = next((home / path for home in homes if (home / path).is_file()), None)
        if file is None or (test and test not in defined_in(file)):
            missing.append(span)
    assert missing == []


@cache
def defined_in(file: Path) -> set[str]:
    """The names of a file's functions."""
    found = parsed.nodes(parsed.text(file))
    return {node.name for node in found if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


def test_every_message_that_troubleshooting_quotes_is_said() -> None:
    """Three words in a row, or a whole f-string: names and numbers in a message are examples."""
    found = [node for file in SOURCE.glob("**/*.py") for node in parsed.nodes(parsed.text(file))]
    plain = "\n".join(str(node.value) for node in found if isinstance(node, ast.Constant))
    filled_in = [pattern(node) for node in found if isinstance(node, ast.JoinedStr)]

    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    tables = re.findall(r"^\| (?:swarmtrain|the cause) says .*\n((?:\|.*\n)+)", page, re.MULTILINE)
    quoted = [quote for table in tables for quote in re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)]
    assert len(quoted) > 20
    unsaid = [
        quote
        for quote in quoted
        if not any(words in plain for words in windows(quote))
        and not any(each.search(quote) for each in filled_in if len(re.findall("[a-z]", each.pattern)) >= 4)
    ]
    assert unsaid == []


def windows(quote: str) -> list[str]:
    """Every three words in a row of a message."""
    words = quote.replace(" ...", "").split()
    return [" ".join(words[start : start + 3]) for start in range(max(1, len(words) - 2))]


def pattern(node: ast.JoinedStr) -> re.Pattern[str]:
    """What an f-string may become."""
    parts = (re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".+" for part in node.values)
    return re.compile("".join(parts), re.DOTALL)


def test_the_coverage_of_the_guide_names_a_proof_or_says_later() -> None:
    """Each row of the table ends in a test, a command, a page, or "later"."""
    rows = [
        line.strip("| \n").split("|")
        for line in (ROOT / "docs" / "guide-coverage.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and not line.startswith("| The guide")
    ]
    assert len(rows) > 50
    bare = [row[0].strip() for row in rows if len(row) != 4 or not re.search(r"`|later|\]\(", row[3])]
    assert bare == []


def test_every_decision_has_a_number_of_its_own_a_date_few_lines_and_its_row_in_the_index() -> None:
    decisions = ROOT / "docs" / "decisions"
    rows = []
    for number, file in enumerate(sorted(decisions.glob("[0-9]*.md")), 1):
        title, blank, date, *rest = file.read_text(encoding="utf-8").splitlines()
        assert file.name.startswith(f"{number:04}-") and title.startswith("# ") and blank == ""
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", date) and len(rest) + 3 < 40
        assert all(f"**{part}.**" in "\n".join(rest) for part in ("Was", "Decided", "Not chosen", "Costs"))
        rows.append(f"| [{number}]({file.name}) | {title.removeprefix('# ')} | {date} |")
    index = (decisions / "README.md").read_text(encoding="utf-8")
    assert [line for line in index.splitlines() if line.startswith("| [")] == rows


@pytest.mark.torch
@EACH_PAGE
def test_what_an_example_in_python_imports_is_there(page: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S):
        with contextlib.suppress(SyntaxError):  # an excerpt
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("swarmtrain"):
                    module = importlib.import_module(node.module or "")
                    assert [each.name for each in node.names if not hasattr(module, each.name)] == []


def _defined(file: Path) -> set[str]:
    """What a module defines at its top, with the methods of its classes; imports do not count."""
    found = set()
    for node in parsed.module(parsed.text(file)).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return found


def test_decisions_are_where_the_architecture_says() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.partition("| decision | function | tests |")[2].partition("\n\n")[0]
    seen, wrong = 0, []
    for row in table.splitlines()[2:]:
        names: set[str] = set()
        for symbol in re.findall(r"`([^`]+)`", row.split("|")[2]):
            parts = symbol.split(".")
            files = [SOURCE.joinpath(*parts[:size]).with_suffix(".py") for size in range(len(parts), 0, -1)]
            file = next((each for each in files if each.is_file()), None)
            rest = symbol
            if file is not None:
                names = _defined(file)
                rest = ".".join(parts[len(file.relative_to(SOURCE).parts) :])
            seen += 1
            if rest and rest not in names:
                wrong.append(symbol)
    assert wrong == [] and seen > 20
