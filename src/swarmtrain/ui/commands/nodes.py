"""The commands that change on which nodes a run is: resize, recover."""

from __future__ import annotations

import click

from swarmtrain.control.client import Client
from swarmtrain.control.resize import training
from swarmtrain.ui import options, terminal
from swarmtrain.wire.plural import counted


@click.command(short_help="Move a run's coordinator off a machine that is gone.")
@click.option("--on", "node", required=True, metavar="NODE", help="The manager to go on with.")
@options.run_name
def recover(name: str, node: str) -> None:
    """Start the run's coordinator on another manager, since the machine it was on is gone for good.

    Nothing else needs this: a coordinator that dies is started again where it was, and one whose machine comes back
    goes on by itself. It is refused while the old one may still live. The journal is put together from the copies that
    the nodes keep; what the lost machine alone had of the ranks' output is lost with it.

    \b
      swarmtrain recover train --on lab-2
    """
    handle = Client("swarm").get(name)
    terminal.say(f"moving the coordinator of {handle.id} to {node}")
    status = handle.recover(node)
    terminal.words(f"{handle.id} is {status.state}; its coordinator is on {status.coordinator}")


@click.command(short_help="Go on with more nodes, or with fewer.")
@click.option("--no-wait", is_flag=True, help="Ask for it and go; nodes that are left over stay as spares.")
@options.on
@options.run_name
@click.argument("nodes", type=click.IntRange(min=1))
def resize(name: str, nodes: int, on: str | None, no_wait: bool) -> None:
    """Go on with NODES nodes, within the range that the job gives (nodes: 2..4), and wait until they train.

    Every rank saves its work before the group changes, so that nothing is lost. Ctrl-C only ends the waiting.

    \b
      swarmtrain resize train 4
    """
    handle = options.client(on).get(name)
    status = handle.resize(nodes, wait=not no_wait, tell=terminal.say)
    if no_wait:
        terminal.words(
            f"{handle.id} is to go on with {counted(nodes, 'node')}; swarmtrain events {handle.id}"
        )
        return
    found = training(status)
    names = f": {', '.join(sorted(found))}" if found else ""
    terminal.words(f"{handle.id} trains on {counted(len(found), 'node')}{names}")
