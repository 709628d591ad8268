"""What Ctrl-C means while a run is started and shown, and how a person finds it again.

Beside the screen, which is imported when there is something to show: whoever starts a run waits for this alone.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from swarmtrain.errors import SwarmtrainError, in_short
from swarmtrain.ui import terminal

if TYPE_CHECKING:
    from swarmtrain.control.handle import RunHandle


class Interrupt:
    """What Ctrl-C means while a run is shown; SIGTERM, and SIGHUP of a terminal that is closed, mean the same.

    On a run that stops with us the first one asks the run to stop and goes on showing it, so that its last words
    are seen; the second one kills it. On any other run the first one just goes away.

    Args:
        stops: it is a run that stops with us.

    Attributes:
        pressed: how often.
        number: the last signal.
        starting: there is nothing yet that could stop in order.
    """

    def __init__(self, handle: RunHandle, *, stops: bool) -> None:
        self._handle = handle
        self._stops = stops
        self.number = int(signal.SIGINT)
        self.pressed = 0
        self.starting = True

    @property
    def exit_code(self) -> int:
        """That of a process which was ended by such a signal: 130 for Ctrl-C."""
        return 128 + self.number

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Take the signals over; KeyboardInterrupt comes out when it is time to go."""
        with _handling(self._press):
            yield

    def leave(self) -> None:
        """Say what becomes of the run, and end it where it ends with us."""
        if self._stops:
            from concurrent.futures import ThreadPoolExecutor

            # One more Ctrl-C must not leave half of it, nor may it wait for whoever reads our output.
            with _handling(_nothing), ThreadPoolExecutor(1) as pool:
                killing = pool.submit(self._handle.kill)
                terminal.say(f"killing {self._handle.id}")
                killing.result()
            return
        terminal.say(f"left {self._handle.id}, which goes on")
        terminal.words(f"\n{come_back(self._handle)}")

    def _press(self, number: int, frame: object) -> None:
        self.pressed += 1
        self.number = number
        if number == signal.SIGHUP:
            terminal.hang_up()
        if self.starting or not self._stops or self.pressed > 1:
            raise KeyboardInterrupt
        how = "Ctrl-C again kills it" if number == signal.SIGINT else signal.Signals(number).name
        threading.Thread(target=self._stop, name="stop", daemon=True).start()
        terminal.say_between(f"stopping {self._handle.id} ({how})")

    def _stop(self) -> None:
        try:
            self._handle.stop()
        except SwarmtrainError as error:
            terminal.say(f"{self._handle.id} could not be stopped: {in_short(error)}")


def _nothing(number: int, frame: object) -> None:
    """A handler; unlike SIG_IGN it is not inherited by what is started meanwhile."""


@contextmanager
def _handling(handler: Callable[[int, object], None]) -> Iterator[None]:
    """Take the signals over by which people end a program; those that it was started to ignore stay ignored (nohup)."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    taken = {number: each for number, each in before.items() if each not in (signal.SIG_IGN, None)}
    for number in taken:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, each in taken.items():
            signal.signal(number, each)


def come_back(handle: RunHandle) -> str:
    """How a person finds a run again, in lines."""
    return "\n".join(
        [
            f"  watch it again   swarmtrain attach {handle.id}",
            f"  see its state    swarmtrain status {handle.id}",
            f"  stop it          swarmtrain stop {handle.id}",
        ]
    )
