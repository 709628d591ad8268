"""The client against coordinators that behave and misbehave."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from client_fakes import Coordinator, FakeLauncher, Receive, fixed, status, told

from swarmtrain import ClusterError, Job, RequestError, Stopped, TrainingError
from swarmtrain.control import follow, handle, startup
from swarmtrain.control.client import Client
from swarmtrain.control.handle import RunHandle
from swarmtrain.control.place import Places
from swarmtrain.control.session import Streams
from swarmtrain.errors import ChannelError
from swarmtrain.job import LoadedJob
from swarmtrain.launchers.base import Run
from swarmtrain.wire.frames import Message

JOB = Job(command=["true"], name="digits")


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "TROUBLE_SECONDS", 0.02)
    monkeypatch.setattr(startup, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(handle, "_STOP_PATIENCE", 0.0)
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
    assert launcher.calls == [("submit", "digits.8", "")]


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
    launcher = FakeLauncher(digits_3=fixed(status("digits.3", "failed")))
    launcher.next = fixed(status("digits.4"))
    client(launcher).run(JOB, resume=True)
    assert launcher.calls == [("submit", "digits.4", "digits.3")]


def test_resume_without_a_run_is_refused() -> None:
    with pytest.raises(RequestError, match="no run of digits to resume"):
        client(FakeLauncher()).run(JOB, resume=True)


def test_a_run_that_does_not_get_to_its_place_fails_with_the_reason() -> None:
    launcher = FakeLauncher()
    launcher.troubles = "no suitable node (insufficient resources on 3 nodes)"
    with pytest.raises(ClusterError, match=r"digits\.1 cannot start: no suitable node"):
        client(launcher).run(JOB)
    assert launcher.calls[-1] == ("kill", "digits.1")


def test_a_coordinator_that_never_answers_is_given_up() -> None:
    launcher = FakeLauncher()
    with pytest.raises(ClusterError, match=r"did not answer within 0 s: the coordinator of digits\.1"):
        RunHandle(Run("digits", 1, "local"), launcher, patience=0.0).started()
    assert launcher.calls == [("kill", "digits.1")]


def test_a_trouble_counts_only_when_it_lasts() -> None:
    persistence = startup.Persistence(3.0)
    assert persistence.certain("restarting", 0.0) == ""
    assert persistence.certain("restarting", 2.9) == ""
    assert persistence.certain("", 3.0) == ""
    assert persistence.certain("restarting", 4.0) == ""
    assert persistence.certain("no space", 7.0) == "no space"


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
    assert [update.event["text"] for update in updates if update.event] == ["one", "two"]
    assert [update.note for update in updates if update.note][-1] == "the coordinator is back"
    assert updates[-1].status is not None and updates[-1].status["state"] == "succeeded"
    assert [request.get("after") for request in coordinator.requests] == [0, 1]


def test_trouble_while_starting_ends_the_watch_and_the_run() -> None:
    def watch(request: Message, receive: Receive) -> Iterator[Message]:
        yield {"status": status(state="starting")}
        receive()

    coordinator = fixed(status(state="starting"), watch=watch)
    launcher = FakeLauncher(digits_1=coordinator)
    launcher.troubles = "no such image: nothing:latest"
    with pytest.raises(ClusterError, match=r"digits\.1 cannot start: no such image"):
        list(run_of(launcher).watch())
    assert coordinator.requests[-1] == {"op": "stop", "reason": "no such image: nothing:latest"}


def test_trouble_after_the_start_is_the_coordinators_business() -> None:
    def watch(request: Message, receive: Receive) -> Iterator[Message]:
        yield {"status": status()}
        time.sleep(0.1)
        yield {"status": status(state="succeeded"), "done": {}}

    launcher = FakeLauncher(digits_1=fixed(status(), watch=watch))
    launcher.troubles = "a task was restarted"
    assert run_of(launcher).wait().state == "succeeded"


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


def test_stopping_a_run_whose_coordinator_is_silent_kills_it() -> None:
    launcher = FakeLauncher(digits_1=fixed(status()))
    run = run_of(launcher)
    launcher.coordinators.clear()
    run.stop()
    assert launcher.calls == [("kill", "digits.1")]


def test_a_live_run_is_removed_by_force_only() -> None:
    launcher = FakeLauncher(digits_1=fixed(status()))
    with pytest.raises(ClusterError, match="still running"):
        run_of(launcher).remove()
    run_of(launcher).remove(force=True)
    assert launcher.calls == [("remove", "digits.1")]


# ---- files and commands ----------------------------------------------------------------------------------------------


def sent(data: bytes, name: str = "snapshot.pt", directory: bool = False, digest: str = "") -> list[Message]:
    head = {"name": name, "directory": directory, "size": len(data), "node": "lab-1"}
    pieces = [{"data": base64.b64encode(data[at : at + 7]).decode()} for at in range(0, len(data), 7)]
    digest = digest or hashlib.sha256(data).hexdigest()
    return [{"file": head}, *pieces, {"done": {"bytes": len(data), "sha256": digest}}]


def fetching(*replies: Message) -> FakeLauncher:
    return FakeLauncher(digits_1=fixed(status(), fetch=told(*replies)))


def test_a_file_arrives_whole(tmp_path: Path) -> None:
    fetched = run_of(fetching(*sent(b"weights" * 9))).fetch("snapshot.pt", tmp_path)
    assert fetched.path == tmp_path / "snapshot.pt"
    assert fetched.path.read_bytes() == b"weights" * 9
    assert (fetched.node, fetched.bytes) == ("lab-1", 63)
    assert list(tmp_path.iterdir()) == [fetched.path]


def test_a_damaged_file_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ChannelError, match="damaged"):
        run_of(fetching(*sent(b"weights", digest="0" * 64))).fetch("snapshot.pt", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_fetch_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="broke"):
        run_of(fetching(*sent(b"weights")[:1], {"hang up": True})).fetch("snapshot.pt", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_here_is_not_replaced_unasked(tmp_path: Path) -> None:
    (tmp_path / "snapshot.pt").write_text("mine")
    with pytest.raises(RequestError, match="exists already"):
        run_of(fetching(*sent(b"weights"))).fetch("snapshot.pt", tmp_path)
    assert (tmp_path / "snapshot.pt").read_text() == "mine"
    run_of(fetching(*sent(b"weights"))).fetch("snapshot.pt", tmp_path, overwrite=True)
    assert (tmp_path / "snapshot.pt").read_bytes() == b"weights"


def test_a_directory_arrives_under_the_name_it_is_given(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in ("snapshots/a.pt", "snapshots/deep/b.pt"):
            member = tarfile.TarInfo(name)
            member.size = 2
            archive.addfile(member, io.BytesIO(b"ok"))
    fetched = run_of(fetching(*sent(packed.getvalue(), "snapshots", True))).fetch(
        "snapshots", tmp_path / "here"
    )
    assert fetched.directory
    assert (tmp_path / "here/a.pt").read_bytes() == (tmp_path / "here/deep/b.pt").read_bytes() == b"ok"
    assert [each.name for each in tmp_path.iterdir()] == ["here"]


def test_a_node_cannot_write_outside_of_the_directory(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("snapshots/../../evil"), io.BytesIO())
    with pytest.raises(ChannelError, match="cannot be unpacked"):
        run_of(fetching(*sent(packed.getvalue(), "snapshots", True))).fetch("snapshots", tmp_path / "here")
    assert not (tmp_path.parent / "evil").exists()


def test_a_node_whose_agent_has_ended_is_reached_first(tmp_path: Path) -> None:
    answers = iter([[{"reach": "lab-2", "done": {}}], sent(b"weights")])
    coordinator = fixed(status(state="failed"), fetch=lambda request, receive: iter(next(answers)))
    launcher = FakeLauncher(digits_1=coordinator)
    run_of(launcher).fetch("snapshot.pt", tmp_path)
    assert launcher.calls == [("reach", "digits.1", "lab-2")]
    assert coordinator.requests[-1]["node"] == "lab-2"


def test_a_command_gets_its_input_and_gives_its_output() -> None:
    def execute(request: Message, receive: Receive) -> Iterator[Message]:
        typed = b""
        while message := receive():
            if "eof" in message:
                break
            typed += base64.b64decode(message["stdin"])
        yield {"stdout": base64.b64encode(typed.upper()).decode()}
        yield {"stderr": base64.b64encode(b"\xff").decode()}
        yield {"done": {"exit": 7}}

    coordinator = fixed(status(), exec=execute)
    streams = Streams(io.BytesIO(b"hello"), io.BytesIO(), io.BytesIO())
    assert run_of(FakeLauncher(digits_1=coordinator)).exec(1, ["tr", "a-z", "A-Z"], streams) == 7
    assert isinstance(streams.stdout, io.BytesIO) and streams.stdout.getvalue() == b"HELLO"
    assert isinstance(streams.stderr, io.BytesIO) and streams.stderr.getvalue() == b"\xff"
    assert coordinator.requests[0] == {"op": "exec", "argv": ["tr", "a-z", "A-Z"], "rank": 1}


def test_a_command_on_an_unknown_node_is_refused() -> None:
    coordinator = fixed(status(), exec=told({"error": "there is no node lab-9", "hint": "lab-1", "exit": 2}))
    with pytest.raises(RequestError, match="no node lab-9"):
        run_of(FakeLauncher(digits_1=coordinator)).exec(
            "lab-9", ["ls"], Streams(None, io.BytesIO(), io.BytesIO())
        )


# ---- places ----------------------------------------------------------------------------------------------------------

NO_SWARM = ClusterError("this Docker engine is not in a Swarm", "docker swarm init")


def places(error: ClusterError | None, *launchers: FakeLauncher, on: str | None = None) -> Places:
    return Places(on, {launcher.name: launcher for launcher in launchers}, ask=lambda: error)


def loaded(**keys: object) -> LoadedJob:
    return LoadedJob.of(Job(command=["true"], **keys))


def test_a_swarm_manager_is_used_where_docker_speaks_to_one() -> None:
    launcher, notice = places(None, FakeLauncher("swarm")).choose(loaded())
    assert launcher.name == "swarm" and "Swarm manager" in notice.text


def test_without_a_swarm_the_run_is_here_and_the_reason_is_said() -> None:
    launcher, notice = places(NO_SWARM, FakeLauncher("local")).choose(loaded())
    assert launcher.name == "local" and "not in a Swarm" in notice.text


def test_named_nodes_never_run_on_one_machine_silently() -> None:
    with pytest.raises(
        ClusterError, match="names nodes \\(a, b\\), but this Docker engine is not in a Swarm"
    ) as caught:
        places(NO_SWARM, FakeLauncher("local")).choose(loaded(nodes=["a", "b"]))
    assert caught.value.hint == "docker swarm init"


def test_a_named_launcher_is_not_questioned() -> None:
    launcher, _ = places(NO_SWARM, FakeLauncher("docker"), on="docker").choose(loaded(nodes=["a", "b"]))
    assert launcher.name == "docker"


def test_an_unknown_launcher_is_refused() -> None:
    with pytest.raises(RequestError, match="no launcher 'slurm'"):
        Client("slurm")


def test_a_bare_name_is_the_latest_run_anywhere() -> None:
    here = FakeLauncher("local", digits_1=fixed(status()), other_1=fixed(status("other.1")))
    there = FakeLauncher("swarm", digits_4=fixed(status("digits.4")))
    there.kept = [Run("digits", 4, "swarm", created=0.5)]
    known = places(None, here, there)
    assert known.find("digits").id == "digits.1"
    assert known.find("digits.4").on == "swarm"


def test_an_unknown_run_gets_the_nearest_name() -> None:
    with pytest.raises(RequestError, match=r"there is no run digit$") as caught:
        places(None, FakeLauncher("local", digits_1=fixed(status()))).find("digit")
    assert caught.value.hint == "did you mean digits?"


def test_a_launcher_that_cannot_say_hides_no_other() -> None:
    class Dead(FakeLauncher):
        def runs(self) -> list[Run]:
            raise NO_SWARM

    assert len(places(None, Dead("swarm"), FakeLauncher("local", digits_1=fixed(status()))).runs()) == 1
    with pytest.raises(ClusterError):
        places(None, Dead("swarm"), on="swarm").runs()
