"""The commands that help to begin: init, schema, completion."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from swarmtrain.errors import RequestError
from swarmtrain.ui import terminal

DEFAULT_FILE = "swarmtrain.yaml"  # as swarmtrain.job.load has it, which is not imported for a line of help


@click.command(short_help="Write a commented job file.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path(DEFAULT_FILE),
    show_default=True,
    help="The file to write; - for the standard output.",
)
@click.option("--force", is_flag=True, help="Replace the file if there is one.")
@click.argument("script", required=False)
def init(script: str | None, output: Path, force: bool) -> None:
    """Write a commented job file for SCRIPT, with every key and its default.

    Without SCRIPT it is for train.py, or for the only Python script that is here.
    """
    from swarmtrain.job.made.example import init_text

    chosen = _script(script, output)
    text = init_text(script=chosen)
    if str(output) == "-":
        terminal.data(text.encode())
        return
    if output.exists() and not force:
        raise RequestError(f"{output} exists already", "--force replaces it, -o writes another file")
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RequestError(f"{output} cannot be written: {error.strerror}") from error
    which = "" if output == Path(DEFAULT_FILE) else f" -f {shlex.quote(str(output))}"
    missing = "" if (output.parent / chosen).exists() else ", which is not here yet"
    terminal.words(f"wrote {output} for {chosen}{missing}; start it with `swarmtrain run{which}`")


def _script(named: str | None, output: Path) -> str:
    """The script that the file is for, as the file names it: relative to where it lies.

    Raises:
        RequestError: it is not there, or nobody can tell which of several is meant.
    """
    there = sorted(path.name for path in Path().glob("*.py"))
    known = f"there is {', '.join(there)}" if there else "name the script that you have"
    if named is not None:
        if not Path(named).is_file():
            raise RequestError(f"there is no {named}", known)
        home = Path() if str(output) == "-" else output.parent
        script = os.path.relpath(named, home)
        if script.startswith(".."):
            raise RequestError(
                f"{named} lies outside of {home}, whose files would be sent",
                "write the job file beside it, with -o",
            )
        return script
    if len(there) > 1 and "train.py" not in there:
        raise RequestError(
            "there is more than one script here, and none is train.py", f"name one: {', '.join(there)}"
        )
    return "train.py" if "train.py" in there or not there else there[0]


@click.command(short_help="Print the JSON schema of the job file.")
def schema() -> None:
    """Print the JSON schema of the job file, with which editors check and complete it."""
    from swarmtrain.job.made.schema import schema_text

    terminal.data(schema_text().encode())


@click.command(short_help="Print a shell's completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a shell's completion script, which also completes the names of runs.

    \b
      echo 'eval "$(swarmtrain completion bash)"' >> ~/.bashrc
      echo 'eval "$(swarmtrain completion zsh)"' >> ~/.zshrc
      swarmtrain completion fish > ~/.config/fish/completions/swarmtrain.fish
    """
    from swarmtrain.ui.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None, "click completes these three"
    terminal.data(kind(cli, {}, "swarmtrain", "_SWARMTRAIN_COMPLETE").source().encode() + b"\n")
