"""The command that watches a run on a live screen: top."""

from __future__ import annotations

import contextlib
import shutil
import sys
from typing import TYPE_CHECKING

import click

from swarmtrain.control.views import logs
from swarmtrain.errors import RequestError
from swarmtrain.ui import options, terminal
from swarmtrain.ui.commands.read import glances, run_table

if TYPE_CHECKING:
    from swarmtrain.control.handle import RunHandle

_LEAST, _MOST = 0.2, 3600.0  # seconds between two looks


@click.command(short_help="Watch a run on a live screen.")
@click.option("--rank", metavar="RANKS", help="Only these ranks: 0 or 0,2-3.")
@click.option("--once", is_flag=True, help="Print it once, and leave: for a pipe, or a file.")
@click.option(
    "--every", metavar="DURATION", default="1s", show_default=True, help="How often the screen is renewed."
)
@click.option("--json", "as_json", is_flag=True, help="Print what the screen shows once, as JSON.")
@options.on
@click.argument("name", required=False, shell_complete=options.complete_run)
def top(name: str | None, on: str | None, rank: str | None, once: bool, every: str, as_json: bool) -> None:
    """Watch a run on a live screen; without NAME the one that is live.

    It shows its state and progress, where the time of a step goes, its nodes, links, GPUs and ranks, the last
    events and lines, and what is wrong with it. A run that ends stays on the screen, with what came of it or why
    it failed. Of many ranks those are shown that have ended, are behind, or are slow by their own work.

    q leaves, and the run goes on; space pauses, r shows some ranks alone, Tab one part of the screen, and ? all
    keys. In a pipe it is printed once.

    \b
      swarmtrain top
      swarmtrain top train --rank 1
      swarmtrain top train --once | less
      swarmtrain top train --json | jq .progress
    """
    ranks = logs.parse_ranks(rank) if rank is not None else ()
    interval = options.seconds(every)
    if not _LEAST <= interval <= _MOST:
        raise RequestError(f"--every {every}: the screen is renewed every {_LEAST} s to every hour")
    handle = _chosen(name, on)
    # Imported here: whoever completes a name, or reads the help, draws nothing.
    from swarmtrain.control.look.feed import OverviewFeed
    from swarmtrain.ui.top import watching
    from swarmtrain.ui.top.frame import TopView
    from swarmtrain.ui.top.glyphs import ASCII, SOLID, UNICODE

    feed = OverviewFeed(handle.launcher, handle.run, ranks)
    if as_json:
        from swarmtrain.control.look.document import as_json as document

        with contextlib.closing(feed):
            terminal.document(document(feed.look()))
        return
    colour = terminal.is_colourful(sys.stdout)
    is_unicode = "utf" in (sys.stdout.encoding or "").lower()
    glyphs = ASCII if not is_unicode else SOLID if colour else UNICODE
    if not once and not terminal.can_redraw():
        terminal.say("this is no terminal that can be drawn on anew, so the run is shown once, as by --once")
        once = True
    if once:
        columns = shutil.get_terminal_size().columns
        terminal.lines(watching.once(feed, ranks, columns, colour=colour, glyphs=glyphs))
        return
    watching.watch(feed, handle.id, TopView(ranks), interval=interval, colour=colour, glyphs=glyphs)


def _chosen(name: str | None, on: str | None) -> RunHandle:
    """The run of that name; without one, the only run that is live.

    Raises:
        RequestError: there is none, or there are several, which are listed.
    """
    client = options.client(on)
    if name is not None:
        return client.get(name)
    live = [
        each for each in glances(run for run in client.runs() if not run.run.rests) if not each[1].has_ended
    ]
    if not live:
        raise RequestError(
            "no run is live", "`swarmtrain top NAME` shows one that has ended; `swarmtrain ps -a` lists them"
        )
    if len(live) > 1:
        terminal.table(run_table(live))
        raise RequestError(f"{len(live)} runs are live", f"say which: `swarmtrain top {live[-1][0].id}`")
    return live[0][0]
