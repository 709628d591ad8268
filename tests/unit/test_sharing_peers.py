"""Contents from one agent to another over loopback: whole, resumed, refused."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from swarmtrain.agent.sharing.pace import PIECE, Pace
from swarmtrain.agent.sharing.peers import PeerServer, pull

CONTENT = os.urandom(3 * PIECE + 17)
NAME = hashlib.sha256(CONTENT).hexdigest()

Act = Callable[[str], Awaitable[None]]


class Counted(Pace):
    """One without rests, which counts the pieces that it lets go."""

    def __init__(self) -> None:
        super().__init__(1.0)
        self.pieces = 0

    @contextlib.asynccontextmanager
    async def piece(self) -> AsyncIterator[None]:
        async with super().piece():
            self.pieces += 1
            yield


def play(source: Path | None, act: Act, *, name: str = NAME, pace: Pace | None = None) -> None:
    """With a peer that has one content, if any."""

    async def scene() -> None:
        server = PeerServer("token", lambda sha256: source if sha256 == name else None, pace or Pace(1.0))
        await server.listen("127.0.0.1")
        try:
            await act(server.address)
        finally:
            server.close()

    asyncio.run(asyncio.wait_for(scene(), 30))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("have", [0, 1, PIECE, len(CONTENT)])
def test_a_content_comes_whole_and_goes_on_from_what_has_come(
    tmp_path: Path, source: Path, have: int
) -> None:
    target = tmp_path / "there" / NAME
    target.parent.mkdir()
    (target.parent / f"{NAME}.part").write_bytes(CONTENT[:have])
    pace = Counted()

    async def act(address: str) -> None:
        await pull("token", [address], NAME, len(CONTENT), target, can_wait=True)

    play(source, act, pace=pace)
    assert target.read_bytes() == CONTENT
    assert pace.pieces == -(-(len(CONTENT) - have) // PIECE)
    assert [each.name for each in target.parent.iterdir()] == [NAME]


def test_what_a_generation_waits_for_waits_for_no_turn(tmp_path: Path, source: Path) -> None:
    pace = Counted()

    async def act(address: str) -> None:
        async with pace.piece():
            await pull("token", [address], NAME, len(CONTENT), tmp_path / NAME)

    play(source, act, pace=pace)
    assert (tmp_path / NAME).read_bytes() == CONTENT


@pytest.mark.parametrize("can_wait", [True, False])
def test_of_a_large_file_little_is_in_memory_on_either_side(tmp_path: Path, can_wait: bool) -> None:
    size, source = 32 << 20, tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(size)
    name = hashlib.sha256(bytes(size)).hexdigest()

    async def act(address: str) -> None:
        tracemalloc.start()
        await pull("token", [address], name, size, tmp_path / name, can_wait=can_wait)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    peaks: list[int] = []
    play(source, act, name=name)
    assert (tmp_path / name).stat().st_size == size
    assert peaks[0] < (8 << 20 if can_wait else 16 << 20)


def test_a_peer_that_is_gone_or_lacks_it_is_passed_over(tmp_path: Path, source: Path) -> None:
    async def act(address: str) -> None:
        empty = PeerServer("token", lambda sha256: None, Pace(1.0))
        await empty.listen("127.0.0.1")
        peers = ["127.0.0.1:9", empty.address, address]
        await pull("token", peers, NAME, len(CONTENT), tmp_path / NAME)
        empty.close()

    play(source, act)
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_what_has_changed_is_not_taken_for_what_was_asked_for(tmp_path: Path, source: Path) -> None:
    source.write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))

    async def act(address: str) -> None:
        with pytest.raises(ConnectionError, match="changed while it was copied"):
            await pull("token", [address], NAME, len(CONTENT), tmp_path / NAME)

    play(source, act)
    assert [each.name for each in tmp_path.iterdir()] == ["source"]


def test_a_file_that_is_replaced_while_it_is_copied_comes_as_it_was(tmp_path: Path, source: Path) -> None:
    class Replacing(Pace):
        @contextlib.asynccontextmanager
        async def piece(self) -> AsyncIterator[None]:
            async with super().piece():
                yield
            newer = tmp_path / "newer"
            newer.write_bytes(bytes(len(CONTENT)))
            newer.replace(source)

    async def act(address: str) -> None:
        await pull("token", [address], NAME, len(CONTENT), tmp_path / NAME, can_wait=True)

    play(source, act, pace=Replacing(1.0))
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_a_part_of_something_else_costs_one_try(tmp_path: Path, source: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(b"something else")

    async def act(address: str) -> None:
        with pytest.raises(ConnectionError):
            await pull("token", [address], NAME, len(CONTENT), tmp_path / NAME)
        await pull("token", [address], NAME, len(CONTENT), tmp_path / NAME)

    play(source, act)
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_who_does_not_know_the_runs_token_gets_nothing(tmp_path: Path, source: Path) -> None:
    async def act(address: str) -> None:
        with pytest.raises(ConnectionError, match="token"):
            await pull("another", [address], NAME, len(CONTENT), tmp_path / NAME)

    play(source, act)
    assert not (tmp_path / NAME).exists()


def test_a_link_is_not_followed(tmp_path: Path, source: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(source)

    async def act(address: str) -> None:
        with pytest.raises(ConnectionError):
            await pull("token", [address], NAME, len(CONTENT), tmp_path / NAME)

    play(link, act)
