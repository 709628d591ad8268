"""The client against coordinators that behave and misbehave."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from client_fakes import Coordinator, FakeLauncher, Receive, fixed, status, told

from swarmtrain import ClusterError, Job, RequestError, Stopped, TrainingError
from swarmtrain.control import follow, startup, stopping
from swarmtrain.control.client import Client, Submission
from swarmtrain.control.handle import RunHandle
from swarmtrain.job import LoadedJob
from swarmtrain.job.origin import Origin
from swarmtrain.launchers.base import Run
from swarmtrain.protocol.codec import load
from swarmtrain.protocol.status import Status
from swarmtrain.swarm.obstacles import Obstacle
from swarmtrain.wire.frames import Message
from swarmtrain.wire.link import Link
from swarmtrain.wire.run_spec import Resumption

JOB = Job(command=["true"], name="digits")


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "TROUBLE_SECONDS", 0.02)
    monkeypatch.setattr(startup, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(startup, "_CALM_SECONDS", 0.02)
    monkeypatch.setattr(stopping, "_STOP_PATIENCE", 0.0)
    monkeypatch.setattr(follow, "RETRY_SECONDS", 0.01)


def client(launcher: FakeLauncher) -> Client:
    return Client(launcher.name, {launcher.name: launcher})


def run_of(launcher: FakeLauncher, name: str = "digits") -> RunHandle:
    return client(launcher).get(name)


# ---- submitting ------------------------------------------------------------------------------------------------------


def test_a_run_gets_the_number_after_the_last_one_that_is_kept() -> None:
    launcher = FakeLauncher(
        digits_1=fixed(status("digits.1", "failed")), digits_7=fixed(status("digits.7", "stopped"))
    )
    launcher.next = fixed(status("digits.8"))
    assert client(launcher).run(JOB).id == "digits.8"
    assert launcher.calls == [("submit", "digits.8", None)]


def test_a_live_run_refuses_a_second_one() -> None:
    launcher = FakeLauncher(digits_1=fixed(status()))
    with pytest.raises(ClusterError, match=r"digits\.1 is still running") as caught:
        client(launcher).run(JOB)
    assert "swarmtrain stop digits" in caught.value.hint and "--replace" in caught.value.hint
    assert launcher.calls == []


def test_a_run_whose_coordinator_is_silent_counts_as_live() -> None:
    launcher = FakeLauncher(digits_1=fixed(status()))
    launcher.coordinators.clear()
    with pytest.raises(ClusterError, match="still running"):
        client(launcher).run(JOB)


def test_replace_stops_the_live_run_first() -> None:
    first = fixed(status())
    launcher = FakeLauncher(digits_1=first)
    launcher.next = fixed(status("digits.2"))
    assert client(launcher).run(JOB, replace=True).id == "digits.2"
    assert [request["op"] for request in first.requests][-1] == "stop"


def test_resume_names_the_latest_run() -> None:
    past = status("digits.3", "failed", lineage="digits.2", lineage_owner="3f9c")
    launcher = FakeLauncher(digits_3=fixed(past))
    launcher.next = fixed(status("digits.4"))
    client(launcher).run(JOB, resume=True)
    assert launcher.calls == [("submit", "digits.4", Resumption("digits.3", "digits.2", "3f9c"))]


def resumed(directory: Path, earlier: Origin | None, **keys: Any) -> Submission:
    """The preparation of a run that goes on from digits.1, which stopped at step 30 on two nodes."""
    document = status(state="stopped", step=30, target="train.py")
    launcher = FakeLauncher(digits_1=fixed(document))
    launcher.kept = [dataclasses.replace(launcher.kept[0], origin=earlier)]
    sources = {key: f"--{key}" for key in ("script", *keys)}
    job = Job(**{"script": "train.py", "nodes": 2, **keys})
    return client(launcher).prepare(LoadedJob(job, directory, sources=sources), resume=True)


def test_resume_says_what_it_goes_on_from(tmp_path: Path) -> None:
    same = resumed(tmp_path, Origin.of(LoadedJob(JOB, tmp_path)), name="digits")
    assert [notice.text for notice in same.notices][-1] == (
        "goes on in the directories of digits.1 on local, which stopped at step 30"
    )
    smaller = resumed(tmp_path, None, name="digits", nodes=1)
    assert smaller.notices[-1].text == "digits.1 ran on 2 nodes; this one on 1"


def test_resume_refuses_another_projects_run_unless_the_name_was_given(tmp_path: Path) -> None:
    theirs = Origin.of(LoadedJob(JOB, tmp_path / "theirs"))
    strange = f"it ran {tmp_path}/theirs/train.py, and this one runs {tmp_path}/digits.py"
    with pytest.raises(RequestError) as caught:
        resumed(tmp_path, theirs, script="digits.py")
    assert caught.value.message == f"digits.1 on local is of another training: {strange}"
    assert "--name digits" in caught.value.hint
    named = resumed(tmp_path, theirs, script="digits.py", name="digits")
    assert f"{strange}; that it is the same training, its name says" in [each.text for each in named.notices]


def test_a_run_from_another_machine_is_compared_by_its_script_only(tmp_path: Path) -> None:
    elsewhere = Origin("another-host", "/theirs", "/theirs")
    assert "stopped" in resumed(tmp_path, elsewhere, name="digits").notices[-1].text
    with pytest.raises(RequestError, match=r"it ran train\.py, and this one runs digits\.py"):
        resumed(tmp_path, elsewhere, script="digits.py")


def test_resume_points_at_the_place_that_has_the_run() -> None:
    both = {"local": FakeLauncher("local"), "swarm": FakeLauncher("swarm", digits_1=fixed(status()))}
    wanting = Client(launchers=both)
    wanting.places._ask = lambda: ClusterError("no Docker")
    wanting.places._pointer = lambda: ""
    with pytest.raises(RequestError, match="no run of digits to resume on local") as caught:
        wanting.prepare(JOB, resume=True)
    assert caught.value.hint == "digits.1 is on swarm: --on swarm goes on from it"


def test_resume_without_a_run_is_refused() -> None:
    with pytest.raises(RequestError, match="no run of digits to resume"):
        client(FakeLauncher()).run(JOB, resume=True)


def test_a_run_that_does_not_get_to_its_place_fails_with_the_reason() -> None:
    launcher = FakeLauncher()
    launcher.troubles = "no suitable node (insufficient resources on 3 nodes)"
    with pytest.raises(ClusterError, match=r"digits\.1 cannot start: no suitable node"):
        client(launcher).run(JOB)
    assert launcher.calls[-1] == ("refuse", "digits.1", launcher.troubles)


def test_a_trouble_that_may_pass_by_itself_is_waited_for() -> None:
    persistence = startup.Persistence(3.0)
    passing, lasting = Obstacle("addresses are taken", passes=60.0), Obstacle("no image")
    assert persistence.certain(passing, 0.0) == ""
    assert persistence.certain(passing, 59.0) == ""
    assert persistence.certain(passing, 60.0) == "addresses are taken"
    assert persistence.certain(lasting, 61.0) == "no image"


def test_resuming_passes_over_a_run_that_was_refused() -> None:
    """It has written nothing, so what there is to go on from is the one before."""
    launcher = FakeLauncher(digits_1=fixed(status(state="succeeded")))
    launcher.kept.append(Run("digits", 2, "local", live=False, refused=True))
    submission = client(launcher).prepare(JOB, resume=True)
    assert (submission.resume, submission.run.id) == (Resumption("digits.1"), "digits.3")
    launcher.kept.pop(0)
    with pytest.raises(RequestError, match="no run of digits to resume"):
        client(launcher).prepare(JOB, resume=True)


def test_a_coordinator_that_never_answers_is_given_up() -> None:
    launcher = FakeLauncher()
    with pytest.raises(ClusterError, match=r"did not answer within 0 s: the coordinator of digits\.1"):
        RunHandle(Run("digits", 1, "local"), launcher, patience=0.0).started()
    ((call, run, reason),) = launcher.calls
    assert (call, run) == ("kill", "digits.1")
    assert reason.startswith("killed by its client: ") and "did not answer within 0 s" in reason


def test_a_coordinator_of_which_there_is_no_sign_is_not_asked() -> None:
    launcher = FakeLauncher(digits_1=fixed(status()))
    launcher.signs = [False, False, True]
    asked: list[int] = []

    def ask() -> Status:
        asked.append(len(launcher.signs))
        return load(Status, status(generation=1))

    startup.await_answer(launcher, launcher.kept[0], ask, patience=30.0)
    assert asked == [0]


def test_a_start_is_looked_at_less_often_where_nothing_is_wrong() -> None:
    persistence = startup.Persistence(3.0)
    persistence.certain(Obstacle(), 0.0)
    calm = persistence.pause
    persistence.certain(Obstacle("no image"), 1.0)
    assert persistence.pause < calm


def test_a_trouble_counts_only_when_it_lasts() -> None:
    persistence = startup.Persistence(3.0)
    restarting = Obstacle("restarting")
    assert persistence.certain(restarting, 0.0) == ""
    assert persistence.certain(restarting, 2.9) == ""
    assert persistence.certain(Obstacle(), 3.0) == ""
    assert persistence.certain(restarting, 4.0) == ""
    assert persistence.certain(Obstacle("no space"), 7.0) == "no space"


# ---- following -------------------------------------------------------------------------------------------------------


def line(time: float, rank: int, text: str) -> list[object]:
    return [time, 1, rank, f"lab-{rank + 1}", text]


def test_a_watch_that_breaks_goes_on_without_telling_anything_twice() -> None:
    first: list[Message] = [
        {"status": status()},
        {"event": {"seq": 1, "t": 1.0, "kind": "submitted", "text": "one"}},
        {"lines": [line(1.0, 0, "a"), line(1.0, 0, "b"), line(1.5, 1, "x")]},
        {"hang up": True},
    ]
    second: list[Message] = [
        {
            "lines": [
                line(1.0, 0, "a"),
                line(1.0, 0, "b"),
                line(1.0, 0, "c"),
                line(1.5, 1, "x"),
                line(2.0, 1, "y"),
            ]
        },
        {"event": {"seq": 2, "t": 2.0, "kind": "ended", "text": "two"}},
        {"status": status(state="succeeded"), "done": {}},
    ]
    turns = iter([first, second])

    def watch(request: Message, receive: Receive) -> Iterator[Message]:
        yield from next(turns)

    coordinator = Coordinator(watch=watch)
    updates = list(run_of(FakeLauncher(digits_1=coordinator)).watch())
    assert [each.text for update in updates for each in update.lines] == ["a", "b", "x", "c", "y"]
    assert [update.event.text for update in updates if update.event] == ["one", "two"]
    assert [update.note for update in updates if update.note][-1] == "the coordinator is back"
    assert updates[-1].status is not None and updates[-1].status.state == "succeeded"
    assert [request.get("after") for request in coordinator.requests] == [0, 1]


def test_trouble_while_starting_ends_the_watch_and_the_run() -> None:
    def watch(request: Message, receive: Receive) -> Iterator[Message]:
        yield {"status": status(state="starting", generation=0)}
        receive()

    coordinator = fixed(status(state="starting", generation=0), watch=watch)
    launcher = FakeLauncher(digits_1=coordinator)
    launcher.troubles = "no such image: nothing:latest"
    with pytest.raises(ClusterError, match=r"digits\.1 cannot start: no such image"):
        list(run_of(launcher).watch())
    assert {"op": "stop", "reason": "no such image: nothing:latest"} in coordinator.requests
    assert launcher.calls[-1] == ("refuse", "digits.1", "no such image: nothing:latest")


def test_nodes_that_were_never_heard_are_told_with_the_end_of_a_run_that_never_began() -> None:
    reason = "1 of 2 nodes joined (lab-1)"
    here, silent = status()["members"]
    members = [here, {**silent, "address": None}]
    document = status(state="failed", reason=reason, generation=0, members=members)
    launcher = FakeLauncher(digits_1=fixed(document))
    assert run_of(launcher).wait().reason == reason
    launcher.silent = True
    told = f"{reason}; never heard but for lab-1"
    assert (run_of(launcher).wait().reason, run_of(launcher).status().reason) == (told, told)


def test_a_run_that_had_begun_fails_for_another_reason_than_nodes_that_were_never_heard() -> None:
    launcher = FakeLauncher(digits_1=fixed(status(state="failed", reason="1 of 2 nodes joined within 60 s")))
    launcher.silent = True
    assert run_of(launcher).status().reason == "1 of 2 nodes joined within 60 s"


def test_trouble_after_the_start_is_the_coordinators_business() -> None:
    def watch(request: Message, receive: Receive) -> Iterator[Message]:
        yield {"status": status()}
        time.sleep(0.1)
        yield {"status": status(state="succeeded"), "done": {}}

    launcher = FakeLauncher(digits_1=fixed(status(), watch=watch))
    launcher.troubles = "a task was restarted"
    assert run_of(launcher).wait().state == "succeeded"


def test_trouble_while_a_run_heals_is_the_coordinators_business() -> None:
    """A run that waits for its nodes is starting again, and a container that is gone is why."""

    def watch(request: Message, receive: Receive) -> Iterator[Message]:
        yield {"status": status(state="starting", generation=1)}
        time.sleep(0.1)
        yield {"status": status(state="succeeded"), "done": {}}

    launcher = FakeLauncher(digits_1=fixed(status(), watch=watch))
    launcher.troubles = "digits-1-node1 ended with exit code 137"
    assert run_of(launcher).wait().state == "succeeded"


def test_trouble_before_the_first_status_ends_nothing() -> None:
    """The output so far comes first, and a run that heals can have any amount of that."""

    def watch(request: Message, receive: Receive) -> Iterator[Message]:
        time.sleep(0.1)
        yield {"status": status()}
        yield {"status": status(state="succeeded"), "done": {}}

    coordinator = fixed(status(), watch=watch)
    launcher = FakeLauncher(digits_1=coordinator)
    launcher.troubles = "lab-2 is down"
    assert run_of(launcher).wait().state == "succeeded"
    assert launcher.calls == [] and "stop" not in [request["op"] for request in coordinator.requests]


def test_trouble_of_a_run_that_has_begun_unseen_ends_nothing() -> None:
    """Nobody has read on since it was starting: a terminal that is held, a pager."""
    seen = [status(state="starting", generation=0), status(state="succeeded")]

    def watch(request: Message, receive: Receive) -> Iterator[Message]:
        yield {"status": seen[0]}
        if seen.pop(0)["state"] == "starting":
            receive()
        else:
            yield {"done": {}}

    coordinator = fixed(status(), watch=watch)
    launcher = FakeLauncher(digits_1=coordinator)
    launcher.troubles = "lab-2 is down"
    assert run_of(launcher).wait().state == "succeeded"
    assert launcher.calls == [] and "stop" not in [request["op"] for request in coordinator.requests]


def test_what_a_run_has_that_begins_at_this_moment_is_not_taken_away() -> None:
    told_of = [status(state="starting", generation=0), status()]

    def asked(request: Message, receive: Receive) -> Iterator[Message]:
        yield {"status": told_of.pop(0) if len(told_of) > 1 else told_of[0], "done": {}}

    def watch(request: Message, receive: Receive) -> Iterator[Message]:
        yield {"status": status(state="starting", generation=0)}
        receive()

    launcher = FakeLauncher(digits_1=fixed(status(), watch=watch, status=asked))
    launcher.troubles = "lab-2 is down"
    with pytest.raises(ClusterError):
        list(run_of(launcher).watch())
    assert launcher.calls == []


def test_a_refusal_is_not_taken_for_a_broken_connection() -> None:
    coordinator = Coordinator(watch=told({"error": "no such operation", "hint": "", "exit": 2}))
    with pytest.raises(RequestError, match="no such operation"):
        list(run_of(FakeLauncher(digits_1=coordinator)).watch())


def test_a_coordinator_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "PATIENCE", 0.05)
    launcher = FakeLauncher(digits_1=Coordinator(watch=told({"status": status()}, {"hang up": True})))
    updates = run_of(launcher).watch()
    assert next(updates).status is not None
    del launcher.coordinators["digits.1"]
    with pytest.raises(ClusterError, match="does not answer"):
        list(updates)


def test_waiting_gives_the_result() -> None:
    ended = status(state="succeeded", step=270, loss=0.5, eval={"accuracy": 0.97})
    result = run_of(FakeLauncher(digits_1=fixed(ended))).wait()
    assert (result.step, result.loss, result.metrics, result.seconds) == (270, 0.5, {"accuracy": 0.97}, 9.0)
    assert result.exit_code == 0 and result.check() is result


@pytest.mark.parametrize(("state", "code", "error"), [("failed", 1, TrainingError), ("stopped", 4, Stopped)])
def test_a_result_that_is_no_success_raises_when_checked(
    state: str, code: int, error: type[Exception]
) -> None:
    result = run_of(FakeLauncher(digits_1=fixed(status(state=state, reason="because")))).wait()
    assert result.exit_code == code
    with pytest.raises(error, match="because"):
        result.check()


def test_waiting_ends_with_its_timeout() -> None:
    def watch(request: Message, receive: Receive) -> Iterator[Message]:
        yield {"status": status()}
        receive()

    with pytest.raises(TimeoutError, match=r"digits\.1 is still running after 0\.05 s"):
        run_of(FakeLauncher(digits_1=fixed(status(), watch=watch))).wait(0.05)


def test_waiting_ends_with_its_timeout_also_while_it_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    watched: list[Message] = []

    def watch(request: Message, receive: Receive) -> Iterator[Message]:
        watched.append(request)
        yield {"status": status()}
        yield {"status": status(state="succeeded"), "done": {}}

    launcher = FakeLauncher(digits_1=fixed(status(), watch=watch))
    run, connect = run_of(launcher), launcher.connect

    def slowly(of: Run) -> Link:
        monkeypatch.setattr(launcher, "connect", connect)
        time.sleep(0.3)
        return connect(of)

    monkeypatch.setattr(launcher, "connect", slowly)
    with pytest.raises(TimeoutError, match="still running"):
        run.wait(0.05)
    assert watched == []


def test_stopping_a_run_whose_coordinator_is_silent_kills_it() -> None:
    launcher = FakeLauncher(digits_1=fixed(status()))
    run = run_of(launcher)
    launcher.coordinators.clear()
    run.stop()
    assert launcher.calls == [("kill", "digits.1", "killed by a person")]


def test_a_coordinator_that_dies_late_in_an_ending_is_waited_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is waited for is silence: workers may take longer than that to save."""
    monkeypatch.setattr(stopping, "_STOP_PATIENCE", 0.3)
    asked: list[Message] = []

    def stop(request: Message, receive: Receive) -> Iterator[Message]:
        asked.append(request)
        if len(asked) == 1:
            time.sleep(0.4)
            yield {"hang up": True}
        yield {"done": {}}

    launcher = FakeLauncher(digits_1=fixed(status(), stop=stop))
    run_of(launcher).stop()
    assert launcher.calls == []


def test_a_live_run_is_removed_by_force_only() -> None:
    launcher = FakeLauncher(digits_1=fixed(status()))
    with pytest.raises(ClusterError, match="still running"):
        run_of(launcher).remove()
    run_of(launcher).remove(force=True)
    assert launcher.calls == [("remove", "digits.1")]
