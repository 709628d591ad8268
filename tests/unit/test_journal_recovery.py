"""A coordinator that begins on another machine: its journal is put together from what real agents' copies hold."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from swarmtrain.agent.journal_copy import JournalCopy
from swarmtrain.coordinator.agents import journal_recovery as module
from swarmtrain.coordinator.agents.journal_recovery import recover_journal, worth
from swarmtrain.protocol.codec import dump
from swarmtrain.protocol.from_agent import CopyPiece, CopyState, Join, Joiner
from swarmtrain.protocol.journal.event import Event
from swarmtrain.protocol.journal.events import load
from swarmtrain.protocol.journal.lines import batches, read_events
from swarmtrain.wire import frames, sockets
from swarmtrain.wire.channel import Channel, initiate

TOKEN = "t" * 64
AGE = 5.0  # seconds for which agents have waited for a coordinator


def events(count: int, *, moved: int = 0, nodes: tuple[str, ...] = ("a", "b", "c")) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = [
        {"seq": seq, "t": float(seq), "kind": "choice", "text": f"event {seq}"} for seq in range(1, count + 1)
    ]
    if count:
        parts = {node: {"incarnation": node, "ranks": [], "group_rank": 0} for node in nodes}
        made[0] |= {"kind": "generation", "generation": 1, "parts": parts, "backend": "gloo"}
        made[0] |= {"master": {"node": "a", "address": "10.0.0.1", "port": 20_000}}
    if moved:
        made[-1] |= {"kind": "moved", "moved": moved}
    return made


def loaded(records: list[dict[str, Any]]) -> list[Event]:
    return [load(record) for record in records]


def joiner(node: str) -> Joiner:
    return Joiner(
        node=node,
        node_id=node,
        incarnation=node,
        slot=0,
        workers=1,
        gpus=0,
        backend="gloo",
        address="10.0.0.1",
        interface="eth0",
        why="a test",
        port=20_000,
        time=0.0,
        generation=1,
        states=[],
        idle=False,
        warm=True,
        leaving=False,
        copy=CopyState(1, 0),
    )


async def hand_over(address: str, node: str, copy: list[dict[str, Any]]) -> None:
    """What an agent does: prove itself, join, and give its copy when it is asked for it."""
    while True:
        try:
            channel = Channel(*await sockets.dial(address))
            break
        except OSError:
            await asyncio.sleep(0.02)
    await initiate(channel, TOKEN)
    await channel.send(dump(Join("agent", joiner(node))))
    assert await channel.receive() == {"salvage": True}
    for event in copy:
        await channel.send({"copy": [event], "done": False})
    await channel.send({"copy": [], "done": True, "age": AGE})
    await channel.receive()
    channel.close()


def recovered(tmp_path: Path, copies: dict[str, list[dict[str, Any]]], move: int = 7) -> list[dict[str, Any]]:
    address = f"unix:{tmp_path / 'agents'}"
    path = tmp_path / "journal.jsonl"

    async def act() -> None:
        agents = [hand_over(address, node, copy) for node, copy in copies.items()]
        await asyncio.wait_for(
            asyncio.gather(recover_journal(address, TOKEN, path, move, "lab-2"), *agents), timeout=20
        )

    asyncio.run(act())
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_copy_that_knows_most_is_gone_on_from(tmp_path: Path) -> None:
    found = recovered(tmp_path, {"b": events(3), "c": events(5)})
    assert [event["seq"] for event in found] == [1, 2, 3, 4, 5, 6]
    assert (found[-1]["kind"], found[-1]["moved"]) == ("moved", 7)
    assert found[-1]["text"] == "the coordinator was moved to lab-2, and goes on from what b, c knew"
    # five seconds after the last event, whatever this machine's clock says
    assert 10.0 <= found[-1]["t"] < 15.0


def test_a_journal_of_before_an_earlier_move_is_no_better_for_being_longer(tmp_path: Path) -> None:
    assert worth(loaded(events(3, moved=5))) > worth(loaded(events(9)))
    (tmp_path / "journal.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events(9)))
    found = recovered(tmp_path, {"b": events(3, moved=5), "c": events(2)})
    assert [event["kind"] for event in found] == ["generation", "choice", "moved", "moved"]


def test_one_agent_alone_is_enough_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    assert len(recovered(tmp_path, {"c": events(4)})) == 5


def test_a_move_that_was_made_is_not_made_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events(3, moved=7)))
    before = path.read_bytes()
    asyncio.run(
        asyncio.wait_for(recover_journal(f"unix:{tmp_path / 'agents'}", TOKEN, path, 7, "lab-2"), timeout=5)
    )
    assert path.read_bytes() == before


def test_a_copy_takes_each_event_once_and_in_order_and_outlives_its_agent(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    copy, made = JournalCopy(path), events(5)
    copy.take(made[:2])
    copy.take(made[1:3])
    copy.take(made[4:])  # the fourth is missing
    assert [event.seq for event in copy.events] == [1, 2, 3]
    with path.open("a") as file:
        file.write('{"seq": 4, "torn')
    again = JournalCopy(path)
    assert again.events == loaded(made[:3])
    again.take(made[3:])
    assert [event for batch in batches(JournalCopy(path).events) for event in batch] == made
    again.forget()
    assert JournalCopy(path).events == []


def test_a_copy_begins_anew_when_the_coordinator_does(tmp_path: Path) -> None:
    copy = JournalCopy(tmp_path / "journal.jsonl")
    copy.take(events(5))
    copy.take(events(2, moved=1))
    assert copy.events == JournalCopy(tmp_path / "journal.jsonl").events == loaded(events(2, moved=1))


def test_a_copy_with_a_bad_line_in_it_keeps_what_follows(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    copy, made = JournalCopy(path), events(5)
    copy.take(made)
    assert copy.age is not None and copy.age < 5.0
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"\0\0\0\n", *lines[3:]]))
    again = JournalCopy(path)
    assert [event.seq for event in again.events] == [1, 2, 3, 4, 5]
    assert [event.kind for event in again.events] == ["generation", "choice", "damaged", "choice", "choice"]
    assert again.age is None


def test_a_copy_and_what_is_made_of_copies_believe_no_line_that_the_disk_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "copy.jsonl"
    JournalCopy(path).take(events(5))
    recovered(tmp_path, {"b": events(5), "c": events(5)})
    for each in (path, tmp_path / "journal.jsonl"):
        each.write_bytes(each.read_bytes().replace(b"event 3", b"event 7"))
        assert "event 7" not in [event.text for event in read_events(each)]
        assert [event.text for event in read_events(each)][3:5] == ["event 4", "event 5"]


def test_a_copy_of_long_events_is_handed_over_in_messages_of_bounded_size(tmp_path: Path) -> None:
    made = [each | {"text": "x" * 300_000} for each in events(60)]
    copy = JournalCopy(tmp_path / "copy.jsonl")
    copy.take([*made, {"seq": 61, "t": 61.0, "kind": "choice", "text": "y" * 5_000_000}])
    pieces = [CopyPiece(batch) for batch in batches(copy.events)]
    assert all(frames.pack(dump(piece)) for piece in pieces)
    assert [record["seq"] for piece in pieces for record in piece.events] == list(range(1, 62))


def test_a_disk_that_takes_nothing_costs_the_copy_on_disk_only(tmp_path: Path) -> None:
    copy = JournalCopy(tmp_path / "is" / "not" / "there.jsonl")
    copy.take(events(2))
    assert len(copy.events) == 2
