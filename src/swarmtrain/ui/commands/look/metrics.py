"""The command that shows what was measured: metrics."""

from __future__ import annotations

import csv
import io
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
from click.shell_completion import CompletionItem

from swarmtrain.control.look.series import SeriesRange
from swarmtrain.control.views import logs as lines
from swarmtrain.control.views.format import duration
from swarmtrain.control.views.view import Table
from swarmtrain.errors import RequestError, SwarmtrainError
from swarmtrain.ui import options, terminal
from swarmtrain.ui.plot.chart import charts, said
from swarmtrain.wire.plural import counted

if TYPE_CHECKING:
    from swarmtrain.control.handle import RunHandle
    from swarmtrain.protocol.series.points import Series

_COLOURS = ("36", "33", "32", "35", "34", "31", "96", "93", "92", "95")
_POINTS = 500  # of a series that is plotted: more than a screen has columns of dots
_COLUMNS = ("series", "label", "x", "time", "step", "generation", "low", "mean", "high", "points", "bad")


def complete_series(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of a run's series, for a shell; none when the cluster does not say."""
    try:
        handle = options.client(ctx.params.get("on"), silent=True).get(ctx.params["name"])
        names = dict.fromkeys(each.name for each in handle.series(points=False))
    except (SwarmtrainError, KeyError):
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


@click.command(short_help="Print or plot what was measured of a run.")
@click.option("--plot", is_flag=True, help="Draw them here, a chart for each name.")
@click.option("-o", "--output", metavar="FILE", help="Write the charts as an SVG file.")
@click.option("--csv", "as_csv", is_flag=True, help="Print every point as a line of CSV.")
@click.option("--tensorboard", metavar="DIR", help="Write TensorBoard's event files below DIR.")
@click.option(
    "--serve",
    is_flag=False,
    flag_value="9464",
    metavar="[[HOST:]PORT]",
    help="Serve the newest to Prometheus, until Ctrl-C: on port 9464 of this machine, for itself alone.",
)
@click.option("--rank", metavar="RANKS", help="Only of these ranks: 0 or 0,2-3.")
@click.option("--node", "nodes", multiple=True, help="Only of this node; may be given again.")
@click.option("--since", metavar="WHEN", help="Only since then: 10m, or 2026-01-31T09:30.")
@click.option(
    "--x",
    "axis",
    type=click.Choice(["time", "step", "samples"]),
    default="time",
    show_default=True,
    help="By what the points are ordered.",
)
@click.option(
    "--points",
    "most",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    metavar="N",
    help="Points of a series at most; 0: all that are kept.",
)
@options.as_json
@options.on
@options.run_name
@click.argument("series", nargs=-1, shell_complete=complete_series)
def metrics(
    name: str,
    series: tuple[str, ...],
    on: str | None,
    plot: bool,
    output: str | None,
    as_csv: bool,
    tensorboard: str | None,
    serve: str | None,
    rank: str | None,
    nodes: tuple[str, ...],
    since: str | None,
    axis: Literal["time", "step", "samples"],
    most: int,
    as_json: bool,
) -> None:
    """Print or plot what was measured of a run: its training and its nodes, while it runs and afterwards.

    Without SERIES it lists the series, each with its newest value. SERIES are names, or patterns: 'train/*'.
    docs/metrics.md says what each of them is.

    \b
      swarmtrain metrics train
      swarmtrain metrics train train/loss --plot --x step
      swarmtrain metrics train 'interface/*' --node lab-2 --since 10m --csv > traffic.csv
      swarmtrain metrics train train/step_seconds -o steps.svg
      swarmtrain metrics train --tensorboard board && tensorboard --logdir board
      swarmtrain metrics train --serve
    """
    if since is not None and axis != "time":
        raise RequestError(f"--since is a time, and --x orders by {axis}", "leave one of them out")
    handle = options.client(on).get(name)
    if serve is not None:
        _serve(handle, serve)
        return
    shown = plot or output is not None
    found = handle.series(
        *series,
        within=SeriesRange(
            ranks=lines.parse_ranks(rank) if rank is not None else (),
            nodes=nodes,
            x=axis,
            start=lines.parse_since(since) if since is not None else None,
            most=min(most or _POINTS, _POINTS) if shown else most,
        ),
        points=bool(series) or shown or as_csv or tensorboard is not None,
    )
    if not found and series:
        raise _nothing(handle, series)
    if tensorboard is not None:
        _write_events(handle, Path(tensorboard), found)
    if output is not None:
        _write(Path(output), found, axis)
    if as_csv:
        terminal.lines(_csv(found))
    elif as_json:
        from swarmtrain.protocol.codec import dump

        terminal.document([dump(each) for each in found])
    elif plot:
        _plot(found, axis)
    elif output is None and tensorboard is None:
        _list(handle, found)


def _nothing(handle: RunHandle, wanted: Sequence[str]) -> RequestError:
    """Why there is nothing to show, with what there is."""
    names = list(dict.fromkeys(each.name for each in handle.series(points=False)))
    if not names:
        return RequestError(f"nothing was measured of {handle.id} yet")
    import difflib

    near = difflib.get_close_matches(wanted[0], names, 3, 0.5) or names[:3]
    return RequestError(
        f"{handle.id} has no points of {', '.join(wanted)} there",
        f"`swarmtrain metrics {handle.id}` lists its series, such as {', '.join(near)}",
    )


def _list(handle: RunHandle, found: Sequence[Series]) -> None:
    if not found:
        terminal.words(f"nothing was measured of {handle.id} yet")
        return
    now = handle.status().now or time.time()
    rows: list[tuple[str, ...]] = [
        (each.name, _labels(each), said(each.value, each.unit), _age(each, now)) for each in found
    ]
    terminal.table(Table(("series", "of", "value", "age"), rows))


def _labels(series: Series) -> str:
    return ", ".join(f"{key} {value}" for key, value in series.labels.items())


def _age(series: Series, now: float) -> str:
    return duration(max(0.0, now - series.time)) if series.time is not None else "-"


def _csv(found: Sequence[Series]) -> list[str]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(_rows(found))
    return text.getvalue().splitlines()


def _rows(found: Sequence[Series]) -> Iterator[tuple[object, ...]]:
    for each in found:
        label = ",".join(f"{key}={value}" for key, value in each.labels.items())
        for point in each.points:
            yield (each.name, label, *("" if value is None else value for value in point))


def _plot(found: Sequence[Series], axis: str) -> None:
    from swarmtrain.ui.plot.terminal import drawn

    colour = terminal.is_colourful(sys.stdout)

    def paint(text: str, number: int) -> str:
        return f"\x1b[{_COLOURS[number % len(_COLOURS)]}m{text}\x1b[0m"

    dots = "utf" in (sys.stdout.encoding or "").lower()
    width = shutil.get_terminal_size().columns
    for number, chart in enumerate(charts(found, axis)):
        terminal.lines([""] if number else [])
        terminal.lines(drawn(chart, width, dots=dots, paint=paint if colour else None))


def _write_events(handle: RunHandle, directory: Path, found: Sequence[Series]) -> None:
    from swarmtrain.control.exports.tensorboard import write_events

    written = write_events(directory, handle.id, handle.status().created or 0.0, found)
    terminal.words(f"wrote {counted(written, 'point')} of {handle.id} below {directory / handle.id}")


def _serve(handle: RunHandle, text: str) -> None:
    """Serve until a person has seen enough."""
    import signal

    from swarmtrain.control.exports.serving import newest, parse_address, serving

    address = parse_address(text)
    newest(handle.launcher, handle.run)  # what cannot be read is said now, not to a scraper
    with serving(address, lambda: newest(handle.launcher, handle.run)) as at:
        terminal.words(f"{handle.id} is served at http://{at}/metrics; Ctrl-C ends it")
        signal.pause()


def _write(path: Path, found: Sequence[Series], axis: str) -> None:
    """Write the charts.

    Raises:
        RequestError: it is to be a file of another kind.
    """
    from swarmtrain.ui.plot.svg import as_svg

    if path.suffix != ".svg":
        raise RequestError(f"{path} is no name of an SVG file", f"-o {path.with_suffix('.svg')}")
    path.write_text(as_svg(charts(found, axis, ticks=5)), encoding="utf-8")
    terminal.words(f"wrote {path}")
