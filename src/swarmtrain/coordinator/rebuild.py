"""What the journal knows of a run whose coordinator is started again; its agents tell the rest when they join again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from swarmtrain.coordinator.cause import Failure, describe_exit
from swarmtrain.coordinator.chronicle import Chronicle
from swarmtrain.coordinator.current import Before, Current
from swarmtrain.coordinator.generation import Generation
from swarmtrain.coordinator.journal import Event, Journal
from swarmtrain.coordinator.peers import Worker
from swarmtrain.coordinator.roll import Roll
from swarmtrain.coordinator.terms import Outcome, Phase
from swarmtrain.wire.clock import Clock

RECOVERY = 30.0  # seconds in which agents find a restarted coordinator again
RECOVERY_MOVED = 10.0  # the same where every agent that can has just handed over what it knew


@dataclass
class Past:
    """Where a run stands; the defaults are those of one that has just been submitted."""

    current: Current
    phase: Phase = Phase.GATHERING
    outcome: Outcome | None = None
    reason: str = ""
    causes: list[Failure] = field(default_factory=list)
    stop_asked: bool = False
    wanted: int | None = None
    not_before: float = 0.0  # monotonic time from which the next generation may form


def rebuild(journal: Journal, chronicle: Chronicle, roll: Roll, *, archive: bool, moved: bool) -> Past:
    """Read the journal; an empty one is that of a run that has just been submitted.

    Args:
        chronicle: is loaded.
        roll: learns what agents are called, and whom to expect back.
        archive: nobody leads this run any more.
        moved: the journal was handed over by the agents that are left.
    """
    if not journal.events:
        past = Past(Current(Generation(), journal, roll))
        if archive:
            past.phase, past.outcome = Phase.ENDED, Outcome.FAILED
            past.reason = "its start was cut off before its coordinator had begun"
        return past
    chronicle.load()
    formed, ended = journal.last("generation"), journal.last("ended")
    generation = Generation.load(formed) if formed is not None else Generation()
    started = journal.last("started")
    began = formed is not None and started is not None and started["seq"] > formed["seq"]
    current = Current(generation, journal, roll, "running" if began else "starting")
    current.began = began
    if ended is not None:
        current.workers = {worker["rank"]: Worker(**worker) for worker in ended["workers"]}
        causes = [Failure(**cause) for cause in ended.get("causes", ())]
        return Past(current, Phase.ENDED, Outcome(ended["outcome"]), ended["reason"], causes)
    if archive:
        reason = "its coordinator was killed, so nobody knows how it ended"
        return Past(current, Phase.ENDED, Outcome.FAILED, reason)
    joined = journal.all("joined")
    roll.recall(joined)
    resized = journal.last("resize")
    past = Past(
        current,
        stop_asked=journal.last("stop") is not None,
        wanted=resized["nodes"] if resized is not None else None,
    )
    if formed is not None and chronicle.waits(formed):
        regathered = journal.all("regather")[-1]
        past.not_before = journal.clock.moment(regathered["t"]) + regathered["wait"]
        return past
    _recall_failures(
        current,
        [e for e in journal.all("failure") if formed is None or e["seq"] > formed["seq"]],
        journal.clock,
    )
    if formed is None:
        return past
    past.phase, current.formed = Phase.RUNNING, journal.clock.moment(formed["t"])
    stopping = journal.last("stopping")
    if stopping is not None and stopping["seq"] > formed["seq"]:
        past.phase, current.before = Phase.STOPPING, Before(stopping["began"], stopping["step"])
        current.stops(stopping["order"])
    expected = time.monotonic() + (RECOVERY_MOVED if moved else RECOVERY)
    roll.peers = generation.absent_peers({event["node"]: event for event in joined}, expected)
    return past


def _recall_failures(current: Current, events: list[Event], clock: Clock) -> None:
    """What the current generation does not survive, as far as it is known already."""
    current.failures = [Failure(**event["failure"]) for event in events]
    if events:
        current.failed_at = clock.moment(events[0]["t"])
    for failure in current.failures:
        if failure.rank in current.workers and failure.kind != "hang":  # or its agent would say it again
            worker = current.workers[failure.rank]
            worker.state, worker.code = "exited", failure.code
            worker.exit = describe_exit(failure.code, failure.signal)
