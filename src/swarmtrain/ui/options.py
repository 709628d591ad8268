"""The options that several commands share: the launcher, a run's name, JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from swarmtrain.errors import RequestError, SwarmtrainError
from swarmtrain.ui import terminal

if TYPE_CHECKING:
    from swarmtrain.control.client import Client

LAUNCHERS = ("local", "docker", "swarm")


def complete_run(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of runs, for a shell; none when the cluster does not say."""
    from swarmtrain.control.places import Places

    try:
        runs = Places(ctx.params.get("on")).runs()
    except SwarmtrainError:
        return []
    names = dict.fromkeys(name for run in reversed(runs) for name in (run.job, run.id))
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def client(on: str | None, *, silent: bool = False) -> Client:
    """The client of a command, which warns on the standard error; silent for a shell that completes words."""
    from swarmtrain.control.client import Client

    if silent:
        return Client(on)
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


def seconds(text: str) -> float:
    """A duration in a flag."""
    from swarmtrain.job.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise RequestError(f"{text!r} {error}") from error
