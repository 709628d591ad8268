"""An attached run on the terminal: output and events as they come, Ctrl-C, and the words at the end."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from swarmtrain.control.follow import Update
from swarmtrain.control.result import RunResult
from swarmtrain.control.views import ending, logs
from swarmtrain.control.views.folding import RootCauses
from swarmtrain.control.views.narration import Narration
from swarmtrain.errors import ClusterError, SwarmtrainError, TrainingError, in_short
from swarmtrain.protocol.evidence.diagnosis import Diagnosis
from swarmtrain.protocol.status import Status
from swarmtrain.ui import terminal
from swarmtrain.ui.quiet import QuietLines

if TYPE_CHECKING:
    from swarmtrain.control.handle import RunHandle


def follow(handle: RunHandle, interrupt: Interrupt, *, after: int = 0, tail: int | None = None) -> int:
    """Show a run until it has ended; return the exit code.

    Args:
        interrupt: what Ctrl-C means, taken over by the caller.
        after: leave out the events up to this number.
        tail: begin with this many of the last lines of its output.

    Raises:
        SwarmtrainError: the run does not get to its place, or is out of reach.
    """
    causes = RootCauses()
    lines = QuietLines(handle.id, causes.spares, logs.Look(colour=terminal.is_colourful(sys.stdout)))
    narration = Narration()
    status: Status | None = None
    try:
        interrupt.starting = False
        with lines:
            for update in handle.watch(after=after, tail=tail, unfinished=terminal.can_redraw()):
                if update.event is not None:
                    causes.hear(update.event)
                show(update, narration, lines)
                status = update.status or status
    except KeyboardInterrupt:
        terminal.below([])
        interrupt.leave()
        return interrupt.exit_code
    except BrokenPipeError:
        if interrupt.pressed:
            return interrupt.exit_code
        terminal.say(f"nobody reads this any more; {handle.id} goes on")
        raise
    if status is None or not status.has_ended:
        raise ClusterError(f"{handle.id} was lost sight of", f"`swarmtrain status {handle.id}` asks again")
    terminal.below([])
    terminal.words("")
    code = conclude(status, diagnosis_of(handle, status))
    return interrupt.exit_code if interrupt.pressed else code


def show(update: Update, narration: Narration, lines: QuietLines) -> None:
    """One update on the screen: output to one stream, words to the other."""
    if update.event is not None and (said := narration.tell(update.event)):
        terminal.say(said.text, terminal.TONES[said.tone] or terminal.DIM)
    if update.lines:
        lines.write(update.lines)
    if update.unfinished is not None:
        terminal.below([logs.labelled(line) for line in update.unfinished])
    if update.note:
        terminal.say(update.note)


def diagnosis_of(handle: RunHandle, status: Status) -> Diagnosis | None:
    """What is wrong with a run that has failed, where that can be asked: the end is told in any case."""
    if status.state != "failed":
        return None
    try:
        return handle.explain()
    except SwarmtrainError:
        return None


def conclude(status: Status, diagnosis: Diagnosis | None = None) -> int:
    """Say how a run ended; return the exit code."""
    if status.state == "failed":
        first, *rest = ending.failure(status, diagnosis)
        rest_is = ending.where_the_rest_is(status)
        hint = f"{rest_is} has the whole output" if rest_is else ""
        terminal.error(TrainingError("\n".join([first, *rest]), hint))
    else:
        first, *rest = ending.summary(status, time.time())
        terminal.words(first, terminal.GREEN if status.state == "succeeded" else terminal.YELLOW)
        for line in rest:
            terminal.words(line)
    return RunResult.of(status).exit_code


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
