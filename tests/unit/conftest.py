"""What several of these tests use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from run_fakes import Clock, Theatre, theatre


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Theatre]:
    """Where runs are played: one directory, one clock."""
    made = theatre(tmp_path, Clock(), monkeypatch)
    yield made
    made.close()
