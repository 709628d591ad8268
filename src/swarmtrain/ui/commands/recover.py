"""The command that moves a run's coordinator: recover."""

from __future__ import annotations

import click

from swarmtrain.control.client import Client
from swarmtrain.ui import options, terminal


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
