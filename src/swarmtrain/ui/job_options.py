"""The flags of a job, for `run` and `plan`, made of its keys (`job.spec`), and torchrun's and TorchX's beside them.

They carry the names that `swarmtrain.job.overrides_from_flags` knows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from swarmtrain.errors import RequestError
from swarmtrain.job import LoadedJob, load, overrides_from_flags
from swarmtrain.job import flags as job_flags
from swarmtrain.job.keys import Flag
from swarmtrain.job.load import DEFAULT_FILE
from swarmtrain.job.spec import KEYS
from swarmtrain.ui import torchrun

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def _options() -> Iterator[Callable[[Decorated], Decorated]]:
    """Everything that describes a job. Torchrun's own are not listed by --help: it tells of them in a sentence."""
    for flag in torchrun.FLAGS:
        yield click.option(*flag.spellings, is_flag=not flag.takes_value, hidden=True)
    yield click.option(
        "-f", "--file", type=click.Path(path_type=Path), help="The job file (swarmtrain.yaml)."
    )
    yield click.option(
        "-j", "j", metavar="NODESxWORKERS", help="Nodes and workers on each: 3x1, 2..4x1 or 2..4."
    )
    for each in KEYS.values():
        yield from (_option(flag) for flag in each.key.flags or () if flag.spelling.startswith("-"))
    yield click.option(
        "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any key of the job file."
    )
    yield click.argument(
        "words",
        metavar="[SCRIPT] [ARGS]...",
        nargs=-1,
        type=click.UNPROCESSED,
        shell_complete=lambda ctx, param, incomplete: [_file(incomplete)],
    )


def _option(flag: Flag) -> Callable[[Decorated], Decorated]:
    return click.option(
        *filter(None, (flag.short, flag.spelling)),
        is_flag=flag.switch,
        multiple=flag.many,
        metavar=None if flag.switch else flag.metavar or None,
        help=flag.help,
        hidden=flag.hidden,
    )


def job_options(function: Decorated) -> Decorated:
    """Everything that describes a job, for `run` and `plan`."""
    for option in reversed([*_options()]):
        function = option(function)
    return function


def words_of(flags: Mapping[str, Any]) -> tuple[str, ...]:
    """The words of a command line with these flags of a job.

    Values of variables are left out, as they often hold keys: ``-e K`` takes the value from where it is typed.
    """
    words: list[str] = []
    for option in _parameters():
        given = flags.get(option.name or "")
        if not given or not isinstance(option, click.Option):
            continue
        flag = option.opts[-1]
        for value in given if option.multiple else [given]:
            if option.is_flag:
                words.append(flag)
            elif option.name == "env":
                words += [flag, value.partition("=")[0]]
            elif option.name == "settings" and value.startswith("env"):
                name = value.partition("=")[0].removeprefix("env").removeprefix(".")
                words += ["--env", name] if name else []
            else:
                words += [flag, str(value)]
    theirs = flags["script_args"]
    return (*words, *flags["words"], *(() if theirs is None else ("--", *theirs)))


def _parameters() -> list[click.Parameter]:
    command = click.command()(job_options(lambda: None))
    return command.params


class JobCommand(click.Command):
    """A command line that ends in a script and its arguments.

    As with Python and torchrun, what follows a script, a module or a program belongs to it, every ``--`` included.
    Where a job file says what runs, our flags go on behind it, and what follows the first ``--`` are arguments.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Find where the script's part begins, and let click read ours."""
        ctx.allow_interspersed_args = False
        given, _, _ = self.make_parser(ctx).parse_args(list(args))
        words: tuple[str, ...] = given["words"] if isinstance(given.get("words"), tuple) else ()
        ours = args[: len(args) - len(words)]
        theirs: tuple[str, ...] | None = None
        if ours[-1:] == ["--"]:
            ours, words, theirs = ours[:-1], (), words
        elif "--" in words and _is_job_file(words[0], given):
            before, theirs = args[: args.index("--", len(ours))], words[words.index("--") + 1 :]
            ctx.allow_interspersed_args = True
            ours, words = [*ours, *before[len(ours) + 1 :]], words[:1]
        rest = super().parse_args(ctx, ours)
        if extra := ctx.params["words"]:
            raise click.UsageError(
                f"{extra[0]!r} stands before the --: arguments of the script go after it", ctx
            )
        ctx.params |= {"words": words, "script_args": theirs}
        return rest

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Our options before the script; behind it whatever the script takes, of which we know nothing."""
        if ctx.params.get("words") or ctx.params.get("script_args") is not None:
            return [_file(incomplete)]
        return super().shell_complete(ctx, incomplete)


def _file(incomplete: str) -> CompletionItem:
    """The shell's own completion of files."""
    return CompletionItem(incomplete, type="file")


def _is_job_file(word: str, flags: Mapping[str, Any]) -> bool:
    """Whether the first word of a command line is a job file, not what is to be run."""
    return word.endswith((".yaml", ".yml")) and not (flags.get("no_python") or flags.get("module"))


def names_nothing(flags: Mapping[str, Any]) -> bool:
    """Whether a command line leaves open what to run."""
    told = (flags["file"], flags["words"], flags["module"], flags["script_args"], flags["settings"])
    return not any(told) and not Path(DEFAULT_FILE).exists()


def as_before(command: click.Command, words: Sequence[str], flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags of an earlier command line, `words`, with those of this one in their place where they were given.

    One in another spelling has its place, too (``--nodes`` after ``-j``); variables and settings are added.
    """
    before = command.make_context("run", list(words)).params
    given = {name for name, value in flags.items() if value}
    before |= job_flags.without(before, given)
    added = {name: before[name] + tuple(flags[name]) for name in ("env", "settings")}
    return {name: value or before[name] for name, value in flags.items()} | added


def load_job(**asked: Any) -> LoadedJob:
    """The job that a command line asks for, by the parameters of `job_options`.

    Raises:
        RequestError: with everything that is wrong with it.
    """
    # an empty text was given: by a script of somebody's, whose own variable is not set
    flags = {name: None if value in ((), False) else value for name, value in asked.items()}
    file, no_python, module = flags.pop("file"), flags.pop("no_python"), flags.pop("module")
    words, args = flags.pop("words") or (), flags.pop("script_args")
    ignored = torchrun.ignored([name for name in torchrun.NAMES if flags.get(name)])
    flags = {name: value for name, value in flags.items() if name not in torchrun.NAMES}
    if not words and (no_python or module or not (file or flags["settings"] or Path(DEFAULT_FILE).exists())):
        words, args = args or (), None  # as after any script: the -- only ends our flags
    first, args = words[:1], words[1:] if args is None else args
    if first and _is_job_file(first[0], asked):
        if file is not None:
            raise RequestError(f"two job files: {file} and {first[0]}", "give one, or a script")
        file, first = Path(first[0]), ()
    if no_python:
        if not first:
            raise RequestError("--no-python needs a program", "swarmtrain run --no-python ./run.sh")
        flags |= {"command": (*first, *args)}
    elif module:
        if not first:
            raise RequestError("--module needs a module's name", "swarmtrain run -m package.train")
        flags |= {"module": first[0], "args": args}
    else:
        flags |= {"args": args, "script": first[0] if first else None}
    loaded = load(file, overrides_from_flags(**flags))
    return dataclasses.replace(loaded, words=words_of(asked), notices=(*loaded.notices, *ignored))
