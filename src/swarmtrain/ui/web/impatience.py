"""HTTP for whoever may connect: who asks nothing, or begins a question and does not end it, is hung up on.

uvicorn waits for ever for a first question. A published page is open to a network, in which silent strangers would
otherwise take all connections that a process may have.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

_SECONDS = 20.0  # for all of a question; what is being answered may take as long as it likes


class ImpatientProtocol(H11Protocol):
    """One connection."""

    _looking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio."""
        super().connection_made(transport)
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        if self._looking is not None:
            self._looking.cancel()
        super().connection_lost(exc)

    def _look_later(self) -> None:
        self._looking = self.loop.call_later(_SECONDS, self._look, self.cycle)

    def _look(self, before: RequestResponseCycle | None) -> None:
        """Hang up where nothing is being answered, and no question has come to its end since the last look."""
        if self.cycle is before and (before is None or before.response_complete):
            self.transport.close()
        else:
            self._look_later()
