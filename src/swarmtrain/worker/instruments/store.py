"""A rank waits until rank 0's store listens, and only then lets torch connect to it.

torch's client of a `TCPStore` tries at once, and sleeps after a refusal: seen with torch 2.13, 0.3 to 0.7 seconds.
Workers that are forked together begin within milliseconds of each other, so whether rank 0 was first decided on that
much of every start and every recovery. `benchmarks/recover_local.py` shows it.
"""

from __future__ import annotations

import socket
import sys
import time
from datetime import timedelta
from types import ModuleType

_AT_MOST = 10.0  # seconds; torch goes on with its own patience, and says whom it could not reach
_PAUSE = 0.01  # seconds between two tries
_ANSWER = 1.0  # seconds that one try may take, where packets vanish


def wait_for_the_store(module: ModuleType) -> None:
    """An action of torch_setup.py, for ``torch.distributed.rendezvous``.

    ``_create_c10d_store(hostname, port, rank, ...)`` asks by name whether torchrun's agent holds the store, and then
    makes the client. What answers the question here waits first, so no frame of ours stands in the client's errors.
    """
    asked = getattr(module, "_torchelastic_use_agent_store", None)
    if not callable(asked):
        return

    def answer() -> bool:
        known = sys._getframe(1).f_locals
        host, port, rank = known.get("hostname"), known.get("port"), known.get("rank")
        if isinstance(host, str) and isinstance(port, int) and isinstance(rank, int) and rank > 0:
            timeout = known.get("timeout")
            most = timeout.total_seconds() if isinstance(timeout, timedelta) else _AT_MOST
            _until_it_listens(host, port, min(most, _AT_MOST))
        return bool(asked())

    module._torchelastic_use_agent_store = answer  # type: ignore[attr-defined]


def _until_it_listens(host: str, port: int, most: float) -> None:
    limit = time.monotonic() + most
    while time.monotonic() < limit:
        try:
            socket.create_connection((host, port), _ANSWER).close()
            return
        except OSError:
            time.sleep(_PAUSE)
        except UnicodeError:
            return  # no name of a host: torch says so
