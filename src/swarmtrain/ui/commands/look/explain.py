"""The command that says what is wrong: explain."""

from __future__ import annotations

import shutil
import sys
import textwrap

import click
from click.shell_completion import CompletionItem

from swarmtrain.control.views import explanation
from swarmtrain.ui import options, terminal

_WIDEST = 100  # letters of a line that is easy to read
_LABELS = ("cause:", "try:", "not seen:")


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of runs, and the kinds of faults."""
    from swarmtrain.diagnosis.table import BY_CODE

    runs = options.complete_run(ctx, param, incomplete)
    return [*runs, *(CompletionItem(code) for code in BY_CODE if code.startswith(incomplete))]


@click.command(short_help="Say what is wrong with a run, why, and what to do.")
@options.as_json
@options.on
@click.argument("name", metavar="NAME|CODE", shell_complete=_complete)
def explain(name: str, on: str | None, as_json: bool) -> None:
    """Say what is wrong with a run, why, and what to do.

    The verdict says who and what, and below it stands what it rests on. Then come the cause, with how sure it is, what
    to try, with commands to copy, and what could not be seen. Of a run that is well it says what was looked at.

    With the CODE of a kind in place of a run's name, say more of that kind; docs/diagnosis.md lists all. A run whose
    job is called like a kind is reached by its number.

    \b
      swarmtrain explain train
      swarmtrain explain oom-gpu
    """
    from swarmtrain.diagnosis.table import BY_CODE

    if (rule := BY_CODE.get(name)) is not None:
        if as_json:
            terminal.document({"code": rule.code, "title": rule.title, "about": rule.about})
        else:
            terminal.lines([f"{rule.code}: {rule.title}", "", *textwrap.wrap(rule.about, _width())])
        return
    found = options.client(on).get(name).explain()
    if as_json:
        terminal.document(found.dump())
        return
    first, *rest = explanation.render(found, _width())
    tone = terminal.RED if explanation.is_trouble(found) else terminal.GREEN
    terminal.lines([terminal.paint(first, tone, sys.stdout), *map(_labelled, rest)])


def _width() -> int:
    """Of a window, within reason; a pipe has 80 columns."""
    if not terminal.is_terminal(sys.stdout):
        return explanation.WIDTH
    return max(40, min(_WIDEST, shutil.get_terminal_size().columns))


def _labelled(line: str) -> str:
    for label in _LABELS:
        if line.startswith(label):
            return terminal.paint(label, terminal.BOLD, sys.stdout) + line[len(label) :]
    return line
