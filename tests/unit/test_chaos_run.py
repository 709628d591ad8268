"""What the chaos command does with a plan, on runs that a fake launcher keeps, in a place that only writes down."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from client_fakes import Coordinator, FakeLauncher, Receive, fixed, seen, status, told
from waiting import until

from swarmtrain.control.chaos import execution
from swarmtrain.control.chaos.execution import Chaos, Report
from swarmtrain.control.chaos.faults import KINDS, Fault, FaultPlan
from swarmtrain.control.chaos.sites import FaultSite, place_of
from swarmtrain.control.handle import RunHandle
from swarmtrain.errors import ClusterError
from swarmtrain.launchers.base import Act
from swarmtrain.protocol.codec import dump
from swarmtrain.wire.frames import Message


class Paper:
    """A place where faults are words on paper."""

    kinds = tuple(KINDS)
    mix = tuple(KINDS)

    def __init__(self, refuses: str = "", breaks: str = "") -> None:
        self.refuses, self.breaks = refuses, breaks
        self.words: list[str] = []

    def check(self, fault: Fault) -> None:
        if fault.kind == self.refuses:
            raise ClusterError(f"no {fault.kind} here", "try a lab")

    def nodes(self, kind: str, nodes: Sequence[str]) -> Sequence[str]:
        return nodes

    def inflict(self, fault: Fault, target: str, status: Any) -> Any:
        if fault.kind == self.breaks:
            raise ClusterError("it would not break")
        self.words.append(f"{fault.kind} {target}".strip())
        lasts = fault.seconds is not None or fault.kind == "power-off"
        return (lambda: self.words.append(f"end of {fault.kind} {target}")) if lasts else None


def coordinator(**more: Any) -> Coordinator:
    """A run that goes on until its link is closed, and takes notes."""

    def watch(request: Message, receive: Receive) -> Iterator[Message]:
        while True:
            yield {"status": status(**more)}
            time.sleep(0.02)

    return fixed(status(**more), watch=watch, note=told({"event": {}, "done": {}}))


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks often whether something is due, so that plans may be short."""
    monkeypatch.setattr(execution, "_TICK", 0.01)


def stop_when(chaos: Chaos, place: Paper, words: int) -> None:
    """Interrupt it as soon as so many words are written."""

    def stop() -> None:
        until(lambda: len(place.words) >= words)
        chaos.stop()

    threading.Thread(target=stop, daemon=True).start()


def work(plan: FaultPlan, place: Any, served: Coordinator | None = None) -> tuple[Chaos, Coordinator]:
    served = served or coordinator()
    launcher = FakeLauncher(digits_1=served)
    return Chaos(RunHandle(launcher.runs()[0], launcher), place, plan), served


def notes(served: Coordinator) -> list[str]:
    return [request["text"] for request in served.requests if request["op"] == "note"]


def test_a_fault_is_in_the_journal_before_it_happens_and_undone_afterwards() -> None:
    place = Paper()
    chaos, served = work(FaultPlan((Fault("freeze", "lab-2", seconds=0.1),)), place)
    report = chaos.run()
    assert report.ok
    assert place.words == ["freeze lab-2", "end of freeze lab-2"]
    assert notes(served) == ["chaos: lab-2 freezes for 0.1s", "chaos: lab-2 goes on"]
    assert [each.what for each in report.happenings] == ["fault", "undone"]


def test_what_cannot_happen_here_is_refused_before_anything_has() -> None:
    place = Paper(refuses="unplug")
    chaos, served = work(FaultPlan((Fault("freeze", "lab-2", seconds=0.1), Fault("unplug", "lab-2"))), place)
    with pytest.raises(ClusterError, match="no unplug here"):
        chaos.run()
    assert (place.words, notes(served)) == ([], [])


def test_a_fault_that_fails_is_told_and_the_others_still_happen() -> None:
    place = Paper(breaks="freeze")
    chaos, served = work(
        FaultPlan((Fault("freeze", "lab-2", seconds=1), Fault("kill-coordinator", ""))), place
    )
    report = chaos.run()
    assert not report.ok
    assert [each.text for each in report.failed] == ["freeze (node lab-2): it would not break"]
    assert place.words == ["kill-coordinator"]
    assert "chaos: freeze (node lab-2) could not be done: it would not break" in notes(served)


def test_random_targets_are_the_same_for_the_same_seed_and_leave_alone_what_is_broken_already() -> None:
    plan = FaultPlan((Fault("freeze", seconds=0.3), Fault("kill-worker", after=0.05)), seed=3)
    words = []
    for _ in range(2):
        place = Paper()
        assert work(plan, place)[0].run().ok
        words.append(place.words)
    assert words[0] == words[1]
    frozen = words[0][0].removeprefix("freeze ")
    assert words[0][1] == ("kill-worker 1" if frozen == "lab-1" else "kill-worker 0")


def test_power_that_is_cut_for_good_stays_away_but_comes_back_at_an_interruption() -> None:
    place = Paper()
    chaos, _ = work(FaultPlan((Fault("power-off", "lab-2"),)), place)
    assert chaos.run().ok
    assert place.words == ["power-off lab-2"]

    place = Paper()
    chaos, _ = work(FaultPlan((Fault("power-off", "lab-2"), Fault("freeze", "lab-1", seconds=60.0))), place)
    stop_when(chaos, place, words=2)
    assert chaos.run().ok
    assert sorted(place.words[2:]) == ["end of freeze lab-1", "end of power-off lab-2"]


def test_power_that_a_plan_brings_back_is_not_brought_back_twice() -> None:
    place = Paper()
    faults = (
        Fault("power-off", "lab-2"),
        Fault("power-on", "lab-2", after=0.1),
        Fault("freeze", after=0.2, seconds=60),
    )
    chaos, _ = work(FaultPlan(faults), place)
    stop_when(chaos, place, words=3)
    assert chaos.run().ok
    assert place.words[:2] == ["power-off lab-2", "power-on lab-2"]
    assert [word.partition(" lab")[0] for word in place.words[2:]] == ["freeze", "end of freeze"]


def test_what_ends_on_a_node_leaves_another_fault_there_alone() -> None:
    faults = (
        Fault("freeze", "lab-2", seconds=0.4),
        Fault("kill-worker", "1", after=0.05),
        *(Fault("kill-worker", after=0.1) for _ in range(6)),
    )
    place = Paper()
    assert work(FaultPlan(faults), place)[0].run().ok
    assert [word for word in place.words if word.startswith("kill")][1:] == ["kill-worker 0"] * 6


def test_the_end_of_the_run_ends_the_plan() -> None:
    served = fixed(status(state="succeeded"), note=told({"done": {}}))
    chaos, _ = work(FaultPlan((Fault("kill-worker", after=99.0),)), Paper(), served)
    report = chaos.run()
    assert report == Report([], [Fault("kill-worker", after=99.0)])


def test_what_a_coordinator_could_not_hear_it_is_told_when_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "_NOTE_AGAIN", 0.01)
    served, heard = coordinator(), []

    def note(request: Message, receive: Receive) -> Iterator[Message]:
        heard.append(request["text"])
        yield {"error": "not now", "exit": 3} if len(heard) < 3 else {"event": {}, "done": {}}

    served.answers["note"] = note
    chaos, _ = work(FaultPlan((Fault("freeze", "lab-2", seconds=0.1),)), Paper(), served)
    assert chaos.run().ok
    assert heard == ["chaos: lab-2 freezes for 0.1s"] * 3 + ["chaos: lab-2 goes on"]


def test_a_coordinator_that_takes_no_notes_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "_NOTE_SECONDS", 0.1)
    served = coordinator()
    served.answers["note"] = told({"error": "it has ended", "exit": 3})
    place = Paper()
    chaos, _ = work(FaultPlan((Fault("kill-worker", "0"),)), place, served)
    assert chaos.run().ok
    assert place.words == ["kill-worker 0"]


def test_an_output_that_nobody_reads_any_more_keeps_no_fault_from_being_undone() -> None:
    place = Paper()
    chaos, _ = work(FaultPlan((Fault("freeze", "lab-2", seconds=0.1),)), place)

    def gone(happening: object) -> None:
        raise BrokenPipeError

    chaos._tell = gone
    chaos.run()
    assert place.words == ["freeze lab-2", "end of freeze lab-2"]


class Outside:
    """Machines of which nothing is known but that they can be frozen."""

    mix = ("freeze",)
    hint = "try a lab"

    def __init__(self) -> None:
        self.kinds: Mapping[str, Act] = {"freeze": lambda node, rate: None}

    def nodes(self, kind: str, nodes: Sequence[str]) -> Sequence[str]:
        return [node for node in nodes if node == "lab-1"]

    def check(self, kind: str, node: str) -> None:
        if node == "lab-2":
            raise ClusterError("lab-2 is also a machine of other.1")


def outside(**answers: Any) -> tuple[FaultSite, Coordinator]:
    served = fixed(status(), **answers)
    launcher = FakeLauncher(digits_1=served)
    return place_of(RunHandle(launcher.runs()[0], launcher), Outside()), served


def test_a_place_refuses_what_its_machines_cannot_do_and_what_others_need() -> None:
    place, _ = outside()
    assert place.kinds == ("kill-worker", "stop-worker", "freeze", "fill-disk", "corrupt-snapshot")
    with pytest.raises(ClusterError, match="unplug does not work on local here") as raised:
        place.check(Fault("unplug", "lab-1"))
    assert raised.value.hint == "try a lab"
    with pytest.raises(ClusterError, match=r"also a machine of other\.1"):
        place.check(Fault("freeze", "lab-2"))
    with pytest.raises(ClusterError, match=r"also a machine of other\.1"):
        place.inflict(Fault("freeze"), "lab-2", seen())
    place.check(Fault("kill-worker", "1"))
    assert place.nodes("freeze", ["lab-1", "lab-2"]) == ["lab-1"]
    assert place.nodes("corrupt-snapshot", ["lab-1", "lab-2"]) == ["lab-1", "lab-2"]


def test_a_worker_is_hit_by_the_agent_of_its_node() -> None:
    done = told({"stdout": "ZG9uZQo="}, {"done": {"exit": 0}})
    place, served = outside(exec=done)
    assert place.inflict(Fault("kill-worker"), "1", seen()) is None
    (request,) = [each for each in served.requests if each["op"] == "exec"]
    assert request["node"] == "lab-2"
    assert request["argv"] == ["python3", "bundle.zip", "sabotage", "kill", "11"]


def test_what_the_helper_complains_of_is_the_reason() -> None:
    place, _ = outside(exec=told({"stderr": "bm8gc25hcHNob3QK"}, {"done": {"exit": 1}}))
    with pytest.raises(ClusterError, match="no snapshot"):
        place.inflict(Fault("corrupt-snapshot"), "lab-1", seen())


def test_a_worker_that_does_not_run_cannot_be_hit() -> None:
    workers = [replace(each, state="exited") for each in seen().workers]
    place, served = outside()
    with pytest.raises(ClusterError, match="rank 1 does not run"):
        place.inflict(Fault("kill-worker"), "1", seen(workers=[dump(each) for each in workers]))
    assert served.requests == []
