"""The end of a run, which waits for a while until what its workers wrote is on several nodes."""

from __future__ import annotations

from typing import Any

import pytest
from run_fakes import Ear, Theatre, WireMessages, exited, join

from swarmtrain.coordinator.clients import actions
from swarmtrain.coordinator.core.model import Phase
from swarmtrain.coordinator.run.members import ConnectedAgent
from swarmtrain.coordinator.run.sharing import last_copies
from swarmtrain.protocol.facts import Outcome
from swarmtrain.protocol.journal.events import Ended
from swarmtrain.protocol.journal.remarks import Warned
from swarmtrain.protocol.shared_files import SetReport, SharedBrought, SharedFile, SharedReport

CHECKPOINT = [SharedFile(name, 10, f"hash of {name}", 1.0) for name in ("model.pt", "optimizer.pt")]


class Scene:
    """A run on two nodes, the first of which has written a checkpoint when both end well."""

    def __init__(self, stage: Theatre, **fields: Any) -> None:
        self.stage = stage
        wanted: dict[str, Any] = {"share": "auto", "replicas": 1} | fields
        self.run = stage.make(**wanted)
        self.agents: dict[str, tuple[ConnectedAgent, Ear]] = {}

    def begin(self) -> None:
        self.agents = {node: self.stage.agent(node, slot) for slot, node in enumerate("ab")}
        for peer, _ in self.agents.values():
            join(self.run, peer)
        for node in self.agents:
            self.answer(node, fence=0)
        assert self.run.phase is Phase.RUNNING

    def end(self) -> None:
        for rank, (peer, _) in enumerate(self.agents.values()):
            WireMessages(self.run).worker(peer, exited(rank))
            WireMessages(self.run).idle(peer, 1, 20_002)
            WireMessages(self.run).drained(peer, 1)

    def answer(self, node: str, *sets: SetReport, fence: int = 1) -> None:
        """Say how its files stand, as was asked last."""
        peer, ear = self.agents[node]
        said = SharedReport(ear.all("share")[-1]["number"], f"{node}:1", fence, list(sets))
        self.run.sharing.hear_report(peer, said)

    def written(self) -> None:
        self.answer("a", SetReport("checkpoint-1", [], CHECKPOINT, [], [], False))

    def copied(self, *, failed: bool = False) -> None:
        """The second node has the copy that was ordered."""
        peer, ear = self.agents["b"]
        order = ear.all("bring")[-1]
        why = ["there is no room"] if failed else []
        said = SharedBrought(order["number"], 2, 20, 0.1, [], "", why, "checkpoint-1")
        self.run.sharing.hear_brought(peer, said)

    def wait(self, seconds: float) -> None:
        self.stage.clock.turn(seconds)
        for peer, _ in self.agents.values():
            peer.heard = self.stage.clock.now
        self.run.tick()

    def outcome(self) -> Outcome | None:
        return next((each.outcome for each in self.run.journal.all(Ended)), None)

    def warnings(self) -> list[str]:
        return [each.text for each in self.run.journal.all(Warned)]


def test_a_run_ends_when_what_was_written_last_is_on_another_node_and_says_nothing_of_it(
    stage: Theatre,
) -> None:
    scene = Scene(stage)

    def play() -> None:
        scene.begin()
        scene.end()
        assert scene.outcome() is None
        scene.written()
        scene.answer("b")
        (order,) = scene.agents["b"][1].all("bring")
        assert (order["how"], order["urgent"]) == ("store", True)
        assert [each["path"] for each in order["versions"]] == ["checkpoint-1"]
        assert order["sources"] == {each.sha256: ["a:1"] for each in CHECKPOINT}
        assert scene.outcome() is None
        scene.copied()
        assert scene.outcome() is Outcome.SUCCEEDED and not scene.warnings()

    stage.play(play)


@pytest.mark.parametrize("failed", [False, True])
def test_an_end_waits_for_a_while_and_says_what_is_on_which_node_alone(stage: Theatre, failed: bool) -> None:
    scene = Scene(stage)

    def play() -> None:
        scene.begin()
        scene.end()
        scene.written()
        scene.answer("b")
        if failed:
            scene.copied(failed=True)
        scene.wait(last_copies.LAST - 1)
        assert scene.outcome() is None
        scene.wait(2)
        assert scene.outcome() is Outcome.SUCCEEDED
        (text,) = scene.warnings()
        assert "other nodes have copies of checkpoint-1: `--resume` needs a for them" in text

    stage.play(play)


def test_who_stops_a_run_that_waits_for_copies_waits_less_and_it_has_ended_well(stage: Theatre) -> None:
    scene = Scene(stage)

    def play() -> None:
        scene.begin()
        scene.end()
        scene.written()
        scene.answer("b")
        actions.stop(scene.run)
        scene.wait(last_copies.LAST_STOPPED + 1)
        assert scene.outcome() is Outcome.SUCCEEDED and len(scene.warnings()) == 1

    stage.play(play)


@pytest.mark.parametrize("when", ["asked", "ordered"])
def test_nobody_waits_for_a_node_that_has_gone(stage: Theatre, when: str) -> None:
    scene = Scene(stage)

    def play() -> None:
        scene.begin()
        scene.end()
        scene.written()
        if when == "ordered":
            scene.answer("b")
        peer, _ = scene.agents["b"]
        WireMessages(scene.run).left(peer)
        scene.wait(1)
        assert scene.outcome() is Outcome.SUCCEEDED
        (text,) = scene.warnings()
        assert "checkpoint-1: `--resume` needs a" in text

    stage.play(play)


@pytest.mark.parametrize("fields", [{"replicas": 0}, {"share": "off"}])
def test_where_nothing_is_to_be_copied_no_end_waits(stage: Theatre, fields: dict[str, Any]) -> None:
    scene = Scene(stage, **fields)

    def play() -> None:
        if fields.get("share") == "off":
            scene.agents = {node: stage.agent(node, slot) for slot, node in enumerate("ab")}
            for peer, _ in scene.agents.values():
                join(scene.run, peer)
        else:
            scene.begin()
        scene.end()
        assert scene.outcome() is Outcome.SUCCEEDED

    stage.play(play)


@pytest.mark.parametrize(("known", "expected"), [(0, None), (5_000_007, 5_000_008)])
def test_what_a_generation_writes_is_newer_than_all_that_its_nodes_know(
    stage: Theatre, known: int, expected: int | None
) -> None:
    """Numbers of runs are used again after `rm`."""
    scene = Scene(stage)

    def play() -> None:
        scene.agents = {node: stage.agent(node, slot) for slot, node in enumerate("ab")}
        for peer, _ in scene.agents.values():
            join(scene.run, peer)
        number = scene.agents["a"][1].all("share")[-1]["number"]
        peers = [peer for peer, _ in scene.agents.values()]
        scene.run.sharing.hear_report(peers[0], SharedReport(number, "a:1", known, []))
        scene.run.sharing.hear_report(peers[1], SharedReport(number, "b:1", 0, []))
        for _, ear in scene.agents.values():
            told = [message for message in ear.heard if "bring" in message or "start" in message]
            assert [each["bring"].get("fence") for each in told[:-1]] == ([expected] if expected else [])
            assert "start" in told[-1], "before its workers start"

    stage.play(play)
