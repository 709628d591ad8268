"""The commands that ask how runs are: ps, status, wait."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click

from swarmtrain.control.look.explaining import ask_why
from swarmtrain.control.look.how_far import ask_how_far
from swarmtrain.control.look.progress import TrainingProgress, in_words
from swarmtrain.control.views import ending, explanation, view
from swarmtrain.errors import ClusterError, SwarmtrainError
from swarmtrain.protocol.journal.events import NodeJoined
from swarmtrain.protocol.status import Status
from swarmtrain.ui import options, screen, terminal

if TYPE_CHECKING:
    from swarmtrain.control.handle import RunHandle

_AT_ONCE = 8  # runs asked at a time


@click.command(short_help="List the runs.")
@click.option("-a", "--all", "everything", is_flag=True, help="Also the runs that have ended.")
@options.as_json
@options.on
def ps(on: str | None, everything: bool, as_json: bool) -> None:
    """List the runs that are live, or all that are kept."""
    found = glances(each for each in options.client(on).runs() if everything or not each.run.rests)
    if not everything:
        found = [(handle, status) for handle, status in found if not status.has_ended]
    if as_json:
        terminal.document([_entry(handle, status) for handle, status in found])
        return
    if not found:
        more = "no run is kept" if everything else "no run is live; -a shows those that ended"
        terminal.words(more)
        return
    terminal.table(run_table(found))
    if at_rest := [handle.id for handle, status in found if status.state == view.AT_REST]:
        terminal.words(f"`swarmtrain status {at_rest[0]}` starts its coordinator again, to ask how it ended")


def glances(handles: Iterable[RunHandle]) -> list[tuple[RunHandle, Status]]:
    """How each of these runs is, asked for at once, and without starting anything."""
    wanted = list(handles)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(zip(wanted, pool.map(_glance, wanted), strict=True))


def run_table(found: Iterable[tuple[RunHandle, Status]]) -> view.Table:
    """Runs as ``ps`` lists them."""
    now = time.time()
    rows = [view.run_row(handle.id, handle.run.on, status, now) for handle, status in found]
    return view.Table(view.RUN_COLUMNS, rows)


def _glance(handle: RunHandle) -> Status:
    """What a list says of a run, for which nothing is started."""
    try:
        state, known = view.AT_REST, handle.glance()
    except SwarmtrainError:  # one that cannot be understood hides no other
        state, known = view.UNREACHABLE, None
    return known or Status(run=handle.id, job=handle.run.job, state=state)


def _entry(handle: RunHandle, status: Status) -> dict[str, object]:
    """Make of a run what ``--json`` prints; of one that nobody could ask, only that."""
    known: dict[str, object] = status.dump()
    if status.state in (view.AT_REST, view.UNREACHABLE):
        known = {key: known[key] for key in ("run", "job", "state")}
    return {**known, "on": handle.run.on}


@click.command(short_help="Show a run: its state, nodes and ranks.")
@options.as_json
@options.on
@options.run_name
def status(name: str, on: str | None, as_json: bool) -> None:
    """Show a run: its state, how far it is and how long the rest takes, its nodes and its ranks."""
    handle = options.client(on).get(name)
    if as_json:
        known = handle.status()
        far = _how_far(handle, known)
        terminal.document(_entry(handle, known) | ({"progress": asdict(far)} if far is not None else {}))
        return
    found, why = ask_why(handle.launcher, handle.run)
    now = time.time()
    failed = found.state == "failed"
    terminal.lines([view.headline(replace(found, reason="") if failed else found, now)])
    if (far := _how_far(handle, found)) is not None and far.share is not None:
        terminal.lines([f"{far.share * 100:.0f} % is done: {', '.join(in_words(far))}"])
    if news := explanation.news(why, found):
        terminal.lines([f"verdict: {news}", f"more: swarmtrain explain {handle.id}"])
    for table in (view.members(found, _joined(handle, found)), view.workers(found)):
        if table.rows:
            terminal.lines([""])
            terminal.table(table)
    if spent := view.time_spent(found):
        terminal.lines(["", spent])
    if not found.has_ended:
        if troubles := view.troubles(found):
            terminal.lines(["", *troubles])
        if healed := view.recoveries(found):
            terminal.lines(["", *healed, f"in all: {view.cost(found)}"])
    if failed:
        terminal.lines(["", *ending.failure(found, why)])
        if rest := ending.where_the_rest_is(found):
            terminal.lines(["", f"whole output: {rest}"])
    elif found.has_ended:
        terminal.lines(["", *ending.summary(found, now)[1:]])


def _how_far(handle: RunHandle, status: Status) -> TrainingProgress | None:
    """How far a training is; None of one that does not train, or that nobody can ask."""
    if status.has_ended or not status.generation:
        return None
    try:
        return ask_how_far(handle.launcher, handle.run, status)
    except ClusterError:
        return None


def _joined(handle: RunHandle, status: Status) -> list[NodeJoined]:
    """The events of the nodes' joining, where the status document has forgotten their addresses."""
    if not status.has_ended or all(member.address for member in status.members):
        return []
    return [event for event in handle.events() if isinstance(event, NodeJoined)]


@click.command(short_help="Wait for the end of a run.")
@click.option("--timeout", metavar="DURATION", help="Give up after this long (90s, 10m), with exit code 3.")
@options.as_json
@options.on
@options.run_name
def wait(name: str, on: str | None, timeout: str | None, as_json: bool) -> int:
    """Wait for the end of a run; the exit code says how it ended (0 succeeded, 1 failed, 4 stopped)."""
    handle = options.client(on).get(name)
    try:
        result = handle.wait(None if timeout is None else options.seconds(timeout))
    except TimeoutError as error:
        raise ClusterError(str(error), f"`swarmtrain attach {handle.id}` shows it") from error
    if as_json:
        terminal.document(_entry(handle, result.status))
        return result.exit_code
    return screen.conclude(result.status, screen.diagnosis_of(handle, result.status))
