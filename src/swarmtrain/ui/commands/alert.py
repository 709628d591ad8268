"""The command that tries whether alerts arrive: alert test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from swarmtrain.errors import ClusterError, RequestError
from swarmtrain.ui import errors, options, terminal
from swarmtrain.wire.plural import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swarmtrain.protocol.alerts.answer import AlertAnswer


@click.group(cls=errors.Group, short_help="Try whether a run's alerts arrive.")
def alert() -> None:
    """Try whether the alerts of a run, or of a job, arrive. docs/alerts.md has what they are."""


@alert.command(short_help="Send a test to everybody who is told.")
@click.option(
    "-f", "--file", type=click.Path(path_type=Path), help="Those of this job file, from this machine."
)
@options.as_json
@options.on
@click.argument("name", required=False, shell_complete=options.complete_run)
def test(name: str | None, file: Path | None, on: str | None, as_json: bool) -> None:
    """Send a test to everybody who is told of alerts, and print what each answered.

    With the NAME of a run it is sent from where its coordinator is, as its alerts are; with -f, or in a directory
    with a swarmtrain.yaml, from this machine.

    \b
      swarmtrain alert test train
      swarmtrain alert test -f job.yaml
    """
    if name is not None and file is not None:
        raise RequestError("a test goes to those of a run or of a job file", "leave out NAME or -f")
    answers = [*_print(_of_run(name, on) if name is not None else _of_file(file), as_json=as_json)]
    if failed := [each for each in answers if not each.delivered]:
        raise ClusterError(
            f"{counted(len(failed), 'target')} of {len(answers)} did not take the test",
            "docs/alerts.md says what each answer means",
        )


def _of_run(name: str, on: str | None) -> Iterator[AlertAnswer]:
    from swarmtrain.control.look.alerts import ask_for_test

    handle = options.client(on).get(name)
    return ask_for_test(handle.launcher, handle.run)


def _of_file(file: Path | None) -> Iterator[AlertAnswer]:
    from swarmtrain.control.look.alerts import try_from_here
    from swarmtrain.job.load import DEFAULT_FILE, load

    if file is None and not Path(DEFAULT_FILE).exists():
        raise RequestError("whose alerts are to be tried?", "swarmtrain alert test NAME, or -f JOB_FILE")
    return try_from_here(load(file))


def _print(answers: Iterator[AlertAnswer], *, as_json: bool) -> Iterator[AlertAnswer]:
    """Say of each what it answered, as it comes."""
    from swarmtrain.protocol.codec import dump

    told = []
    for each in answers:
        told.append(each)
        if not as_json:
            terminal.lines([f"{'+' if each.delivered else '!'} {each.target}: {each.said}"])
        yield each
    if as_json:
        terminal.document([dump(each) for each in told])
