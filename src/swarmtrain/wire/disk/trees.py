"""Directories that go with all that is in them, whatever a script has made there. Used wherever a run's are removed."""

from __future__ import annotations

import os
from pathlib import Path


def remove_tree(top: Path) -> None:
    """Remove a directory and all that is in it, at any depth. Raises OSError.

    What `shutil.rmtree` does takes a call and a descriptor for each level, and fails at the thousandth. So what lies in
    a directory below the top is moved to the top first, and each is empty when its turn comes. Who is killed
    meanwhile leaves a directory that can be removed.
    """
    mark, moved, waiting = os.urandom(4).hex(), 0, [top]
    while waiting:
        directory = waiting.pop()
        with os.scandir(directory) as entries:
            found = list(entries)
        for entry in found:
            place = Path(entry.path)
            if not entry.is_dir(follow_symlinks=False):
                place.unlink()
                continue
            if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
                place.chmod(0o700)
            if directory != top:
                moved += 1
                place = place.rename(top / f".{mark}-{moved}")
            waiting.append(place)
        if directory != top:
            directory.rmdir()
    top.rmdir()
