"""``bundle.zip clean RUN...``: empties these runs' directories on the node it runs on."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from swarmtrain.wire import names
from swarmtrain.wire.disk.storage import Storage


def main(argv: list[str]) -> int:
    """Remove the runs; 1 when a file resisted, which is said on stderr."""
    storage = Storage(Path(os.environ.get(names.ENV_STORAGE, names.STORAGE)))
    code = 0
    for run in argv:
        try:
            storage.remove(run)
        except OSError as error:
            print(f"{run}: {error}", file=sys.stderr)
            code = 1
    return code
