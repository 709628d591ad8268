"""What the coordinator asks nodes of their files while they train, and whom it orders to keep copies."""

from __future__ import annotations

import pytest
from run_fakes import Ear, Theatre, WireMessages, join

from swarmtrain.coordinator.core.model import Phase
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.coordinator.run.members import ConnectedAgent
from swarmtrain.protocol.shared_files import HeldVersion, SetReport, SetVersion, SharedFile, SharedReport

SAVED = SetReport("checkpoint-1", [], [SharedFile("model.pt", 10, "a hash", 1.0)], [], [], False)


class Scene:
    """A run that trains on a and b; c joins later, and has no part."""

    def __init__(self, stage: Theatre) -> None:
        self.run: RunController = stage.make(share="auto", replicas=1)
        self.agents: dict[str, tuple[ConnectedAgent, Ear]] = {
            node: stage.agent(node, slot) for slot, node in enumerate("abc")
        }

    def begin(self) -> None:
        for node in "ab":
            join(self.run, self.agents[node][0])
        for node in "ab":
            self.answer(node, fence=0)
        assert self.run.phase is Phase.RUNNING

    def asked(self, node: str) -> list[list[str] | None]:
        """About which sets, each time that it was asked while workers run; all for None."""
        _, ear = self.agents[node]
        begun = next((n for n, message in enumerate(ear.heard) if "start" in message), 0)
        return [message["share"].get("paths") for message in ear.heard[begun:] if "share" in message]

    def tell(self, node: str, *sets: SetReport) -> None:
        """What a look has found."""
        self._say(0, node, *sets)

    def answer(self, node: str, *sets: SetReport, fence: int = 1) -> None:
        """Say how its files stand, as was asked last."""
        self._say(self.agents[node][1].all("share")[-1]["number"], node, *sets, fence=fence)

    def _say(self, number: int, node: str, *sets: SetReport, fence: int = 1) -> None:
        said = SharedReport(number, f"{node}:1", fence, list(sets), first_ranks={"a": 0, "b": 1})
        self.run.sharing.hear_report(self.agents[node][0], said)


def test_who_goes_before_an_answer_is_not_waited_for_and_the_others_are_asked_anew(stage: Theatre) -> None:
    scene = Scene(stage)

    def play() -> None:
        scene.begin()
        join(scene.run, scene.agents["c"][0])
        for node in "abc":
            scene.answer(node)
        scene.tell("a", SAVED)
        for node in "ab":
            scene.answer(node, *([SAVED] if node == "a" else []))
        assert not scene.agents["b"][1].all("bring")
        WireMessages(scene.run).left(scene.agents["c"][0])
        assert scene.asked("a")[-2:] == [["checkpoint-1"]] * 2
        for node in "ab":
            scene.answer(node, *([SAVED] if node == "a" else []))
        (order,) = scene.agents["b"][1].all("bring")
        assert order["how"] == "store" and order["sources"] == {"a hash": ["a:1"]}

    stage.play(play)


def test_nodes_are_asked_about_all_sets_where_one_without_a_part_comes_and_only_then(stage: Theatre) -> None:
    scene = Scene(stage)

    def play() -> None:
        scene.begin()
        assert scene.asked("a") == []
        join(scene.run, scene.agents["c"][0])
        assert scene.asked("a") == scene.asked("b") == scene.asked("c") == [None]
        for node in "abc":
            scene.answer(node, *([SAVED] if node == "a" else []))
        assert [order["how"] for order in scene.agents["c"][1].all("bring")] == ["note"], "b has the copy"
        assert [order["how"] for order in scene.agents["b"][1].all("bring")] == ["store"]

    stage.play(play)


@pytest.mark.parametrize(
    ("changed", "is_told"),
    [
        pytest.param(SAVED.changed, True, id="all of it"),
        pytest.param([*SAVED.changed, SharedFile("more.pt", 10, "another", 2.0)], False, id="and more"),
        pytest.param([SharedFile("model.pt", 10, "another", 2.0)], False, id="another"),
    ],
)
def test_who_has_what_holds_and_does_not_know_it_is_told(
    stage: Theatre, changed: list[SharedFile], is_told: bool
) -> None:
    """It wrote that, and has had no part since: when what is newer is lost, that version is to be found there."""
    scene = Scene(stage)
    version = SetVersion("checkpoint-1", 1, 1, SAVED.changed)
    known = SetReport("checkpoint-1", [HeldVersion(version, ["work"])], [], [], [], False)

    def play() -> None:
        scene.begin()
        join(scene.run, scene.agents["c"][0])
        for node in "ab":
            scene.answer(node, known, fence=2)
        scene.answer("c", SetReport("checkpoint-1", [], changed, [], [], False), fence=0)
        told = [order for order in scene.agents["c"][1].all("bring") if order["how"] == "note"]
        assert [order["versions"][0]["path"] for order in told] == (["checkpoint-1"] if is_told else [])

    stage.play(play)


def test_who_does_not_know_what_holds_is_told_of_that_before_it_is_of_what_is_newer(stage: Theatre) -> None:
    scene = Scene(stage)
    known = HeldVersion(SetVersion("checkpoint-1", 1, 1, SAVED.changed), ["work"])
    anew = [SharedFile("model.pt", 10, "another", 2.0)]

    def play() -> None:
        scene.begin()
        join(scene.run, scene.agents["c"][0])
        scene.answer("a", SetReport("checkpoint-1", [known], anew, [], [], False), fence=2)
        scene.answer("b", SetReport("checkpoint-1", [known], [], [], [], False), fence=2)
        scene.answer("c", SAVED, fence=0)
        told = [order["versions"][0] for order in scene.agents["c"][1].all("bring")]
        assert [(each["number"], each["files"][0][2]) for each in told] == [(1, "a hash"), (2, "another")]

    stage.play(play)
