"""The channel between agents and coordinator: identity, integrity, nonsense."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from swarmtrain.errors import ChannelError
from swarmtrain.wire import frames
from swarmtrain.wire.channel import Channel, accept, initiate, reader_key
from swarmtrain.wire.names import PROTOCOL_VERSION
from swarmtrain.wire.sockets import dial, serve


@contextlib.asynccontextmanager
async def pair(
    directory: Path, token: str, *, readers: bool = False
) -> AsyncIterator[tuple[Channel, asyncio.Future[Channel | Exception]]]:
    """A connected channel, and what became of the other side once it has accepted or refused."""
    other: asyncio.Future[Channel | Exception] = asyncio.get_running_loop().create_future()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        channel = Channel(reader, writer)
        try:
            await accept(channel, token, readers=readers)
            other.set_result(channel)
        except ChannelError as error:
            other.set_result(error)
            channel.close()

    server = await serve(f"unix:{directory}/socket", serve_one)
    channel = Channel(*await dial(f"unix:{directory}/socket"))
    try:
        yield channel, other
    finally:
        channel.close()
        if isinstance(await other, Channel):
            (await other).close()  # type: ignore[union-attr]
        server.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 10))


def test_both_sides_that_know_the_token_talk(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path, "secret") as (ours, other):
            await initiate(ours, "secret")
            theirs = await other
            assert isinstance(theirs, Channel)
            await ours.send({"text": "grüße \udcff"})
            await theirs.send({"n": 1})
            theirs.post({"n": 2})
            assert await theirs.receive() == {"text": "grüße \udcff"}
            assert [await ours.receive(), await ours.receive()] == [{"n": 1}, {"n": 2}]

    run(test)


def test_a_wrong_token_is_refused_by_both_sides(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path, "secret") as (ours, other):
            with pytest.raises(ChannelError, match="does not know this run's token"):
                await initiate(ours, "guess")
            ours.close()
            assert isinstance(await other, ChannelError)

    run(test)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\x00\x00\x02[]",
        b"\x00\x00\x00\x03{}x",
        frames.pack({"nonce": 5}),
        frames.pack({"swarmtrain": 1, "nonce": "\ud800"}),
        frames.pack({"swarmtrain": PROTOCOL_VERSION, "nonce": "00"}) + frames.pack({"proof": "é"}),
        frames.pack({"join": {"role": "agent"}}),
        b"",
        b"\xff" * 64,
        b"\x00\x00\x0f\x00" + b"[" * 0xF00,
    ],
)
def test_garbage_is_refused_with_one_clear_error(tmp_path: Path, garbage: bytes) -> None:
    async def test() -> None:
        async with pair(tmp_path, "secret") as (ours, other):
            ours._writer.write(garbage)
            ours._writer.write_eof()
            assert isinstance(await other, ChannelError)

    run(test)


def test_another_version_is_named(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path, "secret") as (ours, other):
            await ours.send({"swarmtrain": 999, "nonce": "00"})
            error = await other
            assert isinstance(error, ChannelError)
            assert "version 999" in error.message

    run(test)


def test_a_changed_or_repeated_frame_is_noticed() -> None:
    key = b"k" * 32
    first, second = frames.Seal(key), frames.Seal(key)
    frame = frames.pack({"stop": 1}, first)[4:]
    assert frames.unpack(frame, second) == {"stop": 1}
    with pytest.raises(ChannelError, match="not written by the peer"):
        frames.unpack(frame, second)
    changed = frames.pack({"stop": 1}, frames.Seal(key))[4:].replace(b"1", b"2")
    with pytest.raises(ChannelError, match="not written by the peer"):
        frames.unpack(changed, frames.Seal(key))


def test_the_token_never_crosses_the_wire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []

    async def test() -> None:
        async with pair(tmp_path, "the-very-secret") as (ours, other):
            write = ours._writer.write

            def see(data: bytes) -> None:
                seen.append(bytes(data))
                write(data)

            monkeypatch.setattr(ours._writer, "write", see)
            await initiate(ours, "the-very-secret")
            await other
            await ours.send({"hello": 1})

    run(test)
    assert seen
    assert b"the-very-secret" not in b"".join(seen)


def test_a_message_over_the_limit_is_our_own_mistake() -> None:
    with pytest.raises(ChannelError, match="larger than the limit"):
        frames.pack({"d": "x" * frames.MAX_FRAME})


def test_a_readers_key_opens_where_readers_come_in_and_is_not_the_token(tmp_path: Path) -> None:
    async def comes_in(key: str, *, as_reader: bool, readers: bool) -> bool:
        """Whether somebody is let in, and if so, whether it is known what he is."""
        async with pair(tmp_path, "secret", readers=readers) as (ours, other):
            try:
                await initiate(ours, key, as_reader=as_reader)
            except ChannelError:
                ours.close()
                return False
            theirs = await other
            assert isinstance(theirs, Channel) and theirs.is_reader == as_reader
            await ours.send({"n": 1})
            assert await theirs.receive() == {"n": 1}
            return True

    async def test() -> None:
        key = reader_key("secret")
        assert await comes_in(key, as_reader=True, readers=True)
        assert await comes_in("secret", as_reader=False, readers=True)
        assert not await comes_in(key, as_reader=False, readers=True)  # it does not become an agent's
        assert not await comes_in("secret", as_reader=True, readers=True)
        assert not await comes_in(key, as_reader=True, readers=False)  # as at an agent's door

    run(test)
