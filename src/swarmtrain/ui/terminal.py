"""Where words and data go: data to the standard output, words to the standard error.

Colour is used on a terminal only, and not where NO_COLOR is set. Whatever strangers put into a sentence, a row or a
line, nothing of it drives the terminal: all but `data` goes through `views.clean`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import stat
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

from swarmtrain.control.views.clean import clean, clean_lines
from swarmtrain.ui.below import Below

if TYPE_CHECKING:
    from swarmtrain.control.views.view import Table
    from swarmtrain.errors import SwarmtrainError

_BELOW = Below()  # there is one bottom of the screen
_PATIENCE = 2.0  # seconds
_turn = threading.RLock()  # held by whoever writes: output that was held back comes from a thread of its own
_writes = 0  # that are on their way
_later: list[str] = []  # what is said when they are done
BOLD, DIM, RED, GREEN, CYAN, YELLOW = "1", "2", "1;31", "1;32", "36", "33"
TONES = {"plain": "", "good": GREEN, "bad": YELLOW}


def is_colourful(stream: IO[Any]) -> bool:
    """Whether colour helps on this stream. See https://no-color.org."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return is_terminal(stream)


def hang_up() -> None:
    """The terminal is gone: what would still be written to it goes nowhere, instead of being an error."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        if stat.S_ISCHR(os.fstat(descriptor).st_mode):
            os.dup2(nowhere, descriptor)
    os.close(nowhere)


def keeps_colour(stream: IO[Any]) -> bool:
    """Whether colours that workers print stay: everywhere but where somebody has said, or shown, that they hurt."""
    return is_colourful(stream) or not (is_terminal(stream) or os.environ.get("NO_COLOR"))


def is_terminal(stream: IO[Any]) -> bool:
    """Whether a person looks at it."""
    try:
        return stream.isatty()
    except ValueError:
        return False  # it is closed


def paint(text: str, style: str, stream: IO[Any]) -> str:
    """The text in this style where the stream shows colour."""
    return f"\x1b[{style}m{text}\x1b[0m" if style and is_colourful(stream) else text


def words(text: str, style: str = "") -> None:
    """A sentence for the person, on the standard error; after everything that was put out before."""
    line = paint(clean_lines(text), style, sys.stderr) + "\n"
    with _above():
        with contextlib.suppress(BrokenPipeError):  # what nobody reads any more is in nobody's way
            sys.stdout.flush()
        sys.stderr.buffer.write(line.encode("utf-8", "surrogateescape"))
        sys.stderr.buffer.flush()


def say(text: str, style: str = DIM) -> None:
    """What swarmtrain does or has chosen, dim among the workers' lines."""
    words(f"swarmtrain: {text}", style)


def say_between(text: str) -> None:
    """The same from a signal's handler: it may have come in the middle of a write, into which no other one may fall."""
    if _writes:
        _later.append(text)
    else:
        say(text)


def warn(text: str) -> None:
    """What a person should know before believing the rest."""
    words(f"{paint('warning:', YELLOW, sys.stderr)} {text}")


def data(text: bytes) -> None:
    """Bytes on the standard output, as they are."""
    with _above():
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()


def can_redraw() -> bool:
    """Whether lines on the standard output can be drawn anew."""
    return is_terminal(sys.stdout) and os.environ.get("TERM", "dumb") != "dumb"


def below(lines: Sequence[str]) -> None:
    """Lines that go on, in place of those before: they stay below whatever is written. See `can_redraw`."""
    _BELOW.replace(lines, shutil.get_terminal_size())
    with _above():
        pass


@contextlib.contextmanager
def _above() -> Iterator[None]:
    """Make room for something, and put the lines that go on below it again; then say what had to wait for that."""
    global _writes
    with _alone():
        _writes += 1
        try:
            _raw(_BELOW.erase())
            try:
                yield
            finally:
                _raw(_BELOW.draw())
        finally:
            _writes -= 1
    while _later and not _writes:
        say(_later.pop(0))


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """While no other thread writes; one that waits for a reader that does not read is not waited for."""
    is_mine = _turn.acquire(timeout=_PATIENCE)
    try:
        yield
    finally:
        if is_mine:
            _turn.release()


def _raw(text: str) -> None:
    if text:
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        sys.stdout.buffer.flush()


def lines(texts: Iterable[str]) -> None:
    """Lines on the standard output."""
    data("".join(f"{clean(text)}\n" for text in texts).encode("utf-8", "surrogateescape"))


def document(value: Any) -> None:
    """JSON for people and programs, on the standard output."""
    lines([json.dumps(value, indent=2)])


def record(value: Any) -> None:
    """JSON on one line, for streams of them."""
    lines([json.dumps(value, separators=(",", ":"))])


def table(content: Table) -> None:
    """Aligned columns on the standard output; never wrapped or cut, so that pipes get whole rows."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    colourful = is_colourful(sys.stdout)
    console = Console(
        file=io.StringIO(),
        width=1 << 12,
        force_terminal=colourful,
        color_system="standard" if colourful else None,
    )
    drawn = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in content.columns:
        drawn.add_column(heading, no_wrap=True, overflow="ignore")
    for row in content.rows:
        drawn.add_row(*(Text(clean(cell, colour=False)) for cell in row))
    with console.capture() as capture:
        console.print(drawn)
    lines(line.rstrip() for line in capture.get().splitlines())


def error(error: SwarmtrainError) -> None:
    """What went wrong, an empty line, and what to do about it: as ``str`` of the error, in colour."""
    words(f"{paint('error:', RED, sys.stderr)} {error.message}")
    if error.hint:
        words("")
        hint(error.hint)


def hint(text: str) -> None:
    """What to do about what was said last."""
    words(f"{paint('hint:', CYAN, sys.stderr)} {text}")
