"""Who reads a long output keeps the coordinator from nothing: leases are kept and others answered meanwhile."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from swarmtrain.coordinator.clients import actions
from swarmtrain.coordinator.clients.requests import ClientRequests
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.coordinator.store import output
from swarmtrain.coordinator.store.run_paths import RunPaths
from swarmtrain.protocol.facts import Outcome
from swarmtrain.wire.channel import Channel
from swarmtrain.wire.disk import records
from swarmtrain.wire.disk.storage import Storage
from swarmtrain.wire.run_spec import RunSecret, RunSpec
from swarmtrain.wire.sockets import serve_unix

LINES = 5000


def run_that_wrote_much(path: Path) -> RunController:
    """A run that has ended, with more than a moment's reading of output."""
    place = RunPaths(Storage(path), "t.1", "t.1", "")
    place.path.mkdir(parents=True)
    run = RunController(RunSpec("t", "script", "train.py"), RunSecret("t.1", "token"), place)
    offset = 0
    for number in range(LINES):
        offset = run.output.append((1, 0), "a", float(number), offset, f"{number} " + 250 * "x" + "\n")
    actions.conclude(run, Outcome.STOPPED, "for a test")
    return run


def ask(run: RunController, path: Path, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Every reply of the run's coordinator to a request."""

    async def act() -> list[dict[str, Any]]:
        server = await serve_unix(path, ClientRequests(run).serve)
        channel = Channel(*await asyncio.open_unix_connection(str(path), limit=1 << 26))
        await channel.send(request)
        replies: list[dict[str, Any]] = []
        while not replies or "done" not in replies[-1]:
            reply = await asyncio.wait_for(channel.receive(), 30)
            assert reply is not None
            replies.append(reply)
        channel.close()
        server.close()
        return replies

    return asyncio.run(act())


@pytest.mark.parametrize(
    ("request_", "found"),
    [
        ({"op": "logs"}, LINES),
        ({"op": "logs", "ranks": [7]}, 0),  # which reads all of it, and finds nothing
        ({"op": "logs", "tail": 3}, 3),
        ({"op": "logs", "ranks": [7], "tail": 3}, 0),
        ({"op": "logs", "follow": True}, LINES),
        ({"op": "watch"}, LINES),
        ({"op": "watch", "tail": 3}, 3),
    ],
)
def test_a_long_output_is_read_beside_the_coordinators_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request_: dict[str, Any], found: int
) -> None:
    run = run_that_wrote_much(tmp_path)
    readers: set[str] = set()
    parse = vars(output)["parse"]

    def parse_here(line: bytes) -> Any:
        readers.add(threading.current_thread().name)
        return parse(line)

    monkeypatch.setattr(output, "parse", parse_here)
    replies = ask(run, tmp_path / "socket", request_)
    assert sum(len(reply.get("lines", ())) for reply in replies) == found
    assert readers and threading.main_thread().name not in readers
    for store in (run.journal, run.output, run.progress):
        store.close()


def test_many_metrics_are_read_and_left_out_beside_the_coordinators_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_that_wrote_much(tmp_path)
    text = "".join(f'{{"kind":"step","step":{number}}}\n' for number in range(LINES))
    run.progress.append(1, 0, "a", 0, text)
    readers: set[str] = set()
    parse = vars(records)["parse"]

    def parse_here(line: bytes) -> Any:
        readers.add(threading.current_thread().name)
        return parse(line)

    monkeypatch.setattr(records, "parse", parse_here)
    *replies, last = ask(run, tmp_path / "socket", {"op": "metrics", "after": LINES - 3})
    assert [metric["step"] for reply in replies for metric in reply["metrics"]] == [4997, 4998, 4999]
    assert last == {"done": {"after": LINES}}
    assert readers and threading.main_thread().name not in readers
    for store in (run.journal, run.output, run.progress):
        store.close()


def test_who_follows_hears_once_when_all_that_was_there_has_been_told(tmp_path: Path) -> None:
    run = run_that_wrote_much(tmp_path)
    replies = ask(run, tmp_path / "socket", {"op": "logs", "follow": True})
    kinds = [next(iter(reply)) for reply in replies]
    assert kinds == ["lines"] * kinds.count("lines") + ["caught_up", "done"]
    for store in (run.journal, run.output, run.progress):
        store.close()
