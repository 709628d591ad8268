"""A command of swarmtrain on a terminal of its own: what it shows, keys for it, another size, signals, and its end."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

from full_screen import FullScreen

_END = re.compile(r"\x1b(?:\[[\d;?]*)?\Z")
SWARMTRAIN = str(Path(sys.executable).with_name("swarmtrain"))


class OnTerminal:
    """A command that runs on a real pseudo-terminal.

    Attributes:
        screen: what stands on it.
        process: the command.
    """

    def __init__(self, *words: str, columns: int = 80, rows: int = 24, **environment: str) -> None:
        self.screen = FullScreen(columns, rows)
        self._master, slave = pty.openpty()
        self._size(columns, rows)
        self.before = termios.tcgetattr(slave)
        self._slave = slave  # kept open: its settings are looked at when the command has ended
        self.process = subprocess.Popen(
            [SWARMTRAIN, *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_take_terminal,
            env={**os.environ, "TERM": "xterm-256color", **environment},
        )
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._begun = ""  # a sequence whose rest has not come yet

    def press(self, keys: str) -> None:
        """Type something."""
        os.write(self._master, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        """Make the window another size."""
        self.read(0.1)
        self.screen.resize(columns, rows)
        self._size(columns, rows)

    def read(self, seconds: float = 0.0) -> bool:
        """Take what it has written; whether there was anything within so long."""
        ready, _, _ = select.select([self._master], [], [], seconds)
        if not ready:
            return False
        try:
            text = self._begun + self._decoder.decode(os.read(self._master, 1 << 16))
        except OSError:
            return False  # nobody has it open any more
        end = _END.search(text)
        self._begun = end[0] if end else ""
        self.screen.write(text[: len(text) - len(self._begun)])
        return True

    def until(self, holds: Callable[[str], object], seconds: float = 20.0, what: str = "it") -> str:
        """Wait until this holds of what is shown; return that."""
        limit = time.monotonic() + seconds
        while not holds(self.screen.shown()):
            assert time.monotonic() < limit, f"{what} did not happen:\n{self.screen.shown()}"
            self.read(0.1)
        return self.screen.shown()

    def shows(self, *texts: str, seconds: float = 20.0) -> str:
        """Wait until all of these are shown."""
        return self.until(lambda shown: all(text in shown for text in texts), seconds, f"{texts}")

    def ends(self, seconds: float = 20.0) -> int:
        """Wait for its end; return the exit status, negative for a signal."""
        limit = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < limit, f"it goes on:\n{self.screen.shown()}"
            self.read(0.05)
        while self.read(0.1):
            pass
        return self.process.returncode

    def is_as_before(self) -> bool:
        """Whether the terminal is as it was: page, cursor, wrapping, echo and all its other settings."""
        return self.screen.modes == {7, 25} and termios.tcgetattr(self._slave) == self.before

    def hang_up(self) -> None:
        """Close the terminal, as a lost connection does."""
        os.close(self._slave)
        os.close(self._master)
        self._master = self._slave = -1

    def close(self) -> None:
        """End it in any case."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self._master >= 0:
            self.hang_up()

    def _size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _take_terminal() -> None:
    """Make the terminal the one that the command belongs to, so that its keys are signals."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
