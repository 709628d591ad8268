"""``bundle.zip connect [DIRECTORY]``: a client's way in, by standard streams.

Where the coordinator lives its socket is joined to the standard streams. In a relay's container, which is on the
manager that the client can reach, the way leads on over the run's network, with the run's token. When the
coordinator has gone the run's directory is served from here: an archive needs no process to stay. It is opened as by
a coordinator that is started again: a torn last line is cut off, damaged lines are set aside, and `conclude` adds to
the journal how a run ended whose coordinator was killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from swarmtrain.errors import ChannelError, ClusterError, SwarmtrainError
from swarmtrain.wire import names, sockets
from swarmtrain.wire.channel import Channel, initiate
from swarmtrain.wire.channel import relay as relay_messages
from swarmtrain.wire.frames import MAX_FRAME

_RELAY_SECONDS = 600.0


def main(argv: list[str]) -> int:
    """Serve one client on the standard streams until it hangs up."""
    try:
        return asyncio.run(_connect(Path(argv[0] if argv else names.SOCKET)))
    except (ChannelError, OSError) as error:
        print(f"the coordinator does not answer: {error}", file=sys.stderr)
        return 3


def relay(argv: list[str]) -> int:
    """``bundle.zip relay``: keep a container up for a while, so that `connect` can be run in it."""
    time.sleep(_RELAY_SECONDS)
    return 0


async def _connect(path: Path) -> int:
    reader, writer = await _standard_streams()
    if path.is_dir() and not _listens(path / "socket"):
        await _archive(path, reader, writer)
    elif path.is_dir() or path.exists():
        connection = sockets.dial_unix(path / "socket" if path.is_dir() else path)
        connection.setblocking(False)
        theirs, ours = await asyncio.open_unix_connection(sock=connection, limit=MAX_FRAME)
        await sockets.first(_pump(reader, ours), _pump(theirs, writer))
    else:
        await _relay(Channel(reader, writer))
    return 0


async def _relay(client: Channel) -> None:
    """Join a client's channel to the coordinator's."""
    from swarmtrain.protocol.codec import dump
    from swarmtrain.protocol.from_agent import Join
    from swarmtrain.wire.run_spec import RunSecret

    secret = RunSecret.load(Path(os.environ[names.ENV_SECRET_FILE]))
    coordinator = Channel(*await sockets.dial(os.environ[names.ENV_COORDINATOR]))
    await initiate(coordinator, secret.token)
    await coordinator.send(dump(Join("client")))
    await relay_messages(client, coordinator)


async def _archive(path: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer from what is on disk. Imported here: the living coordinator's clients should not wait for it."""
    from swarmtrain.coordinator.clients.requests import ClientRequests
    from swarmtrain.coordinator.run.controller import RunController
    from swarmtrain.coordinator.store.run_paths import RunPaths
    from swarmtrain.wire.disk.storage import Storage
    from swarmtrain.wire.run_spec import RunSecret, RunSpec, UnreadableRun

    storage = Storage(path.parent.parent.parent)
    directory = path.parent.name
    place = RunPaths(storage, directory, storage.lineage(directory), "", storage.lineage_owner(directory))
    try:
        secret = RunSecret.load(path / names.SECRET_ON_LOCAL)
        run = RunController(RunSpec.load(path / "job.json"), secret, place, archive=True)
    except (ClusterError, UnreadableRun) as error:
        await _refuse(Channel(reader, writer), error)
        return
    await ClientRequests(run).serve(reader, writer)


async def _refuse(client: Channel, error: SwarmtrainError) -> None:
    """Answer whatever is asked with why this archive cannot be read."""
    from swarmtrain.protocol.codec import dump
    from swarmtrain.protocol.replies import ErrorReply, RunReply

    while await client.receive() is not None:
        await client.send(dump(RunReply(error=ErrorReply(error.message, error.hint, error.exit_code))))


def _listens(path: Path) -> bool:
    try:
        sockets.dial_unix(path).close()
    except OSError:
        return False
    return True


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    except ConnectionError:
        pass  # one side has gone, and the other is about to be told


async def _standard_streams() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MAX_FRAME)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout.buffer)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
