"""What a node says of itself when it comes, and what of that stands in the journal for a diagnosis."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from hand_clock import HandClock
from run_fakes import Theatre, theatre

from swarmtrain.agent.worker_group.spawner import imported
from swarmtrain.coordinator.agents.messages import AgentMessages
from swarmtrain.diagnosis.versions import versions_in
from swarmtrain.protocol.journal.events import NodeJoined
from swarmtrain.protocol.journal.remarks import ClockApart
from swarmtrain.protocol.spawner import SpawnerReady


@pytest.fixture
def plays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Theatre:
    return theatre(tmp_path, HandClock(), monkeypatch)


@pytest.mark.parametrize(
    ("ahead", "words"),
    [(0.0, ""), (29.0, ""), (-29.0, ""), (312.4, "312 s ahead of"), (-3600.0, "3600 s behind")],
)
def test_a_clock_that_is_not_the_runs_stands_in_the_journal(plays: Theatre, ahead: float, words: str) -> None:
    def scene() -> None:
        run = plays.make()
        AgentMessages(run).join(plays.agent("a", ahead=ahead)[0])
        told = run.journal.all(ClockApart)
        assert [(each.text, each.ahead, each.node) for each in told] == (
            [(f"a: its clock is {words} the run's", ahead, "a")] if words else []
        )

    plays.play(scene)
    plays.close()


def test_since_when_a_machine_runs_stands_in_the_journal(plays: Theatre) -> None:
    def scene() -> None:
        run = plays.make()
        AgentMessages(run).join(plays.agent("a", clock=1234.5678)[0])
        assert [each.boot for each in run.journal.all(NodeJoined)] == [1234.568]

    plays.play(scene)
    plays.close()


def test_the_versions_that_an_agent_tells_are_read_again() -> None:
    python = platform.python_version().rstrip("+")
    told = imported(SpawnerReady("2.13.0+cu128", 2.0, None, "2.27.5"))
    assert versions_in(f"lab-1: {told}") == {"torch": "2.13.0+cu128", "NCCL": "2.27.5", "Python": python}
    assert versions_in(imported(SpawnerReady("2.13.0+cpu", 2.0, None))) == {
        "torch": "2.13.0+cpu",
        "Python": python,
    }
    # as earlier versions have said it
    assert versions_in("lab-1: torch 2.4.0 is imported; workers are forked") == {"torch": "2.4.0"}
    assert versions_in("lab-1: workers start cold, as torch could not be imported ahead: no torch") == {}
