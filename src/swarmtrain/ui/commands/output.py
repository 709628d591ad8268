"""The commands that print what was written, what happened, and what is done now: logs, events, stacks."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from swarmtrain.control.views import logs as lines
from swarmtrain.control.views import narration, view
from swarmtrain.control.views import stacks as words
from swarmtrain.control.views.folding import RootCauses
from swarmtrain.errors import ClusterError, RequestError
from swarmtrain.protocol.replies import Line
from swarmtrain.ui import options, terminal
from swarmtrain.ui.quiet import QuietLines

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
@click.option("-a", "--all", "whole", is_flag=True, help="Also what only echoes another rank's failure.")
@click.option("--raw", is_flag=True, help="All of it, and each byte as it was written.")
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
    whole: bool,
    raw: bool,
    as_json: bool,
) -> None:
    """Print what the workers of a run wrote, in the order of time, each line with its rank in front.

    Of a line that is drawn again and again, as progress bars are, the last drawing is kept; with -f it moves on a
    terminal, and pipes and --json get it when it has ended. A traceback that only says that another rank has failed is
    left out, with a word, unless --all or --regex asks for it. Sequences that would drive a terminal are left out, but
    for colours, in pipes, too: --raw and --json have every byte.

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
    look = lines.Look(colour=terminal.is_colourful(sys.stdout), times=timestamps, raw=raw)
    handle = options.client(on).get(name)
    if follow:
        _expect(handle, selection)
    is_empty = True
    shown: Callable[[Sequence[Line]], None] | None = None
    if follow and not as_json and terminal.can_redraw():
        shown = partial(_show_below, look=look._replace(colour=False))
    with contextlib.ExitStack() as stack:
        write: Callable[[Sequence[Line]], None]
        write = _write_json if as_json else partial(_write_all, look=look)
        if not (as_json or whole or raw or regex):
            spares = _SparedRanks(handle)
            write = stack.enter_context(QuietLines(handle.id, spares, look, live=follow)).write
        for batch in handle.logs(selection, follow=follow, unfinished=shown):
            is_empty = False
            write(batch)
    if shown is not None:
        terminal.below([])
    if is_empty and tail != 0:
        _explain_nothing(handle, selection)


class _SparedRanks:
    """Whose echoes are all that there is of a failure: the journal is read when an echo of a generation comes."""

    def __init__(self, handle: RunHandle) -> None:
        self._handle = handle
        self._causes = RootCauses()

    def __call__(self, generation: int, rank: int) -> bool:
        if not self._causes.knows(generation):
            try:
                self._causes = RootCauses(self._handle.events())
            except ClusterError:
                return True  # nobody can say, so it is shown
        return self._causes.spares(generation, rank)


def _write_json(batch: Sequence[Line]) -> None:
    for line in batch:
        terminal.record(lines.as_json(line))


def _write_all(batch: Sequence[Line], *, look: lines.Look) -> None:
    terminal.data(lines.render(batch, look._replace(plain=not terminal.keeps_colour(sys.stdout))))


def _show_below(unfinished: Sequence[Line], *, look: lines.Look) -> None:
    """Draw the lines that go on."""
    terminal.below([lines.labelled(line, look) for line in unfinished])


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


@click.command(short_help="Show where every rank of a run is now.")
@click.option("--rank", metavar="RANKS", help="Only these ranks: 0 or 0,2-3.")
@click.option("-a", "--all", "whole", is_flag=True, help="With every frame of libraries, and every thread.")
@options.as_json
@options.on
@options.run_name
def stacks(name: str, on: str | None, rank: str | None, whole: bool, as_json: bool) -> None:
    """Show where every rank of a live run is now: its Python stacks, and who is missing from which collective.

    Ranks at the same place stand together, the odd ones first; a line of your own code is marked with >, frames of
    libraries are left out. Nothing stops for it. It works while ranks hang, and in any image.

    \b
      swarmtrain stacks train
      swarmtrain stacks train.3 --rank 1 --all
    """
    wanted = lines.parse_ranks(rank) if rank is not None else ()
    handle = options.client(on).get(name)
    found = handle.stacks()
    if wanted:
        found = found.of(wanted)
        if not found.ranks:
            raise RequestError(
                view.missing_ranks(handle.status(), wanted) or "those ranks do not run any more"
            )
    if as_json:
        terminal.document(found.dump())
    else:
        terminal.lines(words.lines(found, whole=whole))
