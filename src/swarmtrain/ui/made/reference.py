"""The reference of all commands, docs/commands.md, made of their own help. `ui.made.pages` writes it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from swarmtrain.ui.cli import SECTIONS, cli

_INTRODUCTION = """\
# Commands

Made of the commands' own help by `make docs`.

Data goes to the standard output, words to the standard error. Colour is used on a terminal only, and not where
`NO_COLOR` is set. Every command that reads takes `--json`: one document, or one object a line for logs and events.

A run is named by its job (`train`, the latest run) or by its number (`train.3`). Where a name is in several places,
`--on` says which is meant.

| exit code | means |
|---|---|
| 0 | succeeded, or detached |
| 1 | training failed |
| 2 | the request is wrong on any cluster: a flag, a job file, a name |
| 3 | the request cannot be met here: no Docker, no place on the cluster, a live run of the same name |
| 4 | a person stopped the run |
| 130, 143, 129 | interrupted with Ctrl-C, by SIGTERM, by a terminal that was closed |

`exec` ends with the exit code of its command.

| variable | means |
|---|---|
| `SWARMTRAIN_ON` | where runs go and are looked for, as `--on` |
| `SWARMTRAIN_HOME` | where runs on this machine are kept; `~/.local/share/swarmtrain` by default |
| `DOCKER_HOST`, `DOCKER_CONTEXT` | which Docker Engine is spoken to, as for docker itself |
"""


def reference() -> str:
    """The whole reference as Markdown."""
    parts = [_INTRODUCTION]
    root = click.Context(cli, info_name="swarmtrain")
    for title, entries in SECTIONS.items():
        parts.append(f"## {title}\n")
        for name in entries:
            command = cli.get_command(root, name)
            assert command is not None
            parts += _sections(command, click.Context(command, info_name=name, parent=root))
    return "\n".join(parts)


def _sections(command: click.Command, ctx: click.Context) -> Iterator[str]:
    """A command, and those below it where it is a group."""
    usage = " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)])
    options = [
        record
        for each in command.params
        if isinstance(each, click.Option) and (record := each.get_help_record(ctx))
    ]
    lines = [f"### {ctx.command_path}\n", f"```\n{usage}\n```\n", *_paragraphs(command.help or "")]
    if options:
        lines += ["| option | meaning |\n|---|---|"]
        lines += [f"| {_code(flags)} | {_cell(meaning)} |" for flags, meaning in options]
        lines += [""]
    yield "\n".join(lines)
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            below = command.get_command(ctx, name)
            assert below is not None
            yield from _sections(below, click.Context(below, info_name=name, parent=ctx))


def _paragraphs(text: str) -> Iterator[str]:
    """Help as Markdown: what click must not wrap is an example."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b\n"):
            yield f"```sh\n{inspect.cleandoc(paragraph.removeprefix(chr(8)))}\n```\n"
        else:
            yield paragraph + "\n"


def _code(flags: str) -> str:
    return f"`{_cell(flags)}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
