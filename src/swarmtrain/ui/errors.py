"""Usage errors as people read them: one sentence and one hint."""

from __future__ import annotations

import difflib

import click

from swarmtrain.errors import RequestError


class Misused(click.UsageError):
    """A usage error with a hint of its own.

    Outside of the tree: click raises its kind, and `explain` makes one of ours of both.
    """

    def __init__(self, message: str, hint: str, ctx: click.Context | None = None) -> None:
        super().__init__(message, ctx)
        self.hint = hint


class Group(click.Group):
    """A group that answers an unknown command with the nearest one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but for the words of the mistake."""
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            raise Misused(f"there is no command {args[0]!r}", self.suggestion(ctx, args[0]), ctx)
        return super().resolve_command(ctx, args)

    def suggestion(self, ctx: click.Context, word: str) -> str:
        """What may have been meant by a word that is no command."""
        near = difflib.get_close_matches(word, self.list_commands(ctx), n=1)
        path = ctx.command_path
        return f"did you mean `{path} {near[0]}`?" if near else f"`{path} --help` lists the commands"


def explain(error: click.UsageError) -> RequestError:
    """A usage error as one of ours, with a hint."""
    message = error.format_message().strip().rstrip(".")
    path = error.ctx.command_path if error.ctx else "swarmtrain"
    hint = f"`{path} --help` shows what it takes"
    if isinstance(error, click.NoSuchOption):
        message = f"there is no option {error.option_name}"
        if error.possibilities:  # the nearest comes first
            hint = f"did you mean {error.possibilities[0]}?"
    if isinstance(error, Misused):
        hint = error.hint
    return RequestError(message[:1].lower() + message[1:], hint)
