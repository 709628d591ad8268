"""The command that shows what a run would deploy: plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from swarmtrain.control.client import Client
from swarmtrain.ui import job_options, options, sending, terminal

_MOST = 20  # files that are listed beside a stack

_PLAN_HELP = """\
Print the stack that `run` would deploy, and change nothing.

\b
  swarmtrain plan --image IMAGE -j 3x1 train.py > stack.yaml
  swarmtrain plan --image IMAGE --plain -o out train.py  # plain torchrun, for `docker stack deploy` without us

The files that would be sent, the largest of many, are listed on the standard error, with what is left out and why.

It asks the manager of the Swarm, since places and names are its nodes', and is refused without one.
"""


@click.command(
    cls=job_options.JobCommand,
    help=_PLAN_HELP,
    short_help="Print what a run would deploy, and change nothing.",
    context_settings={"token_normalize_func": lambda token: token.replace("_", "-")},
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="A directory for the stack and its files."
)
@click.option("--plain", is_flag=True, help="Stock torchrun in one service a node, with nothing of ours.")
@click.option(
    "--on",
    type=click.Choice(options.LAUNCHERS),
    envvar="SWARMTRAIN_ON",
    help="As for run; only swarm has a stack to print.",
)
@job_options.job_options
def plan(on: str | None, output: Path | None, plain: bool, **flags: Any) -> None:
    """See _PLAN_HELP."""
    from swarmtrain.swarm.stack import DEPLOY_FLAGS

    loaded = job_options.load_job(**flags)
    planned = Client(on or "swarm").plan(loaded, plain=plain)
    sent = planned.sent
    for notice in (*loaded.notices, *(each for each in planned.notices if each not in sent.notices)):
        terminal.say(notice)
    for text in (
        *sending.files(sent, most=_MOST),
        *sending.left_out(sent),
        *sent.warnings,
        sending.total(sent, loaded),
    ):
        terminal.words(text)
    if output is None:
        terminal.data(planned.text.encode())
        return
    path = planned.write(output)
    flags_of_docker = " ".join(DEPLOY_FLAGS)
    terminal.words(
        f"wrote {path}; deploy it with: docker stack deploy {flags_of_docker} -c {path} {planned.name}"
    )
