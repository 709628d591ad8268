"""The files in which a node's measurements wait for the coordinator."""

from __future__ import annotations

from pathlib import Path


def file_of(directory: Path, number: int) -> Path:
    """A file of a node's measurements."""
    return directory / f"node-{number}.measured"


def numbers(directory: Path) -> list[int]:
    """The numbers of those that are there."""
    stems = (path.stem.removeprefix("node-") for path in directory.glob("node-*.measured"))
    return [int(stem) for stem in stems if stem.isdecimal()]
