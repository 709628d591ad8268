"""What tests on a GPU measured, as a table."""

from __future__ import annotations

from collections.abc import Callable

Tell = Callable[[str, str], None]  # adds a row: what was measured, and how much it was

rows: list[tuple[str, str]] = []
