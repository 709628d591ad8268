"""Clients and coordinators of different versions: understood, or refused in a sentence."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from client_fakes import Coordinator, FakeLauncher, fixed, status, told
from run_fakes import Theatre

from swarmtrain.control.handle import RunHandle
from swarmtrain.coordinator.clients.requests import ClientRequests
from swarmtrain.errors import ChannelError, Refused
from swarmtrain.protocol.ask import error_of
from swarmtrain.protocol.codec import load
from swarmtrain.protocol.replies import ErrorReply
from swarmtrain.protocol.status import SnapshotState, Status
from swarmtrain.wire.channel import Channel
from swarmtrain.wire.names import PROTOCOL_VERSION


def answered(stage: Theatre, *requests: dict[str, Any]) -> list[dict[str, Any]]:
    """What a coordinator answers to these requests, one after the other."""
    clients = ClientRequests(stage.make())

    async def act() -> list[dict[str, Any]]:
        ours, theirs = socket.socketpair()
        client = Channel(*await asyncio.open_unix_connection(sock=ours))
        serving = asyncio.ensure_future(clients.serve(*await asyncio.open_unix_connection(sock=theirs)))
        replies = []
        for request in requests:
            await client.send(request)
            replies.append(await client.receive() or {})
        client.close()
        await client.closed()
        await serving
        return replies

    return asyncio.run(asyncio.wait_for(act(), 20))


def test_a_client_that_tells_no_version_is_of_the_first_and_is_understood(stage: Theatre) -> None:
    (reply,) = answered(stage, {"op": "status"})
    assert reply["status"]["run"] == "t.1" and reply["done"] == {}


def test_a_client_that_tells_no_version_is_refused_once_there_is_a_second(
    stage: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swarmtrain.wire.channel.PROTOCOL_VERSION", 2)
    refused, _ = answered(stage, {"op": "status"}, {"op": "status", "swarmtrain": 2})
    assert refused["error"] == "the peer speaks version 1 of the protocol, this side 2"


def test_a_client_of_another_version_is_refused_in_a_sentence_and_may_ask_again(stage: Theatre) -> None:
    newer = {"op": "status", "swarmtrain": PROTOCOL_VERSION + 1}
    refused, reply = answered(stage, newer, {"op": "status", "swarmtrain": PROTOCOL_VERSION})
    assert refused["error"] == (
        f"the peer speaks version {PROTOCOL_VERSION + 1} of the protocol, this side {PROTOCOL_VERSION}"
    )
    assert (refused["hint"], refused["exit"]) == (
        "run client, agents and coordinator from one version of swarmtrain",
        3,
    )
    assert "status" in reply


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"op": "dance"}, "a request that this version does not know: op 'dance'"),
        ({"op": "resize", "nodes": "two"}, "resize.nodes: a whole number is wanted, not 'two'"),
        ({"op": "fetch"}, "fetch.path: is missing"),
        ({}, "a request that this version does not know: op None"),
    ],
)
def test_a_request_that_makes_no_sense_is_answered_with_what_is_wrong(
    stage: Theatre, request_: dict[str, Any], words: str
) -> None:
    wrong, right = answered(stage, request_, {"op": "status"})
    assert (wrong["error"], wrong["exit"]) == (words, 3)
    assert "status" in right


def run_of(coordinator: Coordinator) -> RunHandle:
    launcher = FakeLauncher(digits_1=coordinator)
    return RunHandle(launcher.kept[0], launcher)


def test_a_newer_coordinator_says_more_than_is_read() -> None:
    document = status() | {"mood": "good", "members": [{"node": "a", "state": "running", "colour": "red"}]}
    assert run_of(fixed(document)).status().members[0].node == "a"


def test_a_coordinator_that_answers_nonsense_is_named_with_the_key() -> None:
    reply = {"status": status() | {"generation": "third"}, "done": {}}
    with pytest.raises(
        ChannelError, match=r"reply\.status\.generation: a whole number is wanted, not 'third'"
    ):
        run_of(Coordinator(status=told(reply))).status()


def test_what_a_script_reports_of_itself_keeps_nobody_from_reading_the_status(stage: Theatre) -> None:
    run = stage.make()
    lines = [
        {"kind": "step", "step": "first", "loss": "high", "epoch": [1], "lr": None, "samples": {}},
        {"kind": "snapshot", "step": 2.5, "path": 7, "bytes": "many"},
        {"kind": "resume", "step": [], "path": None},
        {"kind": "eval", "metrics": ["good"]},
    ]
    run.progress.append(1, 0, "a", 0, "".join(json.dumps(line) + "\n" for line in lines))
    (reply,) = answered(stage, {"op": "status"})
    found = load(Status, reply["status"])
    assert (found.step, found.loss, found.eval) == (None, None, None)
    assert found.snapshot in (None, SnapshotState(node="a"))


def refused(
    request: dict[str, Any], receive: Callable[[], dict[str, Any] | None]
) -> Iterator[dict[str, Any]]:
    yield {"error": "the peer speaks version 2 of the protocol, this side 1", "hint": "", "exit": 3}


@pytest.mark.parametrize("answers", [{"status": refused}, {"stop": refused}])
def test_a_run_whose_coordinator_refuses_to_stop_is_not_killed(answers: dict[str, Any]) -> None:
    launcher = FakeLauncher(digits_1=fixed(status(), **answers))
    with pytest.raises(Refused, match="version 2 of the protocol"):
        RunHandle(launcher.kept[0], launcher).stop()
    assert launcher.calls == []


def test_a_coordinator_that_refuses_to_be_watched_is_not_asked_again() -> None:
    launcher = FakeLauncher(digits_1=fixed(status(), watch=refused))
    with pytest.raises(Refused, match="version 2 of the protocol"):
        list(RunHandle(launcher.kept[0], launcher).watch())


@pytest.mark.parametrize(
    ("code", "kind"), [(1, "TrainingError"), (2, "RequestError"), (3, "Refused"), (9, "Refused")]
)
def test_a_refusal_is_raised_as_what_its_exit_code_says(code: int, kind: str) -> None:
    assert type(error_of(ErrorReply("no", "", code))).__name__ == kind
