"""Contents from one agent to another over loopback: whole, resumed, refused."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path

import pytest

from swarmtrain.agent.sharing.transfer import pulling
from swarmtrain.agent.sharing.transfer.pace import PIECE, Pace
from swarmtrain.agent.sharing.transfer.peers import PeerServer
from swarmtrain.agent.sharing.transfer.pulling import WantedContent
from swarmtrain.wire import sockets

CONTENT = os.urandom(3 * PIECE + 17)
NAME = hashlib.sha256(CONTENT).hexdigest()

Act = Callable[[str], Awaitable[None]]


async def pull(
    token: str, peers: list[str], content: str, size: int, target: Path, *, can_wait: bool = False
) -> None:
    """One content."""
    await pulling.pull(token, [WantedContent(content, size, target, peers)], can_wait=can_wait)


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


# ---- many ------------------------------------------------------------------------------------------------------------


class Peers:
    """Agents that hold contents, each some of them, and count who connects and what goes at one time."""

    def __init__(self, directory: Path, **held: Iterable[bytes]) -> None:
        self.directory, self.pace = directory, Counted()
        self.addresses: dict[str, str] = {}
        self._servers: list[PeerServer] = []
        self._held = {name: list(contents) for name, contents in held.items()}

    async def __aenter__(self) -> Peers:
        for name, contents in self._held.items():
            files = {}
            for content in contents:
                path = self.directory / name / hashlib.sha256(content).hexdigest()
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                files[path.name] = path
            server = PeerServer("token", files.get, self.pace)
            await server.listen("127.0.0.1")
            self._servers.append(server)
            self.addresses[name] = server.address
        return self

    async def __aexit__(self, *ended: object) -> None:
        for server in self._servers:
            server.close()

    def wanted(self, contents: Iterable[bytes], *peers: str) -> list[WantedContent]:
        found = []
        for content in contents:
            name = hashlib.sha256(content).hexdigest()
            target = self.directory / "here" / name
            found.append(WantedContent(name, len(content), target, [self.addresses[peer] for peer in peers]))
        return found

    def here(self) -> set[bytes]:
        return {path.read_bytes() for path in (self.directory / "here").iterdir()}


SMALL = [f"small {number}".encode() for number in range(250)]


def test_many_small_contents_come_on_one_connection_and_a_hundred_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialled: list[str] = []
    dial = sockets.dial

    async def counted(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        dialled.append(address)
        return await dial(address)

    monkeypatch.setattr(sockets, "dial", counted)
    contents = [*SMALL, b"", CONTENT]

    async def scene() -> int:
        async with Peers(tmp_path, a=contents) as peers:
            await pulling.pull("token", peers.wanted(contents, "a"), can_wait=True)
            assert peers.here() == set(contents)
            return peers.pace.pieces

    pieces = asyncio.run(asyncio.wait_for(scene(), 30))
    assert (len(dialled), pieces) == (1, 3 + 3), (
        "the last of the small ones with the beginning of the large one"
    )


def test_each_content_comes_from_who_has_it(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Peers(tmp_path, a=SMALL[::2], b=[*SMALL[1::2], CONTENT]) as peers:
            await pulling.pull("token", peers.wanted([*SMALL, CONTENT], "a", "b"))
            assert peers.here() == {*SMALL, CONTENT}
            lost = WantedContent("0" * 64, 5, tmp_path / "here" / "lost", list(peers.addresses.values()))
            with pytest.raises(ConnectionError, match=r"not have it any more.*; .*not have it any more"):
                await pulling.pull("token", [lost])

    asyncio.run(asyncio.wait_for(scene(), 30))


def test_of_many_that_come_the_one_that_has_changed_is_not_taken_and_the_others_are(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Peers(tmp_path, a=SMALL, b=SMALL) as peers:
            (tmp_path / "a" / hashlib.sha256(SMALL[7]).hexdigest()).write_bytes(b"SMALL 7")
            with pytest.raises(ConnectionError, match="changed while it was copied"):
                await pulling.pull("token", peers.wanted(SMALL, "a"))
            assert peers.here() == {*SMALL} - {SMALL[7]}
            await pulling.pull("token", peers.wanted(SMALL[7:8], "a", "b"))
            assert peers.here() == {*SMALL}

    asyncio.run(asyncio.wait_for(scene(), 30))


def test_what_lies_in_its_place_the_disk_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    replaced: list[tuple[str, bool]] = []
    replace = Path.replace

    def sync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    def placed(self: Path, target: Path) -> Path:
        replaced.append((target.name, self.name in synced))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", placed)

    async def scene() -> None:
        async with Peers(tmp_path, a=[*SMALL, CONTENT]) as peers:
            await pulling.pull("token", peers.wanted([*SMALL, CONTENT], "a"))

    asyncio.run(asyncio.wait_for(scene(), 30))
    assert len(replaced) == len(SMALL) + 1 and all(was_synced for _, was_synced in replaced)


def test_who_is_cut_off_in_the_middle_goes_on_from_what_has_come(tmp_path: Path) -> None:
    class Ending(Counted):
        @contextlib.asynccontextmanager
        async def piece(self) -> AsyncIterator[None]:
            async with super().piece():
                if self.pieces == 2:
                    raise ConnectionError("the peer dies")
                yield

    async def scene() -> None:
        async with Peers(tmp_path, a=SMALL) as peers:
            ending = Ending()
            dying = PeerServer("token", lambda name: tmp_path / "a" / name, ending)
            await dying.listen("127.0.0.1")
            peers.addresses["dying"] = dying.address
            with pytest.raises(ConnectionError, match="hung up"):
                await pulling.pull("token", peers.wanted(SMALL, "dying"), can_wait=True)
            dying.close()
            assert len(peers.here()) == 100
            await pulling.pull("token", peers.wanted(SMALL[100:], "a"))
            assert peers.here() == {*SMALL}

    asyncio.run(asyncio.wait_for(scene(), 30))


def test_few_files_are_open_however_many_are_asked_for(tmp_path: Path) -> None:
    """Containers may have few of these."""
    contents = [*SMALL, *(os.urandom(100_000) for _ in range(20))]

    async def scene() -> int:
        async with Peers(tmp_path, a=contents) as peers:
            task = asyncio.ensure_future(pulling.pull("token", peers.wanted(contents, "a")))
            most = 0
            while not task.done():
                links = list(Path("/proc/self/fd").iterdir())
                most = max(most, sum(_leads_to(each, str(tmp_path / "a")) for each in links))
                await asyncio.sleep(0.002)
            await task
            assert peers.here() == {*contents}
            return most

    assert asyncio.run(asyncio.wait_for(scene(), 60)) <= 3


def _leads_to(link: Path, directory: str) -> bool:
    try:
        return str(link.readlink()).startswith(directory)
    except OSError:
        return False
