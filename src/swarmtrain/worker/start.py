"""The first code of a cold worker: ``bundle.zip start CWD script|module TARGET [ARGUMENTS]``."""

from __future__ import annotations

from typing import NoReturn

from swarmtrain.protocol.spawner import Program
from swarmtrain.worker.user import run_and_end
from swarmtrain.worker.warm import module_path


def main(argv: list[str]) -> NoReturn:
    """Become the user's program; see :func:`swarmtrain.worker.launch.cold_command` for the arguments."""
    module_path.drop_launcher()
    cwd, kind, target, *args = argv
    run_and_end(Program("module" if kind == "module" else "script", target, tuple(args), cwd))
