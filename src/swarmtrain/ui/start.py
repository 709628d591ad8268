"""The commands that help to begin: init, schema, completion."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import get_completion_class

from swarmtrain.errors import RequestError
from swarmtrain.ui import terminal


@click.command(short_help="Write a commented job file.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("swarmtrain.yaml"),
    show_default=True,
    help="The file to write; - for the standard output.",
)
@click.option("--force", is_flag=True, help="Replace the file if there is one.")
@click.argument("script", required=False)
def init(script: str | None, output: Path, force: bool) -> None:
    """Write a commented job file for SCRIPT, with every key and its default."""
    from swarmtrain.job.example import init_text

    text = init_text(script=script or _only_script() or "train.py")
    if str(output) == "-":
        terminal.data(text.encode())
        return
    if output.exists() and not force:
        raise RequestError(f"{output} exists already", "--force replaces it, -o writes another file")
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RequestError(f"{output} cannot be written: {error.strerror}") from error
    terminal.words(f"wrote {output}; start it with `swarmtrain run -f {output}`")


def _only_script() -> str:
    """The one Python script of the current directory, where there is one."""
    scripts = sorted(path.name for path in Path().glob("*.py"))
    return scripts[0] if len(scripts) == 1 else ""


@click.command(short_help="Print the JSON schema of the job file.")
def schema() -> None:
    """Print the JSON schema of the job file, with which editors check and complete it."""
    from swarmtrain.job.schema import schema_text

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
