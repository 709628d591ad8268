"""The command that shows runs in a browser: dashboard."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click

from swarmtrain.errors import ClusterError, RequestError
from swarmtrain.ui import options, terminal
from swarmtrain.ui.commands.look import publish

_LINES = 20_000  # of the workers, in a page that is kept


@click.command(short_help="Show runs in a browser, or keep a run's page as a file.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Any free one by default; with --publish it is opened on the coordinator's machine, and by default none is.",
)
@click.option("--export", "file", metavar="FILE", help="Write the page as one file instead.")
@click.option(
    "--lines",
    type=click.IntRange(min=0),
    default=_LINES,
    show_default=True,
    metavar="N",
    help="Last lines of the workers in that file.",
)
@publish.options
@options.on
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=options.complete_run)
def dashboard(
    names: tuple[str, ...],
    on: str | None,
    port: int | None,
    file: str | None,
    lines: int,
    flags: publish.PublishFlags,
) -> None:
    """Show a run in a browser, live and afterwards: its training, nodes, events, lines, and what is wrong with it.

    The page is served to this machine alone, until Ctrl-C; the address has a token, by which it knows you. Without a
    NAME it shows the latest run. Further runs are laid over the first one. From another machine:
    ssh -L 8000:127.0.0.1:PORT, and the same address with port 8000.

    With --export everything lies in one file, which needs no server and loads nothing.

    With --publish a small service in the Swarm shows one run to whoever has its token, until --unpublish or rm. It
    listens in the network of your Traefik, which hands it what is asked of --host; or on the --port that you name.

    \b
      swarmtrain dashboard train
      swarmtrain dashboard train.3 train.2
      swarmtrain dashboard train --export run.html
      swarmtrain dashboard train --publish --network traefik --host train.lab.example
      swarmtrain dashboard train --publish --port 8080
    """
    flags.check(names, file)
    if file is None and not flags.publish and not flags.unpublish:
        check_installed()
    client = options.client(on)
    named = {handle.id: handle for handle in map(client.get, names)}
    handles = [*named.values()] if names else client.runs()[-1:]
    if not handles:
        raise RequestError("there is no run to show", "swarmtrain run starts one")
    if flags.publish or flags.unpublish:
        publish.act(handles[0], flags, port)
        return
    if file is not None:
        from swarmtrain.ui.web.kept import page_of

        text = page_of(handles, lines)
        Path(file).write_text(text, encoding="utf-8")
        terminal.words(
            f"{file} has {' and '.join(handle.id for handle in handles)}: {len(text) / 1e6:.1f} MB"
        )
        return
    from swarmtrain.ui.web.serve import serve

    serve(client, [handle.id for handle in handles], port or 0, lambda address: terminal.lines([address]))


def check_installed() -> None:
    """Raise ClusterError where what serves the page is not installed."""
    if any(importlib.util.find_spec(each) is None for each in ("starlette", "uvicorn")):
        raise ClusterError(
            "the dashboard needs starlette and uvicorn, which are not installed",
            "pip install 'swarmtrain[web]'",
        )
