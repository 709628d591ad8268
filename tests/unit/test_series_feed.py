"""The way of measurements: from a node's file over the wire into the series, and from there to whoever asks."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swarmtrain.agent.measure.files import file_of
from swarmtrain.agent.worker_group.tails import Piece, Tails, measured_key
from swarmtrain.coordinator.agents.connections import AgentConnections
from swarmtrain.coordinator.clients.requests import ClientRequests
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.coordinator.store.run_paths import RunPaths
from swarmtrain.protocol.codec import dump
from swarmtrain.protocol.requests import SeriesRequest
from swarmtrain.wire.channel import Channel, initiate
from swarmtrain.wire.disk.storage import Storage
from swarmtrain.wire.names import PROTOCOL_VERSION
from swarmtrain.wire.run_spec import RunSecret, RunSpec
from swarmtrain.wire.sockets import serve

AHEAD = 3600.0  # seconds by which the node's clock is wrong


class Stage:
    """A run's coordinator, an agent whose machine has been up for a thousand seconds, and clients."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._runs: list[RunController] = []

    def run(self, *, archive: bool = False) -> RunController:
        """Its coordinator, or the next one."""
        self.close()
        place = RunPaths(Storage(self._path), "t.1", "t.1", "")
        place.path.mkdir(parents=True, exist_ok=True)
        spec = RunSpec("t", "script", "train.py", nodes_min=1, nodes_max=1)
        self._runs.append(RunController(spec, RunSecret("t.1", "token"), place, archive=archive))
        return self._runs[-1]

    def close(self) -> None:
        for run in self._runs:
            for store in (run.journal, run.output, run.progress):
                store.close()
        self._runs.clear()

    async def told(self, run: RunController, *messages: dict[str, Any]) -> tuple[Any, list[Any]]:
        """What an agent hears that joins and says this: its welcome, and what it is answered."""
        server = await serve("127.0.0.1:0", AgentConnections(run, ClientRequests(run).attend).serve)
        channel = Channel(*await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1]))
        await initiate(channel, run.secret.token)
        who = {
            "role": "agent",
            "node": "a",
            "node_id": "a",
            "incarnation": "a",
            "slot": 0,
            "workers": 1,
            "gpus": 0,
        }
        where = {"backend": "gloo", "address": "10.0.0.1", "interface": "eth0", "why": "", "port": 20_000}
        how = {"time": 1000.0, "generation": 0, "states": [], "idle": True, "warm": True, "leaving": False}
        await channel.send({"join": {**who, **where, **how, "journal": 0, "moved": 0}})
        welcome, answers = await channel.receive(), list[Any]()
        for message in messages:
            await channel.send(message)
            while not (answer := await channel.receive() or {"ack": None}).keys() & {"ack", "later"}:
                pass
            answers.append(answer)
        channel.abort()
        server.close()
        await asyncio.sleep(0.05)
        return welcome, answers


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    it = Stage(tmp_path)
    yield it
    it.close()


async def asked(run: RunController, **wanted: Any) -> list[dict[str, Any]]:
    """What a client is answered."""
    ours, theirs = socket.socketpair()
    serving = asyncio.ensure_future(
        ClientRequests(run).serve(*await asyncio.open_unix_connection(sock=theirs))
    )
    client = Channel(*await asyncio.open_unix_connection(sock=ours))
    await client.send({**dump(SeriesRequest(**wanted)), "swarmtrain": PROTOCOL_VERSION})
    found: list[Any] = []
    while (reply := await client.receive() or {"done": {}}).get("done") is None:
        found.append(reply["series"])
    client.close()
    await serving
    return found


def measured(offset: int, text: str, run: RunController, number: int = 1) -> dict[str, Any]:
    boot = run.journal.clock.now() + AHEAD - 1000.0
    return {"measured": {"number": number, "o": offset, "d": text, "boot": boot}}


def line(run: RunController, ago: float, value: float) -> str:
    told = {
        "t": run.journal.clock.now() + AHEAD - ago,
        "v": {"node/load": value, "disk/busy_ratio{device=sda}": 0.5},
    }
    return json.dumps(told) + "\n"


def test_what_a_node_measures_has_the_runs_time_and_comes_once(stage: Stage) -> None:
    run = stage.run()
    begun = run.journal.clock.now()
    first, second = line(run, 60.0, 1.0), line(run, 50.0, 2.0)

    async def scene() -> None:
        _, answers = await stage.told(
            run, measured(0, first, run), measured(0, first + second, run), measured(999, second, run)
        )
        assert [answer["ack"]["o"] for answer in answers] == [
            len(first),
            len(first + second),
            len(first + second),
        ]
        assert {(answer["ack"]["kind"], answer["ack"]["g"], answer["ack"]["r"]) for answer in answers} == {
            ("measured", 1, -1)
        }
        (series,) = await asked(run, names=("node/load",))
        assert (series["labels"], series["nodes"], series["value"]) == ({"node": "a"}, ["a"], 2.0)
        assert [point[5] for point in series["points"]] == [1.0, 2.0]
        ago = [begun - point[1] for point in series["points"]]
        assert ago == pytest.approx([60.0, 50.0], abs=5.0)  # and not an hour from now

    asyncio.run(scene())


def test_an_agent_that_comes_back_hears_how_much_of_its_files_is_known(stage: Stage) -> None:
    run = stage.run()
    text = line(run, 10.0, 1.0)

    async def scene() -> None:
        await stage.told(run, measured(0, text, run), measured(0, text, run, number=2))
        again = stage.run()
        welcome, _ = await stage.told(again)
        assert welcome["welcome"]["offsets"] == [
            ["measured", 1, -1, len(text)],
            ["measured", 2, -1, len(text)],
        ]
        (series,) = await asked(again, names=("node/load",))
        assert len(series["points"]) == 2

    asyncio.run(scene())


def test_lines_that_make_no_sense_are_passed_over_and_known(stage: Stage) -> None:
    run = stage.run()
    texts = ["nonsense\n", "[]\n", '{"t":"now","v":{}}\n', '{"t":5,"v":{"":1,"a{b":2,"node/load":true}}\n']
    text = "".join(texts) + line(run, 5.0, 3.0)

    async def scene() -> None:
        _, (answer,) = await stage.told(run, measured(0, text, run))
        assert answer["ack"]["o"] == len(text)
        assert [series["name"] for series in await asked(run)] == ["disk/busy_ratio", "node/load"]

    asyncio.run(scene())


def test_a_disk_that_is_full_has_measurements_come_later(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stage.run()
    text = line(run, 5.0, 3.0)

    async def scene() -> None:
        monkeypatch.setattr(type(run.progress.series), "full", lambda self: True)
        _, (answer,) = await stage.told(run, measured(0, text, run))
        assert answer == {"later": {"kind": "measured", "g": 1, "r": -1}}

    asyncio.run(scene())


def test_what_ranks_tell_is_in_the_archive_also_of_a_run_that_kept_no_series(
    stage: Stage, tmp_path: Path
) -> None:
    """As the runs of earlier versions, and as one whose coordinator died before its series were written."""
    run = stage.run()
    lines = [{"kind": "step", "step": step, "loss": 1 / step, "t": 100.0 + step} for step in range(1, 4)]
    text = "".join(json.dumps(each) + "\n" for each in [*lines, {"kind": "step", "step": 4, "loss": "nan"}])
    run.progress.append(1, 0, "a", 0, text)
    place = run.place.path
    stage.close()
    for path in (place / "series").iterdir():
        path.unlink()
    (place / "series").rmdir()
    archive = stage.run(archive=True)
    (series,) = asyncio.run(asked(archive, names=("train/loss",), x="step"))
    assert [(point[0], point[5], point[8]) for point in series["points"]] == [
        *((1.0, 1.0, 0), (2.0, 0.5, 0), (3.0, 1 / 3, 0), (4.0, None, 1))
    ]
    assert not (place / "series").exists()


def test_a_coordinator_that_is_started_again_has_every_point_once(stage: Stage) -> None:
    run = stage.run()
    text = "".join(json.dumps({"kind": "step", "step": step, "loss": 0.5}) + "\n" for step in range(1, 6))
    run.progress.append(1, 0, "a", 0, text)
    for _ in range(2):
        run = stage.run()
        run.progress.append(1, 0, "a", 0, text)  # an agent that has not heard that it has come
    more = json.dumps({"kind": "step", "step": 6, "loss": 0.5}) + "\n"
    run.progress.append(1, 0, "a", len(text), more)
    (series,) = asyncio.run(asked(run, names=("train/loss",)))
    assert [point[2] for point in series["points"]] == [1, 2, 3, 4, 5, 6]


def test_a_nodes_files_travel_as_those_of_its_workers_do(tmp_path: Path) -> None:
    tails, sent = Tails(), list[Piece]()
    path = file_of(tmp_path, 3)
    path.write_text('{"t":1,"v":{}}\n{"t":2')
    tails.watch(measured_key(3), path)

    async def send(piece: Piece) -> None:
        sent.append(piece)

    async def scene() -> None:
        running = asyncio.ensure_future(tails.run(send))
        await asyncio.sleep(0.1)
        running.cancel()

    asyncio.run(scene())
    (piece,) = map(dump, sent)
    body: Any = piece["measured"]
    assert (body["number"], body["o"], body["d"]) == (3, 0, '{"t":1,"v":{}}\n')
