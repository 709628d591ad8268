"""The trainer's words, by Python's logging: the logger ``swarmtrain.trainer``, whose messages are whole sentences.

What goes on is told at level INFO, on rank 0; what goes wrong at WARNING, on the rank that sees it. Where nobody has
set logging up, a handler of our own puts the former on standard output and the latter on standard error. Once anybody
has (``logging.basicConfig``, a handler of this logger or of one above it), it is silent, and theirs decide.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress

LOG = logging.getLogger("swarmtrain.trainer")


def speak() -> None:
    """Let people without a logging set-up read the words; called as a training or a script's snapshots begin."""
    if not LOG.hasHandlers():
        LOG.addHandler(_Plain())
        if LOG.level == logging.NOTSET:
            LOG.setLevel(logging.INFO)


def line(text: str) -> None:
    """A line on standard output, in place of a bar that may be there.

    One write a line: several processes may share this output. It may be a file on a disk that is full, as one on which
    no snapshot can be written: words are lost then, and nothing else.
    """
    with suppress(OSError):
        sys.stdout.write(f"\r\x1b[K{text}\n" if sys.stdout.isatty() else f"{text}\n")
        sys.stdout.flush()


class _Plain(logging.Handler):
    """As print would: the sentence alone; trouble with the name of who has it."""

    def emit(self, record: logging.LogRecord) -> None:
        if _others(LOG, self):
            return
        if record.levelno >= logging.WARNING:
            with suppress(OSError):
                sys.stderr.write(f"swarmtrain: {record.getMessage()}\n")
                sys.stderr.flush()
        else:
            line(record.getMessage())


def _others(logger: logging.Logger | None, ours: logging.Handler) -> bool:
    """Whether another handler than ours hears a logger."""
    while logger is not None:
        if any(each is not ours for each in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False
