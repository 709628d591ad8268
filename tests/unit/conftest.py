"""What several of these tests use."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from drawn import DRAW, examples
from hand_clock import HandClock
from hypothesis import settings
from run_fakes import Theatre, theatre

# What once failed is not kept beside the repository, which may be there to be read alone. And the same examples are
# drawn every time, so that what fails is what a change broke; `make test-all` draws others.
settings.register_profile(
    "unit", max_examples=examples(100), database=None, derandomize=not DRAW, deadline=None
)
settings.load_profile("unit")


def pytest_collection_finish() -> None:
    """pytest listens to each logger that passes nothing on, three times a test, and torch has fifty of those."""
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger) and logger.name.partition(".")[0] == "torch":
            logger.propagate = True


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Theatre]:
    """Where runs are played: one directory, one clock."""
    made = theatre(tmp_path, HandClock(), monkeypatch)
    yield made
    made.close()


@pytest.fixture
def make_stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], Theatre]]:
    """Makes stages, each with a clock and a directory of its own; the newest one's clock is that of the house."""
    made: list[Theatre] = []

    def make(path: Path) -> Theatre:
        made.append(theatre(path, HandClock(), monkeypatch))
        return made[-1]

    yield make
    for each in made:
        each.close()
