"""The command that starts a node's spawner; and a spawner that was started, before anybody listens to it.

The agent starts the first one before it imports the rest of itself (agent/main.py), so this imports little: a start
waits for the spawner, which imports torch, longer than for anything else.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from swarmtrain.wire import names
from swarmtrain.wire.run_spec import RunSpec


class StartedSpawner(NamedTuple):
    """A spawner process, which imports torch or serves already, and the agent's end of the connection to it."""

    process: subprocess.Popen[bytes]
    connection: socket.socket


class SpawnerCommand(NamedTuple):
    """What starts a spawner.

    Attributes:
        start: ``warm`` to import torch first, else ``cold``.
        env: its environment, and so every worker's.
        directory: in which it runs.
    """

    start: str
    env: Mapping[str, str]
    directory: Path

    @staticmethod
    def of(task: RunSpec, env: Mapping[str, str], directory: Path) -> SpawnerCommand:
        """What starts the spawner of a job's workers."""
        return SpawnerCommand("cold" if task.kind == "command" else task.start, env, directory)

    def begin(self) -> StartedSpawner:
        """Start it. It begins at once to import what workers will need, and ends when our end is closed.

        Raises:
            OSError: there is no such directory, or no memory for another process.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = subprocess.Popen(
                    # with room for the command lines that its forks show: see worker/processes.py
                    [*entrance("spawner"), f"--{self.start}", " " * 1024],
                    env={**self.env, names.ENV_SPAWNER_FD: str(theirs.fileno())},
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    cwd=self.directory,
                )
            except BaseException:
                ours.close()
                raise
        return StartedSpawner(process, ours)


def bundle() -> str:
    """The zip that this process runs from; empty when it runs from an installed package."""
    path = sys.argv[0]
    return os.path.abspath(path) if path.endswith(".zip") else ""  # noqa: PTH100 - argv[0] may be relative


def entrance(what: str) -> list[str]:
    """The command that starts another part of the bundle the way this one was started."""
    return [sys.executable, bundle(), what] if bundle() else [sys.executable, "-m", "swarmtrain.inside", what]
