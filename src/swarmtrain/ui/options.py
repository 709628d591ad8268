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
from swarmtrain.ui import terminal

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

    return Client(on, warn=terminal.warn)


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
    click.option("-j", "j", metavar="NODESxWORKERS", help="Nodes and workers on each: 3x1, or 2:4x1."),
    click.option("--nodes", help="How many (3), from how many to how many (2..4), or which (a,b,c)."),
    click.option("--nnodes", metavar="N|MIN:MAX", help="As torchrun's."),
    click.option("--workers-per-node", metavar="N|auto", help="Training processes on each node."),
    click.option("--nproc-per-node", metavar="N|auto|gpu", help="As torchrun's."),
    click.option("-m", "--module", help="Run a module, as `python -m` does."),
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
    click.argument("words", metavar="[SCRIPT] [ARGS]...", nargs=-1, type=click.UNPROCESSED),
)


def job_options(function: Decorated) -> Decorated:
    """Everything that describes a job, for `run` and `plan`."""
    for option in reversed(_JOB_OPTIONS):
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

    As with torchrun, what follows the script belongs to it. With a ``--`` only what follows that does, so that our
    own flags may stand after the script.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Split at the ``--``, and let click read our part."""
        ours, separator, theirs = _split(args)
        ctx.allow_interspersed_args = separator
        rest = super().parse_args(ctx, ours)
        ctx.params["script_args"] = theirs if separator else None
        if separator and len(ctx.params["words"]) > 1:
            extra = ctx.params["words"][1]
            raise click.UsageError(
                f"{extra!r} stands before the --: arguments of the script go after it", ctx
            )
        return rest


def _split(args: list[str]) -> tuple[list[str], bool, tuple[str, ...]]:
    if "--" not in args:
        return args, False, ()
    index = args.index("--")
    return args[:index], True, tuple(args[index + 1 :])


def names_nothing(flags: Mapping[str, Any]) -> bool:
    """Whether a command line leaves open what to run."""
    from swarmtrain.job.load import DEFAULT_FILE

    told = (flags["file"], flags["words"], flags["module"], flags["script_args"], flags["settings"])
    return not any(told) and not Path(DEFAULT_FILE).exists()


def as_before(command: click.Command, words: Sequence[str], flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags of an earlier command line, `words`, with those of this one in their place where they were given."""
    before = command.make_context("run", list(words)).params
    return {name: given or before[name] for name, given in flags.items()}


def load_job(**asked: Any) -> LoadedJob:
    """The job that a command line asks for, by the parameters of `job_options`.

    Raises:
        RequestError: with everything that is wrong with it.
    """
    from swarmtrain.job import load, overrides_from_flags

    flags = {name: value or None for name, value in asked.items()}
    file, no_python = flags.pop("file"), flags.pop("no_python")
    words, script_args = asked["words"], asked["script_args"]
    del flags["words"], flags["script_args"]
    if script_args is None:  # torchrun's way: the first word is the script, unless a module was named
        first, args = ((), words) if flags["module"] else (words[:1], words[1:])
    else:
        first, args = words, script_args
    if first and first[0].endswith((".yaml", ".yml")) and not no_python:
        if file is not None:
            raise RequestError(f"two job files: {file} and {first[0]}", "give one, or a script")
        file, first = Path(first[0]), ()
    if no_python:
        if not (first or args):
            raise RequestError("--no-python needs a program", "swarmtrain run --no-python ./run.sh")
        flags |= {"command": (*first, *args)}
    else:
        flags |= {"args": args, "script": first[0] if first else None}
    return dataclasses.replace(load(file, overrides_from_flags(**flags)), words=words_of(asked))
