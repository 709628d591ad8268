"""The end of a run in which much failed, with much to say each, reaches its agents and whoever asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from agent_fakes import agent_in
from run_fakes import Ear, Theatre, WireMessages, exited, join

from swarmtrain.agent.journal_copy import JournalCopy
from swarmtrain.coordinator.clients.status import status
from swarmtrain.coordinator.core.root_cause import in_brief
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.coordinator.run.members import ConnectedAgent
from swarmtrain.protocol.codec import dump
from swarmtrain.protocol.facts import Failure
from swarmtrain.protocol.from_agent import WorkerEnd, WorkerError, WorkerReport
from swarmtrain.protocol.journal.remarks import Chosen
from swarmtrain.protocol.replies import RunReply
from swarmtrain.wire import frames

RANKS = 40
TRACEBACK = "é" * 60_000  # the longest, in letters that take six bytes each
LATE = {"summary": "ValueError: as rank 0", "traceback": TRACEBACK}


class Wire(Ear):
    """A channel that takes what fits into a frame."""

    def post(self, message: dict[str, Any]) -> None:
        frames.pack(message)
        super().post(message)

    def journal(self) -> list[dict[str, Any]]:
        return [event for piece in self.all("journal") for event in piece]


def joined(stage: Theatre, run: RunController, workers: int = 1) -> tuple[ConnectedAgent, Wire]:
    wire = Wire()
    agent, _ = stage.agent("a", workers=workers, channel=wire)
    agent.copied = 0
    join(run, agent)
    return agent, wire


def failed(stage: Theatre) -> tuple[RunController, Wire]:
    """A run of which every rank has failed with a long traceback."""
    run, wires = stage.make(nodes=1, workers=RANKS, restart=False), list[Wire]()

    def scene() -> None:
        agent, wire = joined(stage, run, RANKS)
        for rank in range(RANKS):
            WireMessages(run).worker(agent, exited(rank, 1, t=5.0 + rank, error=LATE))
        WireMessages(run).idle(agent, 1, 20_002)
        WireMessages(run).drained(agent, 1)
        wires.append(wire)

    stage.play(scene)
    return run, wires[0]


def test_a_run_whose_ranks_all_fail_with_long_tracebacks_tells_its_agents_and_clients_how_it_ended(
    stage: Theatre,
) -> None:
    run, wire = failed(stage)
    assert wire.all("end") == [{"outcome": "failed"}]
    frames.pack(dump(RunReply(status=status(run))))
    assert [cause.rank for cause in run.state.causes] == list(range(RANKS))
    assert [bool(cause.traceback) for cause in run.state.causes] == [True] * 2 + [False] * (RANKS - 2)
    assert {cause.summary for cause in run.state.causes} == {"ValueError: as rank 0"}


def test_an_agent_that_joins_again_gets_events_that_fit_into_no_message_together(stage: Theatre) -> None:
    run, _ = failed(stage)
    agent, wire = stage.agent("a")[0], Wire()
    agent.channel, agent.copied = wire, 0  # type: ignore[assignment]
    run.members.share(agent)
    assert wire.journal() == [event.dump() for event in run.journal.events]


def test_an_agent_whose_ranks_have_all_failed_can_join(tmp_path: Path) -> None:
    agent = agent_in(tmp_path)
    for rank in range(RANKS):
        error = WorkerError(f"rank {rank}", TRACEBACK, time=50.0 - rank)
        agent.group._workers.states[rank] = WorkerReport(
            1, rank, "exited", 60.0, end=WorkerEnd(1, None, error=error)
        )
    assert agent.uplink.choice is not None
    join = dump(agent.session._join(agent.uplink.choice))
    frames.pack(join)
    errors = [state["error"] for state in cast(Any, join)["join"]["states"]]
    assert [each["summary"] for each in errors] == [f"rank {rank}" for rank in reversed(range(RANKS))]
    assert [each["traceback"] for each in errors] == [TRACEBACK, TRACEBACK, *[""] * (RANKS - 2)]


def test_an_event_that_fits_into_no_message_is_passed_over_by_the_copies(stage: Theatre) -> None:
    run, copy = stage.make(nodes=2), JournalCopy(stage.path / "copy.jsonl")

    def scene() -> None:
        _, wire = joined(stage, run)
        run.journal.append(Chosen(text="x" * frames.MAX_FRAME))
        run.journal.append(Chosen(text="the next"))
        for piece in wire.all("journal"):
            copy.take(piece)

    stage.play(scene)
    assert [event.kind for event in copy.events] == ["submitted", "joined", "damaged", "choice"]
    assert [event.time for event in copy.events] == [event.time for event in run.journal.events]


def test_the_first_causes_keep_what_they_said_and_the_rest_their_sentences() -> None:
    causes = [Failure("signal", "a", float(n), "killed", n, log=["last", "words"]) for n in range(20)]
    assert [each.log for each in in_brief(causes)] == [["last", "words"]] * 8 + [[]] * 12
    assert [each.rank for each in in_brief(causes)] == list(range(20))
