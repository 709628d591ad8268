"""What workers do while they make no steps. (A stand-in until the worker's side is merged.)"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


async def answers(pids: Mapping[int, int], files: Mapping[int, Path]) -> dict[str, dict[str, Any]]:
    """By rank: ``stack`` and ``state``."""
    return {}
