"""The commands that act on a run: stop, rm, exec."""

from __future__ import annotations

import re
import sys

import click

from swarmtrain.control.exec_session import Streams
from swarmtrain.ui import options, terminal
from swarmtrain.ui.errors import Misused


@click.command(short_help="Stop a run; its files are kept.")
@options.on
@options.run_names
def stop(names: tuple[str, ...], on: str | None) -> None:
    """Stop runs and wait until they have ended, with their snapshots and logs whole. Their files are kept."""
    client = options.client(on)
    for handle in [client.get(name) for name in names]:
        if not handle.is_live():
            terminal.words(f"{handle} has ended already: {handle.status().state}")
            continue
        terminal.say(f"stopping {handle}")
        handle.stop()
        terminal.words(f"{handle} has ended; its files are kept")
        if line := handle.run.origin and handle.run.origin.resume_line(handle.run.on):
            terminal.words(f"to go on from there:\n  {line}")


@click.command(short_help="Remove a run with its files on every node.")
@click.option("-a", "--all", "every", is_flag=True, help="Every run of the job, in one place.")
@click.option("--force", is_flag=True, help="Also a live run: it is stopped first.")
@options.on
@options.run_names
def rm(names: tuple[str, ...], on: str | None, every: bool, force: bool) -> None:
    """Remove runs: their processes, their logs, snapshots and working directories on every node.

    Where a job has runs in several places, --on says which are meant.
    """
    client = options.client(on)
    handles = [
        handle
        for name in names
        for handle in (client.all_of(name) if every else [client.get(name, in_one_place=True)])
    ]
    for handle in {handle.id: handle for handle in handles}.values():
        handle.remove(force=force)
        terminal.words(f"removed {handle}")


@click.command(
    "exec",
    short_help="Run a command on a node of a run.",
    context_settings={"allow_interspersed_args": False},
)
@click.option("-t", "--tty", is_flag=True, help="Give the command a terminal.")
@options.on
@options.run_name
@click.argument("where", metavar="NODE|RANK")
@click.argument("argv", metavar="-- COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def exec_(ctx: click.Context, name: str, on: str | None, where: str, argv: tuple[str, ...], tty: bool) -> int:
    """Run a command on a node of a run, or beside one of its ranks.

    \b
      swarmtrain exec train 0 -- nvidia-smi
      swarmtrain exec -t train lab-2 -- bash
    """
    command = argv[1:] if argv[0] == "--" else argv
    if not command:
        raise Misused(
            "a command is missing", "write it after the --: swarmtrain exec NAME 0 -- nvidia-smi", ctx
        )
    if tty and not terminal.is_terminal(sys.stdin):
        raise Misused("the input is no terminal", "leave out -t", ctx)
    streams, handle = Streams.standard(tty=tty), options.client(on).get(name)
    if re.fullmatch(r"\d{1,6}", where):
        return handle.exec(command, rank=int(where), streams=streams)
    return handle.exec(command, node=where, streams=streams)
