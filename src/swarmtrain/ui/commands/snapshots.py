"""The commands about a run's snapshots: snapshots ls, verify, pull, rm."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click

from swarmtrain.control.snapshots.retention import Wanted
from swarmtrain.control.snapshots.snapshots import Found, Progress
from swarmtrain.control.views import format, view
from swarmtrain.errors import ClusterError
from swarmtrain.ui import options, terminal
from swarmtrain.ui.errors import Group, Misused
from swarmtrain.wire.plural import counted


@click.group(cls=Group, short_help="List, check, fetch and remove the snapshots of a run.")
def snapshots() -> None:
    """List, check, fetch and remove the snapshots on a run's nodes, also after the run has ended.

    They are those of scripts that use swarmtrain.trainer. Each node keeps its own; --resume goes on from the newest.
    """


@snapshots.command()
@options.as_json
@options.on
@options.run_name
def ls(name: str, on: str | None, as_json: bool) -> None:
    """List every copy on every node, the newest first. Checksums are not added up: see verify."""
    found = options.client(on).get(name).snapshots.listing()
    _show(found, as_json=as_json)


@snapshots.command()
@options.as_json
@options.on
@options.run_name
def verify(name: str, on: str | None, as_json: bool) -> int:
    """Add up the checksum of every copy, on its node. Exit code 1 if any is damaged, 3 if a node does not answer."""
    found = options.client(on).get(name).snapshots.verify()
    _show(found, as_json=as_json)
    if not as_json:
        whole = len(found.snapshots) - len(found.damaged)
        terminal.words(f"{whole} whole, {len(found.damaged)} damaged")
    return 1 if found.damaged else ClusterError.exit_code if found.silent else 0


@snapshots.command()
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="A directory; the current one by default."
)
@options.on
@options.run_name
@click.argument("step", type=click.IntRange(min=0), required=False)
def pull(name: str, step: int | None, on: str | None, output: Path | None) -> None:
    """Bring the newest complete snapshot here, or that of STEP, with its manifest. Its checksum is tried on arrival.

    A script finds it there with Options(snapshots=DIRECTORY).

    \b
      swarmtrain snapshots pull train -o snapshots
    """
    with _bar() as progress:
        pulled = options.client(on).get(name).snapshots.pull(step, output, progress)
    for text in pulled.passed_over:
        terminal.warn(f"passed over {text}")
    what = pulled.snapshot
    terminal.words(
        f"{format.name(pulled.path)} of step {what.step}, from {format.name(what.node)} ({format.size(what.bytes)})"
    )


@snapshots.command()
@click.option("--older-than", metavar="DURATION", help="Those that were taken longer ago than this.")
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="All but the newest N complete ones.")
@click.option("--force", is_flag=True, help="Also the newest complete one of a run that has ended.")
@options.on
@options.run_name
@click.argument("steps", type=click.IntRange(min=0), metavar="[STEP]...", nargs=-1)
@click.pass_context
def rm(
    ctx: click.Context,
    name: str,
    steps: tuple[int, ...],
    on: str | None,
    older_than: str | None,
    keep: int | None,
    force: bool,
) -> int:
    """Remove snapshots on every node: those of these STEPs, or by age or number.

    The newest complete one stays, and while the run is live the newest two.

    \b
      swarmtrain snapshots rm train --keep 1
    """
    if not steps and older_than is None and keep is None:
        raise Misused("say what is to go", "give steps, --older-than or --keep", ctx)
    age = None if older_than is None else options.seconds(older_than)
    gone, keys = (
        options.client(on)
        .get(name, in_one_place=True)
        .snapshots.remove(Wanted(steps, age, keep), force=force)
    )
    _silence(gone)
    if not keys:
        terminal.words("there is nothing to remove")
    else:
        listed = ", ".join(dict.fromkeys(str(step) for _, step in keys))
        freed = format.size(sum(each.bytes for each in gone.snapshots))
        terminal.words(f"removed steps {listed} on {_nodes(gone)}; {freed} are free")
    return ClusterError.exit_code if gone.silent else 0


def _nodes(found: Found) -> str:
    return counted(len({each.node for each in found.snapshots}), "node")


def _show(found: Found, *, as_json: bool) -> None:
    _silence(found)
    if as_json:
        terminal.document([asdict(each) | {"complete": not each.damage} for each in found.snapshots])
    elif found.snapshots:
        terminal.table(view.snapshots(found.snapshots))
    else:
        terminal.words("there are no snapshots")


def _silence(found: Found) -> None:
    for node, why in found.silent.items():
        terminal.warn(f"{node} was not asked: {why}")


@contextmanager
def _bar() -> Iterator[Progress]:
    """A bar on the standard error, where a person looks at it."""
    if not terminal.is_terminal(sys.stderr):
        yield lambda done, size: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task("")
        yield lambda done, size: bar.update(task, completed=done, total=size)
