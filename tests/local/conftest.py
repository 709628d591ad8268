"""What several of these tests use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from homes import home

__all__ = ["home"]


@pytest.fixture(autouse=True, scope="session")
def _processors() -> Iterator[None]:
    """These tests train on processors, whatever this machine has: its GPUs would be shared out, or be too few.

    From the first of them on, also for what is started once for many.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield
