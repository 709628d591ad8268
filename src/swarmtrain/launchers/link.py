"""Links over the standard streams of a process: into a coordinator's container, or to a run's archive."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, cast

from swarmtrain.errors import ChannelError, ClusterError
from swarmtrain.protocol.ask import ask
from swarmtrain.protocol.codec import load
from swarmtrain.protocol.requests import StatusRequest
from swarmtrain.protocol.status import Status
from swarmtrain.wire import names
from swarmtrain.wire.link import Link

if TYPE_CHECKING:
    from swarmtrain.docker.command import Docker

_HANG_UP_SECONDS = 5.0
_LAST_WORDS_SECONDS = 1.0
_WAKE_SECONDS = 60.0
_COPY_SECONDS = 30.0


def exec_link(docker: Docker, container: str) -> Link:
    """A link to the coordinator in a running container, over the standard streams of ``docker exec``.

    Raises:
        ClusterError: Docker does not answer, or there is no such container any more.
    """
    python = docker.json("container", "inspect", container)[0]["Config"]["Entrypoint"][0]
    process = docker.popen(
        *("exec", "--interactive", container, python, names.BUNDLE, "connect"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    return process_link(process)


def left_in(docker: Docker, container: str) -> Status | None:
    """The status document that a coordinator has left in its container, if it is there. Raises ClusterError."""
    import tarfile  # which no run waits for that starts

    copied = docker.completed("cp", f"{container}:{names.LEFT}", "-", timeout=_COPY_SECONDS)
    if copied.returncode != 0:
        return None
    try:
        with tarfile.open(fileobj=io.BytesIO(copied.stdout)) as archive:
            file = archive.extractfile(archive.getmembers()[0])
            assert file is not None, "docker cp gives the file that was asked for"
            return load(Status, json.load(file))
    except (tarfile.TarError, ValueError, ChannelError):
        return None  # its coordinator can say


def await_answer(connect: Callable[[], Link]) -> Link:
    """A link to a coordinator that was just started, once it answers.

    Raises:
        ClusterError: it does not within a minute.
    """
    deadline = time.monotonic() + _WAKE_SECONDS
    while True:
        try:
            with connect() as link:
                for _ in ask(link, StatusRequest()):
                    pass
            return connect()
        except ClusterError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.3)


def waking(run: str) -> str:
    """What to say before a coordinator is started to be asked."""
    return f"{run} has ended, and its coordinator has gone since: it is started again to be asked"


def process_link(process: subprocess.Popen[bytes]) -> Link:
    """A link to a process that runs ``bundle.zip connect``, started with pipes for its standard streams."""
    source, sink = cast("BinaryIO", process.stdout), cast("BinaryIO", process.stdin)
    return Link(source, sink, lambda: _hang_up(process), lambda: _last_words(process))


def _last_words(process: subprocess.Popen[bytes]) -> str:
    """What a process that has ended said of its end, if that was kept."""
    with contextlib.suppress(subprocess.TimeoutExpired, OSError, ValueError):
        process.wait(_LAST_WORDS_SECONDS)
        if process.stderr is not None:
            return process.stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
    return ""


def _hang_up(process: subprocess.Popen[bytes]) -> None:
    """End the process; behind ``docker exec`` the engine then closes the streams of what it started."""
    process.terminate()
    try:
        process.wait(_HANG_UP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        try:
            if stream is not None:
                stream.close()
        except (OSError, ValueError):
            pass  # what was not flushed has nobody to read it
