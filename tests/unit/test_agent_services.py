"""What an agent does for people who look in, when requests are taken back."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import socket
from pathlib import Path

from swarmtrain.agent.services import requests
from swarmtrain.agent.services.requests import NodeServices
from swarmtrain.protocol.requests import TerminalInput
from swarmtrain.protocol.to_agent import (
    CommandOrder,
    NodeCancel,
    NodeExec,
    NodeFetch,
    NodeInput,
    NodeMore,
    PathOrder,
)
from swarmtrain.wire.channel import Channel
from swarmtrain.wire.disk.storage import Storage


def test_a_request_that_is_taken_back_before_it_has_begun_keeps_no_agent(tmp_path: Path) -> None:
    """As when both were waiting for an agent that was frozen."""

    async def act() -> None:
        ours, theirs = socket.socketpair()
        channel = Channel(*await asyncio.open_unix_connection(sock=ours))
        services = NodeServices(Storage(tmp_path), "alice", channel)
        assert services.hear(NodeFetch(PathOrder("train.py"), 1)) and services.hear(NodeCancel(1))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not services.busy
        await asyncio.wait_for(services.finish(), 5)
        channel.close()
        await channel.closed()
        theirs.close()

    asyncio.run(act())


def terminals() -> list[str]:
    """Those that this process has open; of other descriptors, a test before this one may have left some."""
    found = []
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # it has just been closed
            if (name := str(each.readlink())).startswith(("/dev/pts/", "/dev/ptmx")):
                found.append(name)
    return sorted(found)


def test_a_command_that_is_not_there_leaves_no_terminal_open(tmp_path: Path) -> None:
    async def act() -> None:
        ours, theirs = socket.socketpair()
        channel = Channel(*await asyncio.open_unix_connection(sock=ours))
        services = NodeServices(Storage(tmp_path), "alice", channel)
        before = terminals()
        assert services.hear(NodeExec(CommandOrder(["no-such-command"], True, 24, 80), 1))
        while services._tasks:
            await asyncio.sleep(0.001)
        assert terminals() == before
        assert b'"exit":127' in theirs.recv(1 << 16)
        channel.close()
        await channel.closed()
        theirs.close()

    asyncio.run(act())


def test_who_asks_for_what_cannot_be_is_told_and_does_not_wait(tmp_path: Path) -> None:
    async def act() -> None:
        ours, theirs = socket.socketpair()
        channel = Channel(*await asyncio.open_unix_connection(sock=ours))
        services = NodeServices(Storage(tmp_path), "alice", channel)
        assert services.hear(NodeExec(CommandOrder(["echo", "a\0b"]), 1))
        while services._tasks:
            await asyncio.sleep(0.001)
        theirs.setblocking(False)
        assert b"embedded null byte" in theirs.recv(1 << 16)
        channel.close()
        await channel.closed()
        theirs.close()

    asyncio.run(act())


def test_what_a_command_writes_waits_for_who_reads_it(tmp_path: Path) -> None:
    """As behind a pager: nobody between the command and the client has to keep what may be without an end."""

    async def act() -> None:
        ours, theirs = socket.socketpair()
        channel, client = [Channel(*await asyncio.open_unix_connection(sock=each)) for each in (ours, theirs)]
        services = NodeServices(Storage(tmp_path), "alice", channel)
        assert services.hear(NodeExec(CommandOrder(["yes"]), 1))
        for _ in range(requests._AHEAD):
            assert await client.receive()
        assert services._credit[1].locked()
        assert services.hear(NodeMore(1))
        assert await client.receive()
        assert services.hear(NodeCancel(1))
        while services._tasks:
            await asyncio.sleep(0.001)
        for each in (channel, client):
            each.close()
            await each.closed()

    asyncio.run(act())


def test_all_that_is_typed_comes_to_a_command_that_reads_it_late(tmp_path: Path) -> None:
    """As when a long text is pasted: a terminal takes a part of it at once."""
    typed = bytes(range(32, 127)) * 2000
    script = "stty raw -echo; echo ready; until [ -e go ]; do sleep 0.01; done; head -c 190000 | sha256sum"

    async def act() -> None:
        ours, theirs = socket.socketpair()
        channel, client = [Channel(*await asyncio.open_unix_connection(sock=each)) for each in (ours, theirs)]
        services = NodeServices(Storage(tmp_path), "alice", channel)
        assert services.hear(NodeExec(CommandOrder(["sh", "-c", script], True, 24, 80), 1))
        heard = b""
        while (reply := await asyncio.wait_for(client.receive(), 10)) is not None and "done" not in reply:
            if "stdout" not in reply:
                continue
            heard += base64.b64decode(str(reply["stdout"]))
            services.hear(NodeMore(1))
            if heard == b"ready\n":
                for at in range(0, len(typed), 1 << 16):
                    piece = base64.b64encode(typed[at : at + (1 << 16)]).decode()
                    services.hear(NodeInput(TerminalInput(stdin=piece), 1))
                await asyncio.sleep(0)
                (Storage(tmp_path).work("", "alice") / "go").touch()
        assert hashlib.sha256(typed).hexdigest() in heard.decode()
        for each in (channel, client):
            each.close()
            await each.closed()

    asyncio.run(act())


def test_what_a_command_has_taken_of_its_input_is_told(tmp_path: Path) -> None:
    """So that whoever types sends no faster: a command that reads late, and one that reads no more."""
    piece = TerminalInput(stdin=base64.b64encode(bytes(1 << 16)).decode())
    script = (
        "until [ -e go ]; do sleep 0.01; done; head -c 300000 | wc -c; exec 0<&-; touch closed; sleep 600"
    )

    async def act() -> None:
        ours, theirs = socket.socketpair()
        channel, client = [Channel(*await asyncio.open_unix_connection(sock=each)) for each in (ours, theirs)]
        services = NodeServices(Storage(tmp_path), "alice", channel)
        assert services.hear(NodeExec(CommandOrder(["sh", "-c", script]), 1))
        for _ in range(16):
            services.hear(NodeInput(piece, 1))
        taken, heard = 0, b""
        with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
            while reply := await asyncio.wait_for(client.receive(), 1.0):
                taken += int(str(reply["taken"]))
        # What a pipe and its writer hold; the rest waits, and is not asked for.
        assert 1 << 16 <= taken <= 4 << 16
        (Storage(tmp_path).work("", "alice") / "go").touch()
        while taken < 16 << 16 or not heard.endswith(b"\n"):  # which of the two is told first is chance
            reply = await asyncio.wait_for(client.receive(), 10) or {}
            taken += int(str(reply.get("taken", 0)))
            heard += base64.b64decode(str(reply.get("stdout", "")))
        assert taken == 16 << 16 and heard == b"300000\n"
        assert services.hear(NodeCancel(1))
        while services._tasks:
            await asyncio.sleep(0.001)
        for each in (channel, client):
            each.close()
            await each.closed()

    asyncio.run(asyncio.wait_for(act(), 60))
