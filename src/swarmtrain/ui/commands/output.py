"""The commands that print what was written and what happened: logs, events."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from swarmtrain.control.views import logs as lines
from swarmtrain.control.views import narration, view
from swarmtrain.errors import RequestError
from swarmtrain.protocol.replies import Line
from swarmtrain.ui import options, terminal

if TYPE_CHECKING:
    from swarmtrain.control.handle import RunHandle


@click.command(short_help="Print what the workers of a run wrote.")
@click.option("--rank", metavar="RANKS", help="Only these ranks: 0 or 0,2-3.")
@click.option("--node", "nodes", multiple=True, help="Only the ranks of this node; may be given again.")
@click.option("--regex", default="", help="Only lines in which this is found.")
@click.option("--since", metavar="WHEN", help="Only lines since then: 10m, or 2026-01-31T09:30.")
@click.option("-n", "--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended.")
@click.option("-t", "--timestamps", is_flag=True, help="Begin each line with its time.")
@options.as_json
@options.on
@options.run_name
def logs(
    name: str,
    on: str | None,
    rank: str | None,
    nodes: tuple[str, ...],
    regex: str,
    since: str | None,
    tail: int | None,
    follow: bool,
    timestamps: bool,
    as_json: bool,
) -> None:
    """Print what the workers of a run wrote, in the order of time, each line with its rank in front.

    Of a line that is drawn again and again, as progress bars are, the last drawing is kept; with -f it moves on a
    terminal, and pipes and --json get it when it has ended.

    \b
      swarmtrain logs train --rank 0 -f
      swarmtrain logs train.3 --since 10m --regex 'loss|error'
    """
    selection = lines.Selection(
        ranks=lines.parse_ranks(rank) if rank is not None else (),
        nodes=nodes,
        regex=lines.parse_regex(regex),
        since=lines.parse_since(since) if since is not None else 0.0,
        tail=tail,
    )
    colour = terminal.is_colourful(sys.stdout)
    handle = options.client(on).get(name)
    if follow:
        _expect(handle, selection)
    is_empty = True
    shown: Callable[[Sequence[Line]], None] | None = None
    if follow and not as_json and terminal.can_redraw():
        shown = partial(_show_below, times=timestamps)
    for batch in handle.logs(selection, follow=follow, unfinished=shown):
        is_empty = False
        if as_json:
            for line in batch:
                terminal.record(lines.as_json(line))
        else:
            terminal.data(lines.render(batch, colour=colour, times=timestamps))
    if shown is not None:
        terminal.below([])
    if is_empty and tail != 0:
        _explain_nothing(handle, selection)


def _show_below(unfinished: Sequence[Line], *, times: bool) -> None:
    """Draw the lines that go on."""
    terminal.below([lines.labelled(line, times=times) for line in unfinished])


def _expect(handle: RunHandle, selection: lines.Selection) -> None:
    """Say that a rank which is to be followed is not there; it may come yet."""
    if missing := view.missing_ranks(handle.status(), selection.ranks):
        terminal.warn(missing)


def _explain_nothing(handle: RunHandle, selection: lines.Selection) -> None:
    """Say why there is nothing to print.

    Raises:
        RequestError: there is no such rank or node.
    """
    status = handle.status()
    nodes = [member.node for member in status.members]
    strange = [node for node in selection.nodes if node not in nodes]
    if strange and nodes:
        raise RequestError(
            f"{', '.join(strange)} took no part in {handle.id}", f"its nodes: {', '.join(nodes)}"
        )
    if missing := view.missing_ranks(status, selection.ranks):
        raise RequestError(missing)
    terminal.words(selection.nothing(handle.id))


@click.command(short_help="Print what happened to a run.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended.")
@options.as_json
@options.on
@options.run_name
def events(name: str, on: str | None, follow: bool, as_json: bool) -> None:
    """Print what happened to a run, from its journal.

    A line that begins with ! says that something went wrong, one with + that it is well again.
    """
    for event in options.client(on).get(name).events(follow=follow):
        if as_json:
            terminal.record(event.dump())
        else:
            line = f"{lines.clock_time(event.time)} {narration.entry(event)}"
            terminal.lines([terminal.paint(line, terminal.TONES[narration.tone(event)], sys.stdout)])
