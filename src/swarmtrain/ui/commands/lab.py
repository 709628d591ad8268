"""``swarmtrain lab``: a pretend cluster on this machine. Thin: all of it is done by `swarmtrain.lab`."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import click

from swarmtrain.ui import errors
from swarmtrain.wire.plural import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from swarmtrain.lab.lab import Lab
    from swarmtrain.lab.node import LabNode, NodeStatus


@click.group(cls=errors.Group)
@click.option("--name", envvar="SWARMTRAIN_LAB", help="Which lab; by default the one of this checkout.")
@click.pass_context
def lab(context: click.Context, name: str | None) -> None:
    """A real Swarm of several engines on this machine.

    To try things on: each node is a container with its own Docker Engine. Pause it, cut its power, unplug it.
    """
    context.obj = name


def _lab(context: click.Context) -> Lab:
    from swarmtrain.lab.lab import Lab

    return Lab(context.obj)


def _nodes(context: click.Context, names: Sequence[str]) -> list[LabNode]:
    """The nodes that a person named, each of which must exist."""
    from swarmtrain.errors import RequestError

    the_lab = _lab(context)
    there = {node.index: node for node in the_lab.nodes()}
    wanted = [the_lab.node(name) for name in names]
    for node in wanted:
        if node.index not in there:
            known = ", ".join(each.name for each in there.values())
            hint = f"its nodes: {known}" if known else "bring it up: swarmtrain lab up"
            raise RequestError(f"the lab has no node {node.name}", hint)
    return wanted


@lab.command()
@click.option("-n", "--nodes", default=3, show_default=True, help="How many nodes; the first is the manager.")
@click.option("--cpus", type=float, help="CPU time of each node [default: equal shares of this machine's].")
@click.option("--gpus", default=2, show_default=True, help="Pretend GPUs that each node declares.")
@click.option(
    "--engine",
    envvar="SWARMTRAIN_LAB_ENGINE",
    help="The Debian release whose Docker Engine the nodes have: bookworm (20.10), trixie (26.1) or sid (28.5); "
    "or one for each node, as in trixie,sid,bookworm [default: what they have, trixie for a new lab].",
)
@click.pass_context
def up(context: click.Context, nodes: int, cpus: float | None, gpus: int, engine: str | None) -> None:
    """Bring the lab up, or repair what is missing of it."""
    from swarmtrain.lab.releases import parse

    the_lab = _lab(context)
    the_lab.up(nodes, cpus, gpus, parse(engine) if engine else ())
    what = f"{counted(nodes, 'node')}, with {counted(gpus, 'pretend GPU')} each"
    click.echo(f"The lab is up: {what}. To use it:", err=True)
    click.echo(f"  {_way_there(the_lab)}", err=True)
    if image := the_lab.training_image():
        click.echo(f"  swarmtrain run --image {image} -j {nodes}x1 train.py", err=True)
    else:
        click.echo(
            "An image with torch is needed too: swarmtrain lab load brings one of this machine's;", err=True
        )
        click.echo('to build the demo\'s: swarmtrain lab load "$(swarmtrain lab build)"', err=True)


@lab.command()
@click.pass_context
def down(context: click.Context) -> None:
    """Remove the lab, with all that its nodes hold."""
    the_lab = _lab(context)
    names = [node.name for node in the_lab.nodes()]
    the_lab.down()
    if names:
        what = "their disks, their network and the docker context"
        click.echo(f"Removed {', '.join(names)}, with {what} {the_lab.context}. Images stay.", err=True)
    else:
        click.echo("There was no lab here; nothing of one is left.", err=True)


@lab.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
@click.pass_context
def status(context: click.Context, as_json: bool) -> None:
    """Show the nodes: their machines, their place in the Swarm, their links."""
    rows = _lab(context).status()
    if as_json:
        click.echo(json.dumps([row.as_dict() for row in rows], indent=2))
    elif not rows:
        click.echo("There is no lab here. Bring it up: swarmtrain lab up", err=True)
    else:
        _table(rows)


def _table(rows: Sequence[NodeStatus]) -> None:
    layout = "{:<8} {:<8} {:<8} {:<8} {:<9} {:<16} {:<10} {}"
    click.echo(layout.format("NODE", "ROLE", "MACHINE", "SWARM", "ENGINE", "ADDRESS", "LINK", "PRETEND GPUS"))
    for row in rows:
        link = "unplugged" if not row.address else f"{row.rate / 1e6:g}mbit" if row.rate else "free"
        address = row.address or "-"
        click.echo(
            layout.format(row.name, row.role, row.machine, row.swarm, row.engine, address, link, row.gpus)
        )


@lab.command()
@click.pass_context
def build(context: click.Context) -> None:
    """Build the demo's training image with torch for the CPU, and print its tag."""
    from swarmtrain.lab.images import ensure_torch_image

    the_lab = _lab(context)
    click.echo(ensure_torch_image(the_lab.engine, lambda words: click.echo(f"lab: {words}", err=True)))


@lab.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.pass_context
def load(context: click.Context, images: tuple[str, ...]) -> None:
    """Bring images of this machine's Docker Engine to every node."""
    _lab(context).load(*images)


@lab.command(name="exec", context_settings={"ignore_unknown_options": True})
@click.argument("node")
@click.argument("command", nargs=-1, required=True, metavar="-- COMMAND...")
@click.pass_context
def exec_(context: click.Context, node: str, command: tuple[str, ...]) -> None:
    """Run a command on a node, as on its console."""
    (target,) = _nodes(context, [node])
    flags = ["--interactive", "--tty"] if sys.stdin.isatty() and sys.stdout.isatty() else ["--interactive"]
    sys.exit(_lab(context).engine.popen("exec", *flags, target.container, *command).wait())


@lab.command()
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
@click.option("--rate", help="What the node can send, as in 200mbit or 1gbit.")
@click.option("--off", is_flag=True, help="Lift the limit.")
@click.pass_context
def limit(context: click.Context, nodes: tuple[str, ...], rate: str | None, off: bool) -> None:
    """Limit a node's link, or lift the limit."""
    if off == bool(rate):
        raise click.UsageError("give either --rate or --off")
    for node in _nodes(context, nodes):
        node.limit(rate)


@lab.command()
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
@click.pass_context
def pause(context: click.Context, nodes: tuple[str, ...]) -> None:
    """Freeze everything on a node."""
    for node in _nodes(context, nodes):
        node.pause()


@lab.command()
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
@click.pass_context
def unpause(context: click.Context, nodes: tuple[str, ...]) -> None:
    """Let a frozen node go on."""
    for node in _nodes(context, nodes):
        node.unpause()


@lab.command()
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
@click.pass_context
def kill(context: click.Context, nodes: tuple[str, ...]) -> None:
    """Cut a node's power."""
    for node in _nodes(context, nodes):
        node.kill()


@lab.command()
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
@click.pass_context
def start(context: click.Context, nodes: tuple[str, ...]) -> None:
    """Power a node on again, and wait until the Swarm has it back."""
    for node in _nodes(context, nodes):
        node.start()


@lab.command()
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
@click.pass_context
def unplug(context: click.Context, nodes: tuple[str, ...]) -> None:
    """Pull a node's network cable."""
    for node in _nodes(context, nodes):
        node.unplug()


@lab.command()
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
@click.pass_context
def plug(context: click.Context, nodes: tuple[str, ...]) -> None:
    """Put a node's network cable back, at the same address."""
    for node in _nodes(context, nodes):
        node.plug()


@lab.command()
@click.option("--host", is_flag=True, help="As DOCKER_HOST, for tools that know no contexts.")
@click.pass_context
def context(context: click.Context, host: bool) -> None:
    """Print what makes docker and swarmtrain speak to the lab.

    \b
      eval "$(swarmtrain lab context)"
    """
    the_lab = _lab(context)
    click.echo(f"export DOCKER_HOST={the_lab.host}" if host else _way_there(the_lab))


def _way_there(the_lab: Lab) -> str:
    """The shell's words that point docker at the lab; DOCKER_HOST would win over a context."""
    first = "unset DOCKER_HOST; " if os.environ.get("DOCKER_HOST") else ""
    return f"{first}export DOCKER_CONTEXT={the_lab.context}"
