"""Usage errors as people read them: one sentence and one hint."""

from __future__ import annotations

import click


class Misused(click.UsageError):
    """A usage error with a hint of its own."""

    def __init__(self, message: str, hint: str, ctx: click.Context | None = None) -> None:
        super().__init__(message, ctx)
        self.hint = hint


def explain(error: click.UsageError) -> tuple[str, str]:
    """A usage error as a sentence and a hint."""
    message = error.format_message().strip().rstrip(".")
    path = error.ctx.command_path if error.ctx else "swarmtrain"
    hint = f"`{path} --help` shows what it takes"
    if isinstance(error, click.NoSuchOption):
        message = f"there is no option {error.option_name}"
        if error.possibilities:
            hint = f"did you mean {' or '.join(sorted(error.possibilities))}?"
    if isinstance(error, Misused):
        hint = error.hint
    return message[:1].lower() + message[1:], hint
