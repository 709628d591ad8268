"""What an agent does for its node's shared files, without a coordinator."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal, cast

import pytest
from sharing_nodes import hasten

from swarmtrain.agent.network import Choice
from swarmtrain.agent.sharing import shared as shareds
from swarmtrain.agent.sharing import walk as walks
from swarmtrain.agent.sharing.shared import SharedFiles
from swarmtrain.agent.uplink import Uplink
from swarmtrain.protocol.from_agent import FromAgent, NoteReport
from swarmtrain.protocol.shared_files import (
    AskShared,
    BringShared,
    SetVersion,
    SharedBrought,
    SharedFile,
    SharedReport,
)
from swarmtrain.wire.channel import Channel
from swarmtrain.wire.run_spec import RunSpec


class Told(Uplink):
    """Keeps what an agent says."""

    def __init__(self, work: str) -> None:
        super().__init__()
        self.work = work
        self.choice = Choice("lo", "127.0.0.1", "")
        self.said: list[FromAgent] = []

    async def send(self, message: FromAgent) -> None:
        self.said.append(message)

    def note(self, kind: str, text: str) -> None:
        self.said.append(NoteReport(kind, text))


def play(
    directory: Path,
    act: Callable[[SharedFiles, Told], Awaitable[None]],
    nodes: int = 2,
    share: Literal["auto", "off"] = "auto",
    idle: Callable[[], bool] = lambda: True,
) -> list[FromAgent]:
    """What an agent says whose workers are not there."""
    (directory / "work").mkdir(exist_ok=True)
    spec = RunSpec("t", "script", "train.py", nodes_min=1, nodes_max=nodes, share=share)

    async def scene() -> list[FromAgent]:
        uplink = Told(str(directory / "work"))
        files = SharedFiles.of(spec, "token", uplink, idle)
        await files.open(directory / "work", directory / "shared")
        try:
            await act(files, uplink)
        finally:
            files.close()
        return uplink.said

    return asyncio.run(asyncio.wait_for(scene(), 30))


async def heard(uplink: Told, kind: type[FromAgent]) -> None:
    while not any(isinstance(each, kind) for each in uplink.said):
        await asyncio.sleep(0.01)


async def generation(files: SharedFiles, uplink: Told) -> None:
    await files.begin(1, {})
    await files.ended(well=True)


def test_on_one_node_nothing_is_kept_unless_there_were_several_before(tmp_path: Path) -> None:
    play(tmp_path, generation, nodes=1)
    assert [each.name for each in tmp_path.iterdir()] == ["work"]
    play(tmp_path, generation, nodes=2)
    (tmp_path / "work" / "a.pt").write_bytes(b"x")
    before = (tmp_path / "shared" / "record.json").read_bytes()
    play(tmp_path, generation, nodes=1)
    assert (tmp_path / "shared" / "record.json").read_bytes() != before


async def write(files: SharedFiles, uplink: Told) -> None:
    await files.begin(2, {})
    (Path(uplink.work) / "checkpoint-1").mkdir()
    for name in ("model.bin", "optimizer.bin"):
        (Path(uplink.work) / "checkpoint-1" / name).touch()
    await files.ended(well=True)


async def ask(files: SharedFiles, uplink: Told) -> None:
    files.answer(AskShared(1))
    await heard(uplink, SharedReport)


def test_what_was_written_while_nothing_was_shared_is_not_taken_for_half_of_something_later(
    tmp_path: Path,
) -> None:
    play(tmp_path, generation)
    play(tmp_path, write, share="off")
    (found,) = [each for each in play(tmp_path, ask) if isinstance(each, SharedReport)]
    assert [(each.path, each.writing) for each in found.sets] == [("checkpoint-1", False)]
    assert found.fence == 2


def test_where_nothing_was_ever_shared_and_is_not_nothing_is_kept(tmp_path: Path) -> None:
    play(tmp_path, write, share="off")
    assert [each.name for each in tmp_path.iterdir()] == ["work"]


async def ask_twice(files: SharedFiles, uplink: Told) -> None:
    for number in (1, 2):
        uplink.said = [each for each in uplink.said if not isinstance(each, SharedReport)]
        files.answer(AskShared(number))
        await heard(uplink, SharedReport)


def test_directories_that_stay_where_they_are_are_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walks, "MOST_OF_ONE", 1)
    for number in range(200):
        (tmp_path / "work" / f"{number:03}").mkdir(parents=True)
        for name in ("a", "b"):
            (tmp_path / "work" / f"{number:03}" / name).touch()
    notes = [each.text for each in play(tmp_path, ask_twice) if isinstance(each, NoteReport)]
    assert notes == [
        "what is in 000 and 199 other directories is not shared with other nodes: it has more than 1 files"
    ]


def test_nobody_is_told_of_one_reason_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walks, "MOST_OF_ONE", 1)

    async def act(files: SharedFiles, uplink: Told) -> None:
        for number in range(3 * shareds.MOST_SAID):
            (tmp_path / "work" / f"{number}").mkdir()
            for name in ("a", "b"):
                (tmp_path / "work" / f"{number}" / name).touch()
            await ask_twice(files, uplink)

    assert len([each for each in play(tmp_path, act) if isinstance(each, NoteReport)]) == shareds.MOST_SAID


def test_an_order_in_parts_is_carried_out_when_all_of_it_is_there(tmp_path: Path) -> None:
    order = BringShared(
        3, "place", [SetVersion(f"c{n}", 1, 1, [SharedFile("a", 1, "0", 0.0)]) for n in (1, 2)], {}
    )
    parts = [
        BringShared(2, "place", order.versions[:1], {}, more=True),  # of an order that nobody completes
        BringShared(3, "place", order.versions[:1], {}, more=True),
        BringShared(3, "place", order.versions[1:], {}),
    ]

    async def act(files: SharedFiles, uplink: Told) -> None:
        for part in parts:
            files.bring(part)
        await heard(uplink, SharedBrought)

    (done,) = [each for each in play(tmp_path, act) if isinstance(each, SharedBrought)]
    assert (done.number, len(done.failed)) == (3, 2), "nobody has either of them"


def test_a_generation_begins_with_the_fence_that_its_coordinator_has_found(tmp_path: Path) -> None:
    async def act(files: SharedFiles, uplink: Told) -> None:
        files.bring(BringShared(1, "note", [], {}, fence=70))
        await files.begin(2, {})
        await files.ended(well=True)
        await ask(files, uplink)

    (said,) = [each for each in play(tmp_path, act) if isinstance(each, SharedReport)]
    assert said.fence == 70


def test_what_a_look_found_finished_just_before_its_workers_ended_is_so_for_the_next_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has made a version of it yet, so nothing else was written down meanwhile."""
    hasten(monkeypatch)
    (tmp_path / "work" / "raw").mkdir(parents=True)
    works = True

    async def train(files: SharedFiles, uplink: Told) -> None:
        nonlocal works
        uplink.channel = cast("Channel", object())
        await files.begin(1, {})
        (tmp_path / "work" / "raw" / "state.bin").write_bytes(b"whole")
        await heard(uplink, SharedReport)
        works = False
        await files.ended(well=True)

    play(tmp_path, train, idle=lambda: not works)
    (found,) = [each for each in play(tmp_path, ask) if isinstance(each, SharedReport)]
    assert [(each.path, each.writing) for each in found.sets] == [("raw", False)]
