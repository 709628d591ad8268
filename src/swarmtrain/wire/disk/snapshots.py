"""The names of a snapshot's files, and what its manifest says of its order. Torch is not needed for that.

The files are those of `trainer.snapshots.files`: a manifest in JSON, written last, that names a data file with its
size and checksum.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_NAME = re.compile(r"g(\d+)-s(\d+)[-.0-9a-f]*\.(json|pt|damaged)")
FENCED = 3  # the format of manifests from which on they say their fence


def stem(fence: int, step: int) -> str:
    """How the names of a snapshot's files begin."""
    return f"g{fence:04d}-s{step:09d}"


def key_of(name: str) -> tuple[int, int] | None:
    """The fence and the step that the name of a snapshot's file tells; None for any other file."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def fence_of(manifest: Mapping[str, Any]) -> int:
    """The fence in a manifest; before format 3, generations were numbered so that they could serve as one."""
    return int(manifest["fence" if int(manifest["format"]) >= FENCED else "generation"])
