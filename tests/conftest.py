"""What holds for all tests."""

from __future__ import annotations

import gc
import signal
from asyncio.selector_events import BaseSelectorEventLoop
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest


def pytest_configure() -> None:
    """Signals mean what they do in a terminal. What a shell starts in its background ignores some of them.

    Garbage is looked for less often than by default: thousands of tests make little of it, and much that stays.
    """
    gc.set_threshold(20_000, 10, 20)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """What is there now, torch and the tests among it, stays: it is not looked through for garbage ever again."""
    gc.freeze()


@pytest.fixture(autouse=True)
def loops_end_empty() -> Iterator[None]:
    """A test that leaves a connection, a pipe or a server open in its loop fails itself.

    Python tells of them only when it finds them as garbage, which is in the middle of any later test.
    """
    left: list[str] = []
    close = BaseSelectorEventLoop.close

    def closing(loop: Any) -> None:
        if not loop.is_closed():
            keys = loop._selector.get_map().values()
            left.extend(str(key.data) for key in keys if key.fd != loop._ssock.fileno())
        close(loop)

    with mock.patch.object(BaseSelectorEventLoop, "close", closing):
        yield
    assert not left, "the test leaves open what its loop listens to"
