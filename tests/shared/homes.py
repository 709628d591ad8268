"""A home for a test's local runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import check_nothing_left

from swarmtrain import Client


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place for a test's runs, and a directory to start them from. Afterwards nothing of them may be left."""
    monkeypatch.setenv("SWARMTRAIN_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "home"
    for handle in Client("local").runs():
        if handle.status().state not in ("succeeded", "failed", "stopped"):
            handle.kill()
    check_nothing_left(tmp_path, tmp_path / "home")
