"""Two nodes of a run that trains, and what becomes of their files when one is lost or the run ends."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from run_fakes import Theatre, join
from sharing_nodes import Node, begin, hasten, until

from swarmtrain.agent.sharing.store import Store
from swarmtrain.agent.sharing.transfer import bringing
from swarmtrain.protocol.journal.remarks import Warned

Act = Callable[[Node, Node], Awaitable[None]]


@pytest.fixture
def play(stage: Theatre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Act, float], None]:
    """Have two nodes, of which the first writes, begin a generation, and do something with them."""
    hasten(monkeypatch)

    async def scene(act: Act, share_rate: float) -> None:
        run = stage.make(share="auto", replicas=1, share_rate=share_rate)
        writer, other = await begin(stage, run, tmp_path, "ab")
        try:
            await act(writer, other)
        finally:
            for node in (writer, other):
                node.files.close()

    return lambda act, share_rate: asyncio.run(asyncio.wait_for(scene(act, share_rate), 40))


async def begin_anew(node: Node) -> None:
    """The node that is left has what it is to begin with."""
    await node.end(well=False)
    await until(lambda: node.run.sharing.is_ready([node.name]))


def checkpoint(node: Node, number: int, size: int = 1000) -> None:
    place = node.work / f"step-{number}"
    place.mkdir()
    for name in ("model.bin", "optimizer.bin"):
        (place / name).write_bytes(os.urandom(size))


def point(node: Node, number: int) -> None:
    (node.work / "latest.tmp").write_text(f"step-{number}")
    (node.work / "latest.tmp").replace(node.work / "latest")


def found(node: Node) -> list[str]:
    return sorted(each.name for each in node.work.iterdir())


WHOLE = ["model.bin", "optimizer.bin"]


def test_a_checkpoint_that_was_deleted_is_there_again_where_the_next_one_was_lost_before_it_was_copied(
    play: Callable[[Act, float], None],
) -> None:
    async def act(writer: Node, other: Node) -> None:
        checkpoint(writer, 1)
        await until(lambda: other.kept().get("step-1") == WHOLE)
        checkpoint(writer, 2, 20 << 20)
        await until(lambda: "step-2" in other.kept())
        shutil.rmtree(writer.work / "step-1")
        await asyncio.sleep(0.7)  # the deletion has come to rest
        assert other.kept()["step-2"] == []
        writer.lose()
        await begin_anew(other)
        assert (
            found(other) == ["step-1"]
            and sorted(each.name for each in (other.work / "step-1").iterdir()) == WHOLE
        )

    play(act, 0.01)


def test_what_names_a_checkpoint_leads_to_one_that_is_there_when_its_writer_is_lost(
    play: Callable[[Act, float], None],
) -> None:
    async def act(writer: Node, other: Node) -> None:
        checkpoint(writer, 1)
        point(writer, 1)
        await until(lambda: other.kept().get("") == ["latest"] and other.kept().get("step-1") == WHOLE)
        checkpoint(writer, 2, 20 << 20)
        point(writer, 2)
        await until(lambda: "step-2" in other.kept())
        await asyncio.sleep(0.7)
        assert other.kept()["step-2"] == []
        writer.lose()
        await begin_anew(other)
        assert (other.work / "latest").read_text() == "step-1" and found(other) == ["latest", "step-1"]

    play(act, 0.01)


def test_what_names_a_checkpoint_is_there_with_it_when_both_were_copied(
    play: Callable[[Act, float], None],
) -> None:
    async def act(writer: Node, other: Node) -> None:
        for number in (1, 2):
            checkpoint(writer, number)
            point(writer, number)
            await asyncio.sleep(0.2)
        await until(lambda: other.kept().get("") == ["latest"] and other.kept().get("step-2") == WHOLE)
        writer.lose()
        await begin_anew(other)
        assert (other.work / "latest").read_text() == "step-2"
        assert found(other) == ["latest", "step-1", "step-2"]

    play(act, 1.0)


def test_what_was_deleted_makes_room_for_the_next_where_there_is_none_else(
    play: Callable[[Act, float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bringing, "_PAUSE", 0.1)
    monkeypatch.setattr(
        Store, "room", lambda store: 0 if len(list(store._contents.iterdir())) > 1 else 1 << 30
    )

    async def act(writer: Node, other: Node) -> None:
        (other.work.parent / "shared" / "contents").mkdir(parents=True, exist_ok=True)
        checkpoint(writer, 1)
        await until(lambda: other.kept().get("step-1") == WHOLE)
        checkpoint(writer, 2)
        await until(lambda: "step-2" in other.kept())
        await asyncio.sleep(0.5)
        assert other.kept()["step-2"] == [] and other.kept()["step-1"] == WHOLE
        shutil.rmtree(writer.work / "step-1")
        await until(lambda: other.kept()["step-2"] == WHOLE)

    play(act, 1.0)


@pytest.mark.parametrize("is_slow", [False, True])
def test_at_an_end_what_has_come_to_rest_nowhere_yet_is_copied(
    play: Callable[[Act, float], None], is_slow: bool
) -> None:
    async def act(writer: Node, other: Node) -> None:
        run = writer.run
        checkpoint(writer, 1, 20 << 20)
        if is_slow:
            await until(lambda: "step-1" in other.kept())
        for node in (writer, other):
            await node.end(well=True)
        copied = until(lambda: run.sharing.waits_at_the_end(stopped=False) is None)
        await asyncio.wait_for(copied, 15)  # as slowly as while it trains, that would take a minute
        assert other.kept()["step-1"] == WHOLE and not run.journal.all(Warned)

    play(act, 0.01)


def test_a_node_that_comes_late_gets_the_copies_that_are_wanting(
    stage: Theatre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch)

    async def scene() -> None:
        run = stage.make(share="auto", replicas=2)
        nodes = await begin(stage, run, tmp_path, "ab")
        checkpoint(nodes[0], 1)
        await until(lambda: nodes[1].kept().get("step-1") == WHOLE)
        nodes.append(late := Node(stage, run, "c", 2, tmp_path / "c"))
        await late.open_files()
        join(run, late.peer)
        try:
            await asyncio.wait_for(until(lambda: late.kept().get("step-1") == WHOLE), 15)
        finally:
            for node in nodes:
                node.files.close()

    asyncio.run(asyncio.wait_for(scene(), 30))


def test_a_file_that_is_written_over_when_the_node_with_its_copy_is_lost_is_as_it_was_before(
    play: Callable[[Act, float], None],
) -> None:
    async def act(writer: Node, other: Node) -> None:
        (writer.work / "snapshot.pt").write_text("1")
        await until(lambda: writer.newest("") == 1)
        (writer.work / "snapshot.pt").write_text("2")
        await until(lambda: writer.newest("") == 2)
        copy = writer.work.parent / "shared" / "contents" / hashlib.sha256(b"2").hexdigest()
        await until(copy.is_file)
        writer.idle = True
        (writer.work / "snapshot.pt").write_text("half of")
        other.lose()
        await begin_anew(writer)
        assert (writer.work / "snapshot.pt").read_text() == "2"

    play(act, 1.0)
