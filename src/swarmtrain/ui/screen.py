"""An attached run on the terminal: output and events as they come, Ctrl-C, and the words at the end."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from swarmtrain.control import ending, logs
from swarmtrain.control.follow import Update, has_ended
from swarmtrain.control.result import RunResult, Status
from swarmtrain.control.story import Story
from swarmtrain.errors import ClusterError, SwarmtrainError
from swarmtrain.ui import terminal

if TYPE_CHECKING:
    from swarmtrain.control.handle import RunHandle

INTERRUPTED = 130


def follow(handle: RunHandle, *, stops: bool, after: int = 0, tail: int | None = None) -> int:
    """Show a run until it has ended; return the exit code.

    Args:
        stops: Ctrl-C stops the run; otherwise it leaves the run alone and goes away.
        after: leave out the events up to this number.
        tail: begin with this many of the last lines of its output.

    Raises:
        SwarmtrainError: the run does not get to its place, or is out of reach.
    """
    interrupt = Interrupt(handle, stops=stops)
    story = Story()
    status: Status | None = None
    try:
        with interrupt.armed():
            for update in handle.watch(after=after, tail=tail):
                show(update, story)
                status = update.status or status
    except KeyboardInterrupt:
        interrupt.leave()
        return INTERRUPTED
    except BrokenPipeError:
        terminal.say(f"nobody reads this any more; {handle.id} goes on")
        raise
    if status is None or not has_ended(status):
        raise ClusterError(f"{handle.id} was lost sight of", f"`swarmtrain status {handle.id}` asks again")
    terminal.words("")
    code = conclude(status)
    return INTERRUPTED if interrupt.pressed else code


def show(update: Update, story: Story) -> None:
    """One update on the screen: output to one stream, words to the other."""
    if update.event is not None and (said := story.tell(update.event)):
        terminal.say(said.text, terminal.TONES[said.tone] or terminal.DIM)
    if update.lines:
        terminal.data(logs.render(update.lines, colour=terminal.is_colourful(sys.stdout)))
    if update.note:
        terminal.say(update.note)


def conclude(status: Status) -> int:
    """Say how a run ended; return the exit code."""
    if status["state"] == "failed":
        first, *rest = ending.failure(status)
        rest_is = ending.where_the_rest_is(status)
        terminal.error("\n".join([first, *rest]), f"{rest_is} has the whole output" if rest_is else "")
    else:
        first, *rest = ending.summary(status, time.time())
        terminal.words(first, terminal.GREEN if status["state"] == "succeeded" else terminal.YELLOW)
        for line in rest:
            terminal.words(line)
    return RunResult.of(status).exit_code


class Interrupt:
    """What Ctrl-C means while a run is shown.

    On a run that stops with us the first one asks the run to stop and goes on showing it, so that its last words
    are seen; the second one kills it. On any other run the first one just goes away.
    """

    def __init__(self, handle: RunHandle, *, stops: bool) -> None:
        self._handle = handle
        self._stops = stops
        self.pressed = 0

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Take Ctrl-C over; KeyboardInterrupt comes out when it is time to go."""
        before = signal.signal(signal.SIGINT, lambda *_: self._press())
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def leave(self) -> None:
        """Say what becomes of the run, and end it where it ends with us."""
        if self._stops:
            terminal.say(f"killing {self._handle.id}")
            self._handle.kill()
            return
        terminal.say(f"left {self._handle.id}, which goes on")
        terminal.words(f"\n{come_back(self._handle)}")

    def _press(self) -> None:
        self.pressed += 1
        if not self._stops or self.pressed > 1:
            raise KeyboardInterrupt
        terminal.say(f"stopping {self._handle.id} (Ctrl-C again kills it)")
        threading.Thread(target=self._stop, name="stop", daemon=True).start()

    def _stop(self) -> None:
        try:
            self._handle.stop()
        except SwarmtrainError as error:
            terminal.say(f"{self._handle.id} could not be stopped: {error.message}")


def come_back(handle: RunHandle) -> str:
    """How a person finds a run again, in lines."""
    return "\n".join(
        [
            f"  watch it again   swarmtrain attach {handle.id}",
            f"  see its state    swarmtrain status {handle.id}",
            f"  stop it          swarmtrain stop {handle.id}",
        ]
    )
