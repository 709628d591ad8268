"""Links to a run on this machine: to its coordinator's socket, or to what it has left behind."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from swarmtrain.launchers.link import process_link
from swarmtrain.wire.link import Link
from swarmtrain.wire.sockets import dial_unix


def direct(path: Path) -> Link:
    """A link to the coordinator that listens on this socket. Raises OSError."""
    connection = dial_unix(path)

    source, sink = connection.makefile("rb"), connection.makefile("wb")

    ends: tuple[Callable[[], object], ...] = (
        partial(connection.shutdown, socket.SHUT_RDWR),
        source.close,
        sink.close,
        connection.close,
    )

    def hang_up() -> None:
        for end in ends:
            try:
                end()
            except OSError:
                pass  # the coordinator went first

    return Link(source, sink, hang_up)


def archive(place: Path) -> Link:
    """A link to what a run left behind."""
    process = subprocess.Popen(
        [sys.executable, "-m", "swarmtrain.inside", "connect", str(place)],
        cwd=place,  # Python imports from where it is started, and anything may lie where a person's shell is
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    return process_link(process)


def last_words(path: Path) -> str:
    """The last line of what a process of ours has written into its log."""
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else "it said nothing"
