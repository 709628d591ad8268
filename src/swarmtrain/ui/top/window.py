"""The terminal of the live screen: another page of it, keys as they are pressed, and all of it back as it was.

What was changed is undone whatever ends the program, but for SIGKILL: Ctrl-C, SIGTERM and SIGHUP come as exceptions
(`ui/cli.py`). It is undone through descriptors of its own: those of a terminal that hangs up lead nowhere by then.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
from collections.abc import Iterator, Sequence
from types import FrameType

from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from swarmtrain.control.views.clean import clean
from swarmtrain.ui.top.frame import FrameSize
from swarmtrain.ui.top.keys import keys_in

# xterm: another page, no cursor, and no line that goes on in the next row by itself.
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
_LEAVE = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_USUAL = os.terminal_size((80, 24))


class Wake:
    """Lets another thread, or a signal, end a wait for keys."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)
        os.set_blocking(self.writing, False)

    def wake(self) -> None:
        """End the wait, or the next one."""
        with contextlib.suppress(BlockingIOError):  # it is as good as ended
            os.write(self.writing, b"\0")

    def heard(self) -> bytes:
        """Why it was ended: zeros, and the numbers of signals."""
        try:
            return os.read(self.reading, 1 << 12)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Close both ends."""
        os.close(self.reading)
        os.close(self.writing)


class TopWindow:
    """The terminal while it shows a run; made by `opened`.

    Args:
        out: a descriptor that is drawn on.
        keys: one that keys come from; None where there are none.
    """

    def __init__(self, out: int, keys: int | None, wake: Wake, *, colour: bool) -> None:
        self._out, self._keys, self._wake = out, keys, wake
        self._paint = Painter(colour=colour)
        self._before = termios.tcgetattr(keys) if keys is not None else None
        self._shown: list[str] = []
        self._size: FrameSize | None = None

    def enter(self) -> None:
        """Take the terminal over."""
        if self._keys is not None and self._before is not None:
            wanted = [*self._before]
            wanted[3] &= ~(termios.ICANON | termios.ECHO)
            termios.tcsetattr(self._keys, termios.TCSANOW, wanted)
        self._shown, self._size = [], None
        self._write(_ENTER)

    def leave(self) -> None:
        """Give it back as it was, as far as it is still there."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # one more must not leave half of it
        with contextlib.suppress(OSError):
            self._write(_LEAVE)
        if self._keys is not None and self._before is not None:
            with contextlib.suppress(termios.error, OSError):
                termios.tcsetattr(self._keys, termios.TCSANOW, self._before)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def size(self) -> FrameSize:
        """How large it is now."""
        try:
            found = os.get_terminal_size(self._out)
        except OSError:
            found = _USUAL
        size = found if found.columns and found.lines else _USUAL
        return FrameSize(size.columns, size.lines)

    def draw(self, lines: Sequence[Text], size: FrameSize) -> None:
        """Show these lines; only those are written that have changed."""
        painted = [self._paint(line) for line in lines]
        text = ""
        if size != self._size:
            text, self._shown, self._size = "\x1b[0m\x1b[2J", [], size
        before = [*self._shown, *[""] * (len(painted) - len(self._shown))]
        for row, (line, old) in enumerate(zip(painted, before, strict=False), 1):
            if line != old:
                text += f"\x1b[{row};1H{line}\x1b[0m\x1b[K"
        self._shown = painted
        if text:
            self._write(text)

    def redraw(self) -> None:
        """Draw everything anew the next time: who knows what stands there."""
        self._size = None

    def wait(self, seconds: float) -> list[str] | None:
        """The keys that are pressed within so long, or until something else happens; None where nobody is there."""
        watched = [self._wake.reading, *([self._keys] if self._keys is not None else [])]
        ready, _, _ = select.select(watched, [], [], seconds)
        if self._wake.reading in ready and signal.SIGTSTP in self._wake.heard():
            self._suspend()
        if self._keys is None or self._keys not in ready:
            return []
        try:
            data = os.read(self._keys, 1 << 10)
        except OSError:
            data = b""
        return list(keys_in(data)) if data else None

    def _suspend(self) -> None:
        """Ctrl-Z: the shell has the terminal as it was, until it goes on."""
        self.leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self.enter()

    def _write(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        while data:
            data = data[os.write(self._out, data) :]


@contextlib.contextmanager
def opened(wake: Wake, *, colour: bool) -> Iterator[TopWindow]:
    """The terminal on the standard output, taken over, and given back whatever happens. Raises OSError."""
    with contextlib.ExitStack() as stack:
        out = os.dup(sys.stdout.fileno())
        stack.callback(os.close, out)
        keys = _keyboard()
        if keys is not None:
            stack.callback(os.close, keys)
        window = TopWindow(out, keys, wake, colour=colour)
        stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(wake.writing, warn_on_full_buffer=False))
        for number in (signal.SIGWINCH, signal.SIGTSTP):
            if signal.getsignal(number) != signal.SIG_IGN:  # nobody can stop it, in some places
                stack.callback(signal.signal, number, signal.signal(number, _nothing))
        stack.callback(window.leave)
        window.enter()
        yield window


class Painter:
    """Makes of a line what a terminal takes.

    Args:
        colour: without it only the text stays.
    """

    def __init__(self, *, colour: bool) -> None:
        self._colour, self._console = colour, Console()

    def __call__(self, line: Text) -> str:
        if not self._colour:
            return clean(line.plain, colour=False)
        return "".join(self._painted(segment) for segment in line.render(self._console))

    def _painted(self, segment: Segment) -> str:
        # Once more, where it leaves: no colour but ours gets through, and nothing else that a terminal obeys.
        text = clean(segment.text, colour=False)
        return segment.style.render(text, color_system=ColorSystem.STANDARD) if segment.style else text


def _keyboard() -> int | None:
    """Where keys come from: the standard input, or the terminal itself where that is something else."""
    if sys.stdin.isatty():
        return os.dup(sys.stdin.fileno())
    try:
        return os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return None


def _nothing(number: int, frame: FrameType | None) -> None:
    """A handler: the wait hears of the signal."""
