"""Contents from one agent to another over loopback: whole, resumed, refused."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from swarmtrain.agent.sharing.peers import PIECE, PeerServer, Rate, pull

CONTENT = os.urandom(3 * PIECE + 17)
NAME = hashlib.sha256(CONTENT).hexdigest()

Act = Callable[[str], Awaitable[None]]


def play(source: Path | None, act: Act, token: str = "token") -> None:
    """With a peer that has one content, if any."""

    async def scene() -> None:
        server = PeerServer(token, lambda sha256: source if sha256 == NAME else None)
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
    sent: list[int] = []

    class Counted(Rate):
        async def spend(self, count: int) -> None:
            sent.append(count)

    async def act(address: str) -> None:
        await pull("token", [address], NAME, len(CONTENT), target, Counted())

    play(source, act)
    assert target.read_bytes() == CONTENT
    assert sum(sent) == len(CONTENT) - have
    assert [each.name for each in target.parent.iterdir()] == [NAME]


def test_a_peer_that_is_gone_or_lacks_it_is_passed_over(tmp_path: Path, source: Path) -> None:
    async def act(address: str) -> None:
        empty = PeerServer("token", lambda sha256: None)
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


def test_a_rate_holds() -> None:
    async def act() -> float:
        rate, began = Rate(1000.0), asyncio.get_running_loop().time()
        for _ in range(4):
            await rate.spend(100)
        return asyncio.get_running_loop().time() - began

    assert 0.15 < asyncio.run(act()) < 5
