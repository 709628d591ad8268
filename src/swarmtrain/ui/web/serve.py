"""The server of the page, from its port to its end."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Sequence

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from swarmtrain.errors import ClusterError
from swarmtrain.ui.web.app import Api, application
from swarmtrain.ui.web.asking import KnownRuns, Runs
from swarmtrain.ui.web.guard import Guard
from swarmtrain.ui.web.impatience import ImpatientProtocol
from swarmtrain.ui.web.live import Live

_LOOPBACK = "127.0.0.1"
_TOKEN_BYTES = 24
_LEAVE_SECONDS = 3  # for questions that are being answered


class DashboardServer(uvicorn.Server):
    """uvicorn, which would wait for ever for pages that follow a run: it ends what they are told."""

    def __init__(self, config: uvicorn.Config, streams: Live) -> None:
        super().__init__(config)
        self._streams = streams

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        self._streams.end()
        await super().shutdown(sockets)


def serve(client: KnownRuns, shown: Sequence[str], port: int, tell: Callable[[str], None]) -> None:
    """Serve the page on loopback until somebody interrupts it.

    Args:
        client: whose runs it shows.
        shown: the names of those that it begins with.
        port: 0 for any that is free.
        tell: is told the address, with its token.

    Raises:
        ClusterError: the port is taken.
    """
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    runs = Runs(client)
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((_LOOPBACK, port))
        except OSError as error:
            raise ClusterError(
                f"port {port} of {_LOOPBACK} cannot be had: {(error.strerror or str(error)).lower()}",
                "leave out --port to take one that is free",
            ) from error
        port = listening.getsockname()[1]
        streams = Live()
        guard = Middleware(Guard, token=token, cookie=f"swarmtrain-{port}")
        app = application(Api(runs, shown, streams), guard)
        listening.listen()  # from now on the address answers
        tell(f"http://{_LOOPBACK}:{port}/?token={token}")
        try:
            run_server(app, streams, listening)
        finally:
            runs.close()


def run_server(app: Starlette, streams: Live, listening: socket.socket) -> None:
    """Answer whoever connects, until somebody interrupts it."""
    server_of(app, streams).run(sockets=[listening])


def server_of(app: ASGIApp, streams: Live) -> DashboardServer:
    """The server of an application."""
    config = uvicorn.Config(
        app,
        http=ImpatientProtocol,
        log_level="error",  # a warning is what anybody can have it say, as often as he likes
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=_LEAVE_SECONDS,
    )
    return DashboardServer(config, streams)
