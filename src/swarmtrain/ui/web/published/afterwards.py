"""What a published page shows once its run has ended: itself as one file, as the coordinator goes some time later."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from starlette.responses import HTMLResponse, Response

from swarmtrain.control.handle import RunHandle
from swarmtrain.errors import SwarmtrainError
from swarmtrain.ui.web.kept import page_of

_LOOK_SECONDS = 5.0
_LINES = 20_000  # as `--export` has them
# All else is in the page itself, whose scripts are named by their hashes.
_POLICY = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class KeptPage:
    """Waits for the end of a run, from a thread of its own, and keeps its page in memory from then on."""

    def __init__(self, handle: RunHandle, sleep: Callable[[float], None] = time.sleep) -> None:
        self._handle, self._sleep = handle, sleep
        self._page = b""  # as it is sent: megabytes, of which no answer makes its own
        threading.Thread(target=self._wait, name="afterwards", daemon=True).start()

    def answer(self) -> Response | None:
        """The page; None while the run goes on."""
        return HTMLResponse(self._page, headers={"content-security-policy": _POLICY}) if self._page else None

    def _wait(self) -> None:
        while not self._page:
            try:
                if self._handle.status().has_ended:
                    self._page = page_of([self._handle], _LINES).encode()
            except SwarmtrainError:
                pass  # the coordinator is away for a while, and asked again
            self._sleep(_LOOK_SECONDS)
