"""An attached run on the terminal: output and events as they come, and the words at the end."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from swarmtrain.control.follow import Update
from swarmtrain.control.result import RunResult
from swarmtrain.control.views import ending, logs
from swarmtrain.control.views.folding import RootCauses
from swarmtrain.control.views.narration import Narration
from swarmtrain.errors import ClusterError, SwarmtrainError, TrainingError
from swarmtrain.protocol.evidence.diagnosis import Diagnosis
from swarmtrain.protocol.status import Status
from swarmtrain.ui import terminal
from swarmtrain.ui.quiet import QuietLines

if TYPE_CHECKING:
    from swarmtrain.control.handle import RunHandle
    from swarmtrain.ui.interrupt import Interrupt


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
