"""The commands that start or join a run: run, attach."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from swarmtrain.control.client import Submission
from swarmtrain.errors import ClusterError
from swarmtrain.ui import job_options, options, sending, terminal
from swarmtrain.ui.interrupt import Interrupt, come_back

if TYPE_CHECKING:
    from swarmtrain.control.handle import RunHandle

_RUN_HELP = """\
Run SCRIPT with ARGS on every node, or what the job file says, and watch it.

\b
  swarmtrain run --on local -j 3x1 train.py --lr 0.1    # three nodes as processes on this machine
  swarmtrain run --image IMAGE -j 3x1 train.py          # three machines, one worker on each
  swarmtrain run --image IMAGE --nodes alice,bob train.py
  swarmtrain run -f job.yaml --nodes 2 -- --lr 0.2      # a job file, with changes
  swarmtrain run --on local -d train.py && swarmtrain attach train
  swarmtrain run --resume                               # go on with what was started here last
  swarmtrain run --dry-run train.py                     # which files would be sent, and which would not

As with Python and torchrun, what follows SCRIPT (with -m a module) belongs to it, so our options stand before it.
Behind a job file they may go on, and what follows a -- are arguments of its script.

A torchrun command line works as it is. Of its flags, --nnodes, --nproc-per-node, --max-restarts, --rdzv-conf and
--shutdown-timeout say the same here; the others are taken, and a line says why they are not needed.

Without --on it is on the Swarm that docker speaks to. It is on this machine only where nothing asks for a Swarm: no
DOCKER_HOST, no DOCKER_CONTEXT or other context than docker's own, no image, and no node's name.

Ctrl-C stops a run on this machine, and so do SIGTERM and a terminal that is closed; with -d it goes on. A run on Docker
goes on, and `swarmtrain attach` shows it again.
"""


@click.command(
    cls=job_options.JobCommand,
    help=_RUN_HELP,
    short_help="Run a script or a job file, and watch it.",
    context_settings={"token_normalize_func": lambda token: token.replace("_", "-")},
)
@click.option("-d", "--detach", is_flag=True, help="Print the run's name and go, instead of watching it.")
@click.option(
    "--resume", is_flag=True, help="Go on where the job's latest run ended; alone, with the same words."
)
@click.option("--replace", is_flag=True, help="Stop the job's live run first.")
@click.option(
    "--dry-run", is_flag=True, help="Check everything, list the files that would be sent, and start nothing."
)
@options.on
@job_options.job_options
def run(on: str | None, detach: bool, resume: bool, replace: bool, dry_run: bool, **flags: Any) -> int:
    """See _RUN_HELP."""
    if resume and job_options.names_nothing(flags):
        earlier = options.client(on).started_here(flags["name"])
        on, words = earlier.on, earlier.origin.words if earlier.origin else ()
        flags = job_options.as_before(run, words, flags)
        terminal.say(f"as {earlier.id} was started: swarmtrain run {shlex.join(words)}")
    submission = options.client(on).prepare(job_options.load_job(**flags), resume=resume, replace=replace)
    return show(submission) if dry_run else start(submission, detach=detach)


def show(submission: Submission) -> int:
    """What a dry run says: everything that a run would say first, and what it would send."""
    sent = submission.sent()
    _say_choices(submission, but=sent.notices)
    terminal.lines(sending.files(sent))
    for text in (*sending.left_out(sent), *sent.warnings, sending.total(sent, submission.loaded)):
        terminal.words(text)
    terminal.words(f"{submission.run.id} was not started")
    return 0


def _say_choices(submission: Submission, but: Sequence[str] = ()) -> None:
    for text in (*submission.loaded.notices, *(notice.text for notice in submission.notices)):
        if text not in but:
            terminal.say(text)


def start(submission: Submission, *, detach: bool = False) -> int:
    """Submit what was prepared and show it to its end; return the exit code."""
    _say_choices(submission)
    for handle in submission.in_the_way:
        terminal.say(f"stopping {handle.id} first, as --replace says")
    handle = submission.handle()
    interrupt, submitted = Interrupt(handle, stops=handle.run.on == "local"), False
    with interrupt.armed():
        try:
            submission.start()
            submitted = True
            from swarmtrain.ui import screen  # what was started does not wait for it

            handle.started()
        except KeyboardInterrupt:
            if not submitted and not _is_there(handle):
                terminal.say(f"{handle.id} was not started")
                return interrupt.exit_code
            if not (detach and submitted) or interrupt.number == signal.SIGINT:
                interrupt.leave()
                return interrupt.exit_code
            terminal.say(f"left {handle.id}, which goes on: it was to be on its own")
        if not detach:
            return screen.follow(handle, interrupt)
    return _detached(handle)


def _is_there(handle: RunHandle) -> bool:
    """Whether a run that was interrupted at its submission is kept; one that cannot be looked for is."""
    try:
        return handle.run in handle.launcher.runs()
    except ClusterError:
        return True


def _detached(handle: RunHandle) -> int:
    terminal.lines([handle.id])
    terminal.words(come_back(handle))
    return 0


@click.command(short_help="Watch a run that was started before.")
@click.option(
    "--tail", type=click.IntRange(min=0), default=20, show_default=True, help="Last lines to begin with."
)
@options.on
@options.run_name
def attach(name: str, on: str | None, tail: int) -> int:
    """Watch a run that was started before. Ctrl-C leaves it running."""
    from swarmtrain.control.views import view
    from swarmtrain.ui import screen

    handle = options.client(on).get(name)
    terminal.say(view.headline(handle.status(), time.time()))
    seen = max((event.seq for event in handle.events()), default=0)
    interrupt = Interrupt(handle, stops=False)
    with interrupt.armed():
        return screen.follow(handle, interrupt, after=seen, tail=tail)
