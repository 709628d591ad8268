"""What several of these tests use."""

from __future__ import annotations

import pytest
from homes import home

__all__ = ["home"]


@pytest.fixture(autouse=True)
def _processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests train on processors, whatever this machine has: its GPUs would be shared out, or be too few."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
