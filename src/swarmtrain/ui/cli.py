"""The command line's entrance: the list of commands, and what happens to errors.

`swarmtrain --help` answers at once: a command's module is imported when that command is called, and its line of
help stands here (a test holds the two together).
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import click

from swarmtrain.errors import ClusterError, RequestError, SwarmtrainError
from swarmtrain.ui import errors, terminal

INTERRUPTED = 130

EXAMPLE = """\
Train a PyTorch script on a few machines that are joined in a Docker Swarm, or on this one.

\b
  swarmtrain run --on local -j 3x1 train.py     # three nodes as processes on this machine
  swarmtrain run --image IMAGE -j 3x1 train.py  # three machines of the Swarm that docker speaks to
  swarmtrain init && swarmtrain run             # from a job file, swarmtrain.yaml
  swarmtrain lab up                             # no Swarm? a pretend one on this machine
  swarmtrain logs train --rank 0 -f             # look again later

A script that torchrun can run needs no change. A run's name is its job's (train), or one of its runs' (train.3).
"""


class CommandEntry(NamedTuple):
    """A command that is imported when it is called."""

    module: str
    attribute: str
    help: str


SECTIONS: dict[str, dict[str, CommandEntry]] = {
    "Train": {
        "run": CommandEntry("run", "run", "Run a script or a job file, and watch it."),
        "plan": CommandEntry("plan", "plan", "Print what a run would deploy, and change nothing."),
        "init": CommandEntry("start", "init", "Write a commented job file."),
        "doctor": CommandEntry("doctor.command", "doctor", "Look for what is wrong before a run, or in one."),
    },
    "Look": {
        "ps": CommandEntry("read", "ps", "List the runs."),
        "status": CommandEntry("read", "status", "Show a run: its state, nodes and ranks."),
        "top": CommandEntry("look.top", "top", "Watch a run on a live screen."),
        "explain": CommandEntry(
            "look.explain", "explain", "Say what is wrong with a run, why, and what to do."
        ),
        "logs": CommandEntry("output", "logs", "Print what the workers of a run wrote."),
        "events": CommandEntry("output", "events", "Print what happened to a run."),
        "stacks": CommandEntry("output", "stacks", "Show where every rank of a run is now."),
        "profile": CommandEntry(
            "look.profile", "profile", "Record some steps of a run with torch's profiler."
        ),
        "metrics": CommandEntry("look.metrics", "metrics", "Print or plot what was measured of a run."),
        "dashboard": CommandEntry(
            "look.dashboard", "dashboard", "Show runs in a browser, or keep a run's page as a file."
        ),
        "attach": CommandEntry("run", "attach", "Watch a run that was started before."),
        "ls": CommandEntry("files", "ls", "List the files on a run's nodes."),
        "wait": CommandEntry("read", "wait", "Wait for the end of a run."),
    },
    "Act": {
        "exec": CommandEntry("act", "exec_", "Run a command on a node of a run."),
        "fetch": CommandEntry("files", "fetch", "Bring a file or directory from a run's nodes."),
        "snapshots": CommandEntry(
            "snapshots", "snapshots", "List, check, fetch and remove the snapshots of a run."
        ),
        "recover": CommandEntry("nodes", "recover", "Move a run's coordinator off a machine that is gone."),
        "resize": CommandEntry("nodes", "resize", "Go on with more nodes, or with fewer."),
        "alert": CommandEntry("alert", "alert", "Try whether a run's alerts arrive."),
        "stop": CommandEntry("act", "stop", "Stop a run; its files are kept."),
        "rm": CommandEntry("act", "rm", "Remove a run with its files on every node."),
    },
    "More": {
        "lab": CommandEntry("lab", "lab", "A real Swarm of several engines on this machine."),
        "chaos": CommandEntry("chaos", "chaos", "Break things in a run on purpose."),
        "completion": CommandEntry("start", "completion", "Print a shell's completion script."),
        "schema": CommandEntry("start", "schema", "Print the JSON schema of the job file."),
    },
}
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class Cli(errors.Group):
    """A group whose commands are imported late, and whose errors are one line and a hint."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of that name, imported now."""
        if name not in COMMANDS:
            return None
        entry = COMMANDS[name]
        command = getattr(importlib.import_module(f"swarmtrain.ui.commands.{entry.module}"), entry.attribute)
        assert isinstance(command, click.Command)
        return command

    def suggestion(self, ctx: click.Context, word: str) -> str:
        """As for any group; a file is something to run."""
        if word.endswith((".py", ".yaml", ".yml")):
            return f"did you mean `swarmtrain run {word}`?"
        return super().suggestion(ctx, word)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands by what they are for."""
        for title, entries in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.help) for name, entry in entries.items()], col_spacing=4)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a reader that has seen enough (``| head``) is no error."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line; every mistake becomes a sentence, a hint and an exit code."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        code: Any
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.UsageError as error:
            _tell(errors.explain(error))
            code = error.exit_code
        except click.ClickException as error:
            _tell(RequestError(error.format_message()))
            code = error.exit_code
        except SwarmtrainError as error:
            _tell(error)
            code = error.exit_code
        except OSError as error:
            # a full disk, a directory that is not ours: of this machine, not of the request
            where = f"{error.filename}: " if error.filename else ""
            _tell(ClusterError(f"{where}{error.strerror.lower() if error.strerror else error}"))
            code = ClusterError.exit_code
        except (click.Abort, KeyboardInterrupt) as error:
            came = error.__cause__ if isinstance(error, click.Abort) else error
            code = came.exit_code if isinstance(came, _Ended) else INTERRUPTED
        sys.exit(code if isinstance(code, int) else 0)


class _Ended(KeyboardInterrupt):
    """SIGTERM or SIGHUP.

    Outside of the tree: like Ctrl-C it goes through everything that undoes something, and `Cli.main` exits for it.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


def _end(number: int, frame: object) -> None:
    if number == signal.SIGHUP:
        terminal.hang_up()
    raise _Ended(number)


def _tell(error: SwarmtrainError) -> None:
    """Say what is wrong. Where nobody can read it, the exit code says so all the same."""
    try:
        terminal.error(error)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


@click.command(
    cls=Cli,
    help=EXAMPLE,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=True,
)
@click.version_option(package_name="swarmtrain", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """The group itself; without a command it shows its help."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(argv: Sequence[str] | None = None) -> None:
    """The entry point of the package."""
    for name in ("stdin", "stdout", "stderr"):  # what was closed (>&-) is as if nobody read it
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(nowhere, "r" if name == "stdin" else "w"))
    ends = (signal.SIGTERM, signal.SIGHUP)
    for each in ends:
        if signal.getsignal(each) == signal.SIG_DFL:  # nohup's stays
            signal.signal(each, _end)
    try:
        cli.main(args=None if argv is None else list(argv), prog_name="swarmtrain")
    except SystemExit as end:
        if end.code in (INTERRUPTED, *(128 + each for each in ends)):
            for each in (signal.SIGINT, *ends):  # one more must not change the exit code now
                signal.signal(each, signal.SIG_IGN)
        raise
