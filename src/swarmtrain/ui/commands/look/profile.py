"""The command that has torch's profiler record some steps of a live run: profile."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from swarmtrain.control.views import format, logs, view
from swarmtrain.errors import RequestError
from swarmtrain.ui import options, terminal

if TYPE_CHECKING:
    from swarmtrain.protocol.evidence.profile import ProfileNews

_MOST = 50  # steps


@click.command(short_help="Record some steps of a run with torch's profiler.")
@click.option("--rank", metavar="RANKS", default="0", show_default=True, help="These ranks: 0 or 0,2-3.")
@click.option(
    "--steps", type=click.IntRange(1, _MOST), default=5, show_default=True, metavar="N", help="So many steps."
)
@click.option("--shapes", is_flag=True, help="Also the shapes of the operators' inputs.")
@click.option("--memory", is_flag=True, help="Also what operators allocate.")
@click.option(
    "--within",
    metavar="DURATION",
    default="60s",
    show_default=True,
    help="How long a step may be waited for.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="The directory for the traces; this one by default.",
)
@click.option("--force", is_flag=True, help="Replace traces that are there.")
@options.as_json
@options.on
@options.run_name
def profile(
    name: str,
    on: str | None,
    rank: str,
    steps: int,
    shapes: bool,
    memory: bool,
    within: str,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Record the next steps of a live run with torch's profiler, and bring the traces here.

    The script needs no change, if it uses our Trainer, DistributedDataParallel or fully_shard. Training goes on while
    it is recorded, somewhat slower, and computes the same. One step warms the profiler up. The trace becomes
    NAME-profile-rank0.json.gz, for https://ui.perfetto.dev or chrome://tracing; a short table is printed. Ctrl-C takes
    it back.

    \b
      swarmtrain profile train
      swarmtrain profile train.3 --rank 0-3 --steps 10 --shapes
    """
    ranks = logs.parse_ranks(rank)
    seconds = options.seconds(within)
    if seconds <= 0:
        raise RequestError(f"--within {within}: it takes some time until a step is made")
    handle = options.client(on).get(name)
    status = handle.status()
    if not status.has_ended and (missing := view.missing_ranks(status, ranks)):
        raise RequestError(missing)
    # Imported here: whoever completes a name, or reads the help, records nothing.
    from swarmtrain.control.look.profiling import ProfileSession
    from swarmtrain.control.views import profile as words
    from swarmtrain.protocol.requests import ProfileRequest

    lock, told = threading.Lock(), dict[int, str]()

    def tell(rank: int, news: ProfileNews | int) -> None:
        if terminal.is_terminal(sys.stderr) and not as_json:
            state = "" if isinstance(news, int) else news.state
            with lock:
                if isinstance(news, int) or told.get(rank) == state:
                    return
                told[rank] = state
                terminal.say(words.progress(rank, news, steps))

    request = ProfileRequest(ranks[0], steps, shapes, memory, seconds)
    session = ProfileSession(handle.launcher, handle.run, request, output, tell, overwrite=force)
    found = session.record(ranks)
    if as_json:
        terminal.document([each.dump() for each in found])
        return
    for each in found:
        terminal.lines(words.lines(each))
        terminal.words(f"{format.name(each.path)} from {format.name(each.node)} ({format.size(each.bytes)})")
