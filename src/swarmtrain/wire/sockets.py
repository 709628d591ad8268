"""Unix sockets at paths of any length, and addresses as they stand in the environment.

The kernel takes at most 107 bytes of path. A socket is therefore named through its directory's descriptor, as
``/proc/self/fd/N/name``, which is always short.

A client dials and waits: asyncio, which takes longer to import than a client takes to ask, is for those who serve.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from swarmtrain.wire.frames import MAX_FRAME

if TYPE_CHECKING:
    import asyncio

    Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

UNIX = "unix:"
DIAL_SECONDS = 3.0  # a machine that is there answers at once; one that is not should be asked for anew


@contextlib.contextmanager
def short(path: Path) -> Iterator[str]:
    """A short name of ``path``, good within the block."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


async def serve_unix(path: Path, handler: Handler) -> asyncio.Server:
    """Listen at ``path``, which only its owner may open; one left by an earlier process is replaced."""
    import asyncio

    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with short(path) as name:
        listener.bind(name)
    path.chmod(0o600)
    return await asyncio.start_unix_server(handler, sock=listener, limit=MAX_FRAME)


def dial_unix(path: Path) -> socket.socket:
    """A connected socket. Raises OSError when nobody listens."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short(path) as name:
            connection.connect(name)
    except OSError:
        connection.close()
        raise
    return connection


async def dial(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to ``host:port`` or ``unix:/path``. Raises OSError."""
    import asyncio

    if address.startswith(UNIX):
        connection = dial_unix(Path(address[len(UNIX) :]))
        connection.setblocking(False)
        return await asyncio.open_unix_connection(sock=connection, limit=MAX_FRAME)
    host, _, port = address.rpartition(":")
    connecting = asyncio.open_connection(host.strip("[]"), int(port), limit=MAX_FRAME)
    try:
        return await asyncio.wait_for(connecting, DIAL_SECONDS)
    except (TimeoutError, asyncio.TimeoutError):
        raise TimeoutError(f"no answer within {DIAL_SECONDS:.0f} s") from None


async def serve(address: str, handler: Handler) -> asyncio.Server:
    """Listen where ``address`` says: a Unix socket, that address of this machine, or for a name every interface."""
    import asyncio

    if address.startswith(UNIX):
        return await serve_unix(Path(address[len(UNIX) :]), handler)
    host, _, port = address.rpartition(":")
    try:
        socket.getaddrinfo(host.strip("[]"), None, flags=socket.AI_NUMERICHOST)
    except OSError:
        host = ""
    # The default buffer, into which larger frames fit all the same: a stranger must not fill the memory.
    return await asyncio.start_server(handler, host.strip("[]") or None, int(port))


async def first(*ways: Coroutine[None, None, None]) -> None:
    """Until one of the two ways of a connection ends; the other one is ended with it."""
    import asyncio

    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
