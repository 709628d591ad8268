"""An endpoint for Prometheus in the run's network: ``GET /metrics``, where the job asks for one.

It reads, and knows nothing that anybody on the run's network is not to know; whoever reaches the port may ask, a few at
a time. HTTP as far as a scraper speaks it: one request a connection, no body.
"""

from __future__ import annotations

import asyncio

from swarmtrain.coordinator.clients.status import status
from swarmtrain.coordinator.core.model import Phase
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.coordinator.store.series.query import Query
from swarmtrain.protocol.journal.remarks import Warned
from swarmtrain.protocol.requests import SeriesRequest
from swarmtrain.protocol.series.openmetrics import CONTENT_TYPE, names_this_machine, openmetrics
from swarmtrain.wire.sockets import UNIX, serve

_AT_ONCE = 8  # connections
_SECONDS = 5.0  # in which a request comes, and its answer is taken
_AGAIN = 1.0  # seconds for which an answer is given again: whoever asks without end costs the run no more
_HEAD = 8192  # bytes of a request
_PATHS = ("/metrics", "/metrics/")


async def open_endpoint(run: RunController, coordinator: str) -> asyncio.Server | None:
    """Listen on the port that the job names; one that is taken is written down, and no reason to fail.

    Args:
        coordinator: where agents find it: on this machine alone, or on the interfaces that they reach.
    """
    port = run.spec.metrics_port
    host = "127.0.0.1" if coordinator.startswith(UNIX) else coordinator.rpartition(":")[0]
    try:
        return await serve(f"{host}:{port}", MetricsEndpoint(run, is_local=host == "127.0.0.1").attend)
    except OSError as error:
        if run.phase is not Phase.ENDED:
            run.journal.append(
                Warned(text=f"nothing is served to Prometheus on port {port}: {error.strerror}")
            )
        return None


class MetricsEndpoint:
    """Answers scrapers; one instance a coordinator.

    Args:
        is_local: it listens for this machine alone.
    """

    def __init__(self, run: RunController, *, is_local: bool) -> None:
        self._run, self._is_local = run, is_local
        self._connected = 0
        self._turn = asyncio.Lock()
        self._known, self._at = "", -_AGAIN  # what was answered last, and when

    async def attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: one request, one answer."""
        if self._connected >= _AT_ONCE:
            writer.close()
            return
        self._connected += 1
        try:
            await asyncio.wait_for(self._answer(reader, writer), _SECONDS)
        except (TimeoutError, asyncio.TimeoutError, OSError, ValueError, EOFError):
            pass  # who asks nothing that can be read, or does not listen, is its own affair
        finally:
            self._connected -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        words, size, host = (await reader.readline()).split(), 0, ""
        while (line := await reader.readline()) not in (b"\r\n", b"\n", b""):
            size += len(line)
            if size > _HEAD:
                return
            if line.lower().startswith(b"host:"):
                host = line[5:].decode("ascii", "replace").strip()
        method, path = (*(word.decode("ascii", "replace") for word in words[:2]), "", "")[:2]
        if self._is_local and not names_this_machine(host):
            await _write(
                writer, "421 Misdirected Request", "text/plain", "this is served to this machine alone\n"
            )
        elif path.partition("?")[0] not in _PATHS:
            await _write(writer, "404 Not Found", "text/plain", "the measurements are at /metrics\n")
        elif method not in ("GET", "HEAD"):
            await _write(writer, "405 Method Not Allowed", "text/plain", "GET it\n")
        else:
            text = await self._text() if method == "GET" else ""
            await _write(writer, "200 OK", CONTENT_TYPE, text)

    async def _text(self) -> str:
        async with self._turn:
            now = self._run.journal.clock.monotonic
            if now() >= self._at + _AGAIN:
                self._known = await self._read()
                self._at = now()
            return self._known

    async def _read(self) -> str:
        run = self._run
        now = run.journal.clock.now()
        query = Query(run.progress.series.store(), SeriesRequest(points=False), now)
        document = status(run)
        # In a thread: of twenty nodes there are thousands of lines.
        return await asyncio.to_thread(lambda: openmetrics(document, query.answers()))


async def _write(writer: asyncio.StreamWriter, said: str, kind: str, text: str) -> None:
    body = text.encode()
    head = (
        f"HTTP/1.1 {said}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode("ascii") + body)
    await writer.drain()
