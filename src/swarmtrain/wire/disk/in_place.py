"""Large files of the project that are used where they lie, on local: links to them in a working directory.

The agent makes them as it unpacks the code, and writes them into its record. A worker takes a file's place by a copy
before it writes to it (`worker.copy_on_write`): so a script changes what is its run's, and never the user's own file.
"""

from __future__ import annotations

import json
from pathlib import Path

RECORD = ".swarmtrain-code.json"  # in a working directory: what was unpacked, by name, as digest or as link
LINK = "-> "  # what a link's record begins with; where it leads follows


def link(path: Path, target: str) -> None:
    """Put a link in the place of what is there. Raises OSError."""
    try:
        path.symlink_to(target)
    except FileExistsError:
        aside = path.with_name(f".{path.name}.swarmtrain-new")
        aside.unlink(missing_ok=True)
        aside.symlink_to(target)
        aside.replace(path)


def links(work: Path) -> frozenset[str]:
    """Where the links lead that were unpacked into a working directory."""
    try:
        text = (work / RECORD).read_text()
        if LINK not in text:
            return frozenset()
        return frozenset(
            each.removeprefix(LINK) for each in json.loads(text).values() if each.startswith(LINK)
        )
    except (OSError, ValueError, AttributeError):
        return frozenset()  # the disk lost it, or a script has written there
