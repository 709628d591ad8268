"""``bundle.zip connect [DIRECTORY]``: a client's way in, by standard streams.

While the coordinator lives its socket is joined to the standard streams. When it has gone the run's directory is
served from here, read only: the archive of a run needs no process to stay.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from swarmtrain.wire import names
from swarmtrain.wire.frames import MAX_FRAME
from swarmtrain.wire.sockets import dial_unix


def main(argv: list[str]) -> int:
    """Serve one client on the standard streams until it hangs up."""
    path = Path(argv[0] if argv else names.SOCKET)
    return asyncio.run(_connect(path))


async def _connect(path: Path) -> int:
    socket = path / "socket" if path.is_dir() else path
    reader, writer = await _standard_streams()
    try:
        connection = dial_unix(socket)
    except OSError:
        if not path.is_dir():
            print("the coordinator does not answer", file=sys.stderr)
            return 3
        await _archive(path, reader, writer)
        return 0
    connection.setblocking(False)
    theirs, ours = await asyncio.open_unix_connection(sock=connection, limit=MAX_FRAME)
    await asyncio.wait(
        [asyncio.ensure_future(_pump(reader, ours)), asyncio.ensure_future(_pump(theirs, writer))],
        return_when=asyncio.FIRST_COMPLETED,
    )
    return 0


async def _archive(path: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer from what is on disk. Imported here: the living coordinator's clients should not wait for it."""
    from swarmtrain.coordinator.clients import ClientDesk
    from swarmtrain.coordinator.run import Place, Run
    from swarmtrain.wire.storage import Storage
    from swarmtrain.wire.task import Task, Ticket

    storage = Storage(path.parent.parent.parent)
    directory = path.parent.name
    place = Place(storage, directory, storage.lineage(directory), "")
    run = Run(Task.load(path / "job.json"), Ticket.load(path / "ticket.json"), place, archive=True)
    await ClientDesk(run).serve(reader, writer)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    except ConnectionError:
        pass


async def _standard_streams() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MAX_FRAME)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout.buffer)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
