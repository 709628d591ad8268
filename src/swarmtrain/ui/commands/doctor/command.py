"""The command that looks for what is wrong before a run: doctor."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from swarmtrain.docker.command import Docker
from swarmtrain.doctor.check import CheckFinding, has_errors
from swarmtrain.errors import ClusterError, RequestError
from swarmtrain.ui import options, terminal
from swarmtrain.ui.commands.doctor import words

if TYPE_CHECKING:
    from swarmtrain.doctor.cluster.trial import TrialOptions

_WIDTH = 80  # of what is not a terminal, and the most of one


@click.command(short_help="Look for what is wrong before a run, or in one.")
@click.option(
    "--on",
    type=click.Choice(("local", "swarm")),
    envvar="SWARMTRAIN_ON",
    help="This machine, or the Swarm that docker speaks to; the latter by default where there is one.",
)
@click.option(
    "--image", metavar="IMAGE", help="Try the nodes and the ways between them, in containers of it."
)
@click.option("--python", default="python3", show_default=True, help="The interpreter in the image.")
@click.option("--collectives", is_flag=True, help="Try torch's all-reduce and others between the nodes, too.")
@click.option(
    "--compose",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Look at a stack that was written by hand for torchrun instead.",
)
@click.option("--list", "listed", is_flag=True, help="Name the checks, and do nothing.")
@options.as_json
@click.argument("name", required=False, shell_complete=options.complete_run)
def doctor(
    name: str | None,
    on: str | None,
    image: str | None,
    python: str,
    collectives: bool,
    compose: Path | None,
    listed: bool,
    as_json: bool,
) -> int:
    """Look for what is wrong: with a Swarm, with this machine, with a run, or in a stack file.

    \b
      swarmtrain doctor                       # what the Swarm's managers say
      swarmtrain doctor --image IMAGE         # and real traffic between all of its nodes
      swarmtrain doctor --on local            # this machine
      swarmtrain doctor --compose stack.yml   # a stack that was written by hand
      swarmtrain doctor train                 # a run that trains: its nodes, and the ways between them

    With an image a short-lived container runs on every node, and everything is removed at the end. Beside a run its own
    agents do it, niced; each way between two nodes is filled for a moment. The exit code is 0 where nothing is wrong
    but for warnings, 3 where the Swarm, the machine or the run has an error, 2 where the file has one.
    """
    if listed:
        _list(as_json)
        return 0
    if compose is not None:
        if image or name or on == "local":
            raise RequestError("--compose looks at a file alone", "leave out all but it")
        return _conclude(_of_file(compose), as_json, RequestError.exit_code)
    if collectives and not image:
        raise RequestError(
            "--collectives needs an image with torch", "swarmtrain doctor --collectives --image IMAGE"
        )
    if name is not None:
        if image or collectives:
            raise RequestError("a run's nodes have its own image", "leave out --image and --collectives")
        return _conclude(_of_run(name, on), as_json, ClusterError.exit_code)
    if on == "local":
        return _conclude(_of_machine(), as_json, ClusterError.exit_code)
    from swarmtrain.doctor.cluster.trial import TrialOptions

    wanted = TrialOptions(image or "", python, collectives)
    return _conclude(_of_swarm(on, wanted), as_json, ClusterError.exit_code)


def _of_file(path: Path) -> list[CheckFinding]:
    from swarmtrain.doctor.compose.examine import examine
    from swarmtrain.swarm import cluster

    try:
        known = cluster.read(Docker())
    except ClusterError:
        known = None  # a file can be looked at anywhere
    return examine(path, known)


def _of_machine() -> list[CheckFinding]:
    from swarmtrain.doctor.machine.examine import examine

    return examine()


def _of_swarm(on: str | None, wanted: TrialOptions) -> list[CheckFinding]:
    from swarmtrain.doctor.cluster.examine import examine

    docker = Docker()
    if on is None and not wanted.image and not _is_manager(docker):
        terminal.say("docker speaks to no manager of a Swarm: this machine is looked at (--on local)")
        return _of_machine()
    return examine(docker, wanted, terminal.say)


def _of_run(name: str, on: str | None) -> list[CheckFinding]:
    from swarmtrain.control.look.explaining import ask_why
    from swarmtrain.control.views.explanation import is_trouble
    from swarmtrain.doctor.run.examine import examine
    from swarmtrain.doctor.run.facts import CoordinatorSays

    handle = options.client(on).get(name)
    status, diagnosis = ask_why(handle.launcher, handle.run)
    try:
        events = tuple(handle.events())
    except ClusterError:  # it never got to its place, and what is known of that is in the diagnosis
        events = ()
    recorded = None
    with suppress(ClusterError):  # no worker runs
        recorded = tuple(handle.stacks().findings)
    said = CoordinatorSays(status, diagnosis, events, not is_trouble(diagnosis), recorded)
    return examine(handle.launcher, handle.run, said, terminal.say)


def _is_manager(docker: Docker) -> bool:
    try:
        return docker.completed("node", "ls", "--quiet", timeout=30.0).returncode == 0
    except ClusterError:
        return False  # there is no docker here


def _conclude(found: Sequence[CheckFinding], as_json: bool, code: int) -> int:
    """Show findings; the exit code."""
    if as_json:
        terminal.document([finding.dump() for finding in found])
    else:
        _show(found)
    return code if has_errors(found) else 0


def _show(found: Sequence[CheckFinding]) -> None:
    """Findings on the standard output; how many there are is said beside them."""
    columns = shutil.get_terminal_size().columns if terminal.is_terminal(sys.stdout) else _WIDTH
    for finding in found:
        first, *rest = words.paragraph(finding, min(columns, _WIDTH))
        name = finding.severity.value
        painted = terminal.paint(name, words.STYLES[finding.severity], sys.stdout)
        terminal.lines([first.replace(name, painted, 1), *rest])
    terminal.words(words.summary(found))


def _list(as_json: bool) -> None:
    from swarmtrain.doctor.tables import TABLES

    if as_json:
        rows = [
            {"table": table.name, "code": check.code, "severity": check.severity.value, "looks": check.looks}
            for table in TABLES
            for check in table.checks
        ]
        terminal.document(rows)
        return
    for table in TABLES:
        terminal.lines([table.title, *(line for check in table.checks for line in words.row(check, _WIDTH))])
