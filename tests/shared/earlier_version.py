"""The version of swarmtrain before this one, as somebody uses it who has not upgraded; earlier/README.md says which."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from healed import SCRIPT

ARCHIVE = Path(__file__).parent / "earlier" / "swarmtrain-76d17ca.tar.xz"
_COMMAND = (sys.executable, "-c", "from swarmtrain.ui.cli import main; main()")


class EarlierVersion:
    """Its command line. What it starts on this machine is of its version, too.

    Args:
        directory: where it is unpacked.
    """

    def __init__(self, directory: Path) -> None:
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(directory, filter="data")
        self.path = directory / "src"

    def __call__(self, *words: str) -> str:
        """Run a command to its end, which has to be a good one; what it printed."""
        environment = os.environ | {"PYTHONPATH": str(self.path)}
        done = subprocess.run(
            [*_COMMAND, *words], env=environment, capture_output=True, text=True, timeout=150, check=False
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, directory: Path, name: str, *flags: str, **settings: Any) -> None:
        """Start a run of `healed_script.py`, from the current directory."""
        (directory / "train.py").write_text(SCRIPT.read_text())
        words = ("--name", name, "--files", "train.py", "-e", "OMP_NUM_THREADS=1", *flags)
        self("run", "-d", *words, "train.py", json.dumps(settings))
