"""Carries out a plan of faults on a run, and undoes what lasts.

    report = Chaos(handle, place_of(handle), plan, tell=print).run()
    assert report.ok, report.failed

One thread for each fault that is under way: it writes the fault to the run's journal, does it, waits, undoes it. The
main loop only looks what is due. The run's status comes over one connection that is held open and opened again.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from swarmtrain.control.chaos.faults import KINDS, RANDOM, Fault, FaultPlan, FaultSchedule, Occurrence, choose
from swarmtrain.control.follow import Follower
from swarmtrain.errors import SwarmtrainError, in_short
from swarmtrain.protocol.ask import ask
from swarmtrain.protocol.requests import NoteRequest
from swarmtrain.protocol.status import Status

if TYPE_CHECKING:
    from swarmtrain.control.chaos.sites import Saboteur
    from swarmtrain.control.handle import RunHandle
    from swarmtrain.launchers.base import Undo

_TICK = 0.1  # seconds
_PATIENCE = 10.0  # seconds for a target to appear: a run that recovers has no workers for a moment
_NOTE_SECONDS = 5.0  # for the journal: the coordinator may be what is broken
_NOTE_AGAIN = 0.5
_UNDO_SECONDS = 120.0  # at the end, for everything to be as it was: a machine of a lab needs some to start
_NO_EVENTS = 1 << 40


@dataclass(frozen=True)
class Happening:
    """One thing that was done, or could not be.

    Args:
        t: Unix time. step: the run's newest step then.
        what: ``fault``, ``undone``, ``failed`` or ``skipped``.
        target: a rank or a node, as text; empty for the coordinator.
        text: a sentence.
    """

    t: float
    step: int | None
    what: str
    kind: str
    target: str
    text: str
    hint: str = ""


@dataclass
class Report:
    """What came of a plan."""

    happenings: list[Happening] = field(default_factory=list)
    missed: list[Fault] = field(default_factory=list)  # never due: the run ended before

    @property
    def failed(self) -> list[Happening]:
        """What could not be carried out or undone."""
        return [each for each in self.happenings if each.what == "failed"]

    @property
    def ok(self) -> bool:
        """Whether everything that was due was carried out and undone."""
        return not self.failed


class Chaos:
    """One plan on one run. Call `run` once.

    Args:
        tell: is told everything that happens, as it happens, from several threads but never from two at once.
    """

    def __init__(
        self,
        handle: RunHandle,
        place: Saboteur,
        plan: FaultPlan,
        tell: Callable[[Happening], object] = lambda happening: None,
    ) -> None:
        self._handle, self._place, self._plan, self._tell = handle, place, plan, tell
        self._schedule = FaultSchedule(plan)
        self._report = Report()
        self._lock = threading.Lock()
        self._held: dict[Occurrence, str] = {}  # the nodes on which something lasts: nothing random hits them
        # power that was cut for good: node and way back
        self._lasting: dict[Occurrence, tuple[str, Undo]] = {}
        self._threads: list[threading.Thread] = []
        self._release = threading.Event()  # what lasts is undone now
        self._status: Status | None = None
        self._over = threading.Event()
        self._stopped = False
        self._notes: queue.SimpleQueue[tuple[float, str, threading.Event] | None] = queue.SimpleQueue()
        self._notes_until = math.inf  # until when they are tried to be said
        self._is_unheard = False  # the coordinator does not take notes just now

    def check(self) -> None:
        """Refuse, before anything happens, what cannot happen here. Raises ClusterError."""
        for fault in self._plan.faults:
            self._place.check(fault)

    def run(self) -> Report:
        """Until the plan is done or the run has ended; everything that lasts is undone then.

        `stop`, or a KeyboardInterrupt in the calling thread, ends it early; then also power that was cut for good is
        brought back.

        Raises:
            ClusterError: something in the plan cannot happen here; nothing has happened. KeyboardInterrupt: as above.
        """
        self.check()
        follower = threading.Thread(target=self._follow, name="status", daemon=True)
        follower.start()
        notes = threading.Thread(target=self._write_notes, name="notes", daemon=True)
        notes.start()
        is_early = True
        try:
            self._loop()
            is_early = self._stopped
        finally:
            self._over.set()
            self._release.set()
            for thread in self._threads:
                thread.join(_UNDO_SECONDS)
            if is_early:
                self._undo_lasting()
            self._notes_until = time.monotonic() + _NOTE_SECONDS
            self._notes.put(None)
            notes.join(2 * _NOTE_SECONDS)
        self._report.missed = self._schedule.missed()
        return self._report

    def stop(self) -> None:
        """Undo everything, and let `run` return; from any thread."""
        self._stopped = True
        self._over.set()

    # ---- when ----------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        began: float | None = None
        while not self._over.wait(_TICK):
            status = self._status
            if status is None:
                continue
            if status.has_ended:
                return
            if began is None:
                if status.started is None:
                    continue  # the plan's clock starts with the run
                began = time.monotonic()
            for occurrence in self._schedule.due(time.monotonic() - began, status.step):
                thread = threading.Thread(target=self._carry_out, args=(occurrence,), daemon=True)
                self._threads.append(thread)
                thread.start()
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            if not self._schedule.waiting() and not self._threads:
                return

    def _follow(self) -> None:
        """Keep the status fresh, however often the coordinator goes away."""
        while not self._over.is_set():
            try:
                follower = Follower(self._handle.launcher, self._handle.run, after=_NO_EVENTS, output=False)
                for update in follower:
                    self._status = update.status or self._status
                    if self._over.is_set():
                        return
            except SwarmtrainError:
                pass  # it may itself be what was broken: asked again
            self._over.wait(1.0)

    # ---- what ----------------------------------------------------------------------------------------------------

    def _carry_out(self, occurrence: Occurrence) -> None:
        fault = occurrence.fault
        target = self._target(occurrence)
        if target is None:
            return
        undo: Undo | None = None
        try:
            self._note(fault.sentence(target))
            assert self._status is not None, "a target was found in it"
            undo = self._place.inflict(fault, target, self._status)
            self._happened("fault", fault, target, fault.sentence(target))
            if fault.kind == "power-on":
                self._forget_power_cut(target)
            if undo is not None and fault.seconds is not None:
                self._release.wait(fault.seconds)
                self._undo(fault, target, undo)
            elif undo is not None:
                self._lasting[occurrence] = target, undo
        except (SwarmtrainError, OSError) as error:
            self._failed(fault, target, "", error)
        finally:
            if occurrence not in self._lasting:
                with self._lock:
                    self._held.pop(occurrence, None)

    def _target(self, occurrence: Occurrence) -> str | None:
        """What to hit, reserved for this fault; None, and said why, where there is nothing."""
        fault = occurrence.fault
        deadline = time.monotonic() + _PATIENCE
        while True:
            with self._lock:
                found = self._candidates(fault)
                if found:
                    target = choose(occurrence.draw, found)
                    if KINDS[fault.kind].end:
                        self._held[occurrence] = self._node_of(fault, target)
                    return target
            if time.monotonic() > deadline or self._over.is_set():
                why = (
                    "no rank or node to choose" if fault.target == RANDOM else f"{fault.target} is not there"
                )
                what = "skipped" if fault.target == RANDOM or self._over.is_set() else "failed"
                self._happened(what, fault, fault.target, f"{fault.kind}: {why}")
                return None
            time.sleep(_TICK)

    def _candidates(self, fault: Fault) -> Sequence[str]:
        """What a fault can hit now, in a fixed order; a random one leaves alone where something lasts already."""
        kind, status = KINDS[fault.kind].target, self._status
        if status is None:
            return []
        if not kind:
            return [""]
        is_free, held = fault.target == RANDOM, set(self._held.values())
        if kind == "rank":
            return [
                str(worker.rank)
                for worker in status.workers
                if worker.state == "running"
                and (worker.node not in held if is_free else fault.target == str(worker.rank))
            ]
        nodes = [each.node for each in status.members]
        if not is_free:
            return [node for node in nodes if node == fault.target]
        here = {each.node for each in status.members if each.state in ("joined", "running")}
        return self._place.nodes(fault.kind, sorted(here - held))

    def _node_of(self, fault: Fault, target: str) -> str:
        """The node that a fault is on."""
        if KINDS[fault.kind].target != "rank" or self._status is None:
            return target
        return next((each.node for each in self._status.workers if str(each.rank) == target), "")

    def _undo(self, fault: Fault, target: str, undo: Undo) -> None:
        text = fault.ending(target)
        try:
            undo()
        except (SwarmtrainError, OSError) as error:
            self._failed(fault, target, "its end", error)
            return
        self._happened("undone", fault, target, text)
        self._note(text)

    def _undo_lasting(self) -> None:
        while self._lasting:
            occurrence, (node, undo) = self._lasting.popitem()
            self._undo(occurrence.fault, node, undo)

    def _forget_power_cut(self, node: str) -> None:
        """The power of a node is back by another fault of the plan."""
        with self._lock:
            for occurrence in [each for each, (off, _) in self._lasting.items() if off == node]:
                del self._lasting[occurrence]
                self._held.pop(occurrence, None)

    # ---- said ----------------------------------------------------------------------------------------------------

    def _failed(self, fault: Fault, target: str, part: str, error: SwarmtrainError | OSError) -> None:
        hint = error.hint if isinstance(error, SwarmtrainError) else ""
        what = " ".join(filter(None, [fault.kind, target and f"({KINDS[fault.kind].target} {target})", part]))
        self._happened("failed", fault, target, f"{what}: {in_short(error)}", hint)
        self._note(f"{what} could not be done: {in_short(error)}")

    def _happened(self, what: str, fault: Fault, target: str, text: str, hint: str = "") -> None:
        step = self._status.step if self._status is not None else None
        happening = Happening(time.time(), step, what, fault.kind, target, text, hint)
        with self._lock:
            self._report.happenings.append(happening)
            try:
                self._tell(happening)
            except OSError:  # nobody reads any more, or a full disk does: faults are undone all the same
                self._tell = lambda happening: None

    def _note(self, text: str) -> None:
        """To the run's journal, now if its coordinator can be reached, else when it is back."""
        tried = threading.Event()
        self._notes.put((time.monotonic(), text, tried))
        if not self._is_unheard:
            tried.wait(_NOTE_SECONDS)

    def _write_notes(self) -> None:
        while (note := self._notes.get()) is not None:
            when, text, tried = note
            while not self._write(text, time.monotonic() - when):
                self._is_unheard = True
                tried.set()
                if time.monotonic() > self._notes_until:
                    return  # whoever watched the command has been told all the same
                time.sleep(_NOTE_AGAIN)
            self._is_unheard = False
            tried.set()

    def _write(self, text: str, late: float) -> bool:
        ago = f" ({late:.0f} s ago)" if late > _NOTE_SECONDS else ""
        try:
            with self._handle.launcher.connect(self._handle.run) as link:
                for _ in ask(link, NoteRequest("chaos", f"chaos: {text}{ago}")):
                    pass
        except SwarmtrainError:
            return False  # its coordinator may be what is broken
        return True
