"""The options that several commands share: the launcher, a run's name, JSON, and every flag of a job.

The flags of a job carry the names that `swarmtrain.job.overrides_from_flags` knows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from swarmtrain.errors import RequestError, SwarmtrainError
from swarmtrain.ui import terminal, torchrun

if TYPE_CHECKING:
    from swarmtrain.control.client import Client
    from swarmtrain.job import LoadedJob

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

LAUNCHERS = ("local", "docker", "swarm")


def complete_run(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of runs, for a shell; none when the cluster does not say."""
    from swarmtrain.control.place import Places

    try:
        runs = Places(ctx.params.get("on")).runs()
    except SwarmtrainError:
        return []
    names = dict.fromkeys(name for run in reversed(runs) for name in (run.job, run.id))
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def client(on: str | None) -> Client:
    """The client of a command, which warns on the standard error."""
    from swarmtrain.control.client import Client

    return Client(on, warn=terminal.warn, say=terminal.say)


on = click.option(
    "--on",
    type=click.Choice(LAUNCHERS),
    envvar="SWARMTRAIN_ON",
    help="Where: processes here, containers on one engine, or a Swarm; the Swarm that docker speaks to by default.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
run_name = click.argument("name", shell_complete=complete_run)
run_names = click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_run)


_JOB_OPTIONS = (
    click.option("-f", "--file", type=click.Path(path_type=Path), help="The job file (swarmtrain.yaml)."),
    click.option("--name", help="The job's name; made of the script's by default."),
    click.option("-j", "j", metavar="NODESxWORKERS", help="Nodes and workers on each: 3x1, 2..4x1 or 2..4."),
    click.option("--nodes", help="How many (3), from how many to how many (2..4), or which (a,b,c)."),
    click.option("--nnodes", metavar="N|MIN:MAX", help="As torchrun's."),
    click.option("--workers-per-node", metavar="N|auto|cpu", help="Training processes on each node."),
    click.option("--nproc-per-node", metavar="N|auto|gpu|cpu", help="As torchrun's."),
    click.option("-m", "--module", is_flag=True, help="SCRIPT is a module, run as `python -m` does."),
    click.option("--no-python", is_flag=True, help="SCRIPT is any program, executed as it is."),
    click.option("--image", help="The image that the nodes run, with Python and torch in it."),
    click.option("--python", metavar="PATH", help="The Python interpreter in the image."),
    click.option("-e", "--env", multiple=True, metavar="K[=V]", help="A variable of the workers."),
    click.option("--backend", metavar="auto|nccl|gloo", help="The backend of torch.distributed."),
    click.option("--timeout", metavar="DURATION", help="The process group's timeout."),
    click.option(
        "--network", metavar="NAME", help="overlay, encrypted, host, or existing:NAME for one of yours."
    ),
    click.option("--gpus", metavar="N", help="GPUs to reserve on each node; 0 hides them all."),
    click.option("--gpu-kind", metavar="NAME", help="What the nodes call a GPU."),
    click.option("--cpus", metavar="N", help="Processors to reserve on each node."),
    click.option("--memory", metavar="SIZE", help="Memory to reserve on each node."),
    click.option("--shm-size", metavar="SIZE", help="The most that /dev/shm may hold."),
    click.option("-v", "--volume", multiple=True, metavar="SOURCE:TARGET", help="A mount on each node."),
    click.option("--files", multiple=True, metavar="PATTERN", help="Files to send to the nodes."),
    click.option("--no-files", is_flag=True, help="Send none: the code is in the image."),
    click.option("--constraint", multiple=True, metavar="EXPRESSION", help="A placement constraint."),
    click.option("--coordinator", metavar="NODE", help="The manager node that keeps the run's records."),
    click.option("--start", metavar="warm|cold", help="Fork workers from a warm Python, or start anew."),
    click.option("--join-deadline", metavar="DURATION", help="How long to wait for enough nodes."),
    click.option("--linger", metavar="DURATION", help="How long the coordinator stays up after the end."),
    click.option("--restart", metavar="auto|never", help="Whether the run goes on after a failure."),
    click.option("--max-restarts", metavar="N", help="Failures within an hour that are healed; 0: none."),
    click.option(
        "--restart-window", metavar="DURATION", help="For how long a failure counts, if not an hour."
    ),
    click.option("--node-timeout", metavar="DURATION", help="How long a run that has begun waits for nodes."),
    click.option("--hang-timeout", metavar="auto|off|DURATION", help="How long no step may be made."),
    click.option("--stop-grace", metavar="DURATION", help="How long workers may take to end."),
    click.option("--memlock", is_flag=True, help="Lift the limit on locked memory, for RDMA."),
    click.option("--debug", is_flag=True, help="More diagnostics from torch and NCCL, at some cost."),
    click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any key of the job file."),
    click.argument(
        "words",
        metavar="[SCRIPT] [ARGS]...",
        nargs=-1,
        type=click.UNPROCESSED,
        shell_complete=lambda ctx, param, incomplete: [_file(incomplete)],
    ),
)

# torchrun's own, which are not listed by --help: it says what becomes of them in a sentence.
_TORCHRUN_OPTIONS = (
    click.option("--rdzv-conf", metavar="KEY=VALUE,...", hidden=True),
    click.option("--shutdown-timeout", metavar="SECONDS", hidden=True),
    *(click.option(*flag.spellings, is_flag=not flag.takes_value, hidden=True) for flag in torchrun.FLAGS),
)


def job_options(function: Decorated) -> Decorated:
    """Everything that describes a job, for `run` and `plan`."""
    for option in reversed((*_TORCHRUN_OPTIONS, *_JOB_OPTIONS)):
        function = option(function)
    return function


def words_of(flags: Mapping[str, Any]) -> tuple[str, ...]:
    """The words of a command line with these flags of a job.

    Values of variables are left out, as they often hold keys: ``-e K`` takes the value from where it is typed.
    """
    words: list[str] = []
    for option in _job_parameters():
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


def _job_parameters() -> list[click.Parameter]:
    command = click.command()(job_options(lambda: None))
    return command.params


def seconds(text: str) -> float:
    """A duration in a flag."""
    from swarmtrain.job.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise RequestError(f"{text!r} {error}") from error


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
    from swarmtrain.job.load import DEFAULT_FILE

    told = (flags["file"], flags["words"], flags["module"], flags["script_args"], flags["settings"])
    return not any(told) and not Path(DEFAULT_FILE).exists()


def as_before(command: click.Command, words: Sequence[str], flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags of an earlier command line, `words`, with those of this one in their place where they were given.

    One in another spelling has its place, too (``--nodes`` after ``-j``); variables and settings are added.
    """
    from swarmtrain.job import flags as job_flags

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
    from swarmtrain.job import load, overrides_from_flags
    from swarmtrain.job.load import DEFAULT_FILE

    flags = {name: value or None for name, value in asked.items()}
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
