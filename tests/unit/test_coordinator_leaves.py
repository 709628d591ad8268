"""A coordinator that leaves after its run answers who has just reached it; who comes later reads its archive."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from swarmtrain.coordinator.main import _vanish
from swarmtrain.wire.channel import Channel
from swarmtrain.wire.sockets import serve_unix


def test_a_client_that_came_in_the_last_moment_is_answered(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    clients = SimpleNamespace(connected=0)

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clients.connected += 1
        channel = Channel(reader, writer)
        while await channel.receive() is not None:
            await channel.send({"done": {}})
        clients.connected -= 1
        channel.close()

    async def act() -> dict[str, Any] | None:
        server = await serve_unix(path, attend)
        channel = Channel(*await asyncio.open_unix_connection(str(path)))
        leaving = asyncio.ensure_future(_vanish(path, cast(Any, clients)))
        await asyncio.sleep(0)
        assert not path.exists()
        await channel.send({"op": "status"})
        answer = await channel.receive()
        assert not leaving.done()
        channel.close()
        await asyncio.wait_for(leaving, 5)
        server.close()
        return answer

    assert asyncio.run(act()) == {"done": {}}
