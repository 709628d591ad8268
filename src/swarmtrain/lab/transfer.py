"""Bringing an image from one engine to several others: read once, written to all of them at the same time."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Sequence
from typing import Any

from swarmtrain.docker.command import Docker, DockerFailed

CHUNK = 1 << 20


def fingerprint(engine: Docker, image: str) -> object | None:
    """What makes an image what it is; None where the engine does not hold it.

    Not its id: engines that store images differently number the same image differently.
    """
    try:
        found: dict[str, Any] = engine.json("image", "inspect", image)[0]
    except DockerFailed as error:
        if "no such image" in error.stderr.lower():
            return None
        raise
    config = found["Config"]
    parts = ("Env", "Entrypoint", "Cmd", "WorkingDir", "User", "Labels")
    return found["RootFS"]["Layers"], [config.get(part) or None for part in parts]


def copy_image(source: Docker, image: str, targets: Sequence[Docker]) -> None:
    """``docker save`` on one engine, piped into ``docker load`` on every other one."""
    pipe = subprocess.PIPE
    save = source.popen("save", image, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    loads = [
        target.popen("load", "--quiet", stdin=pipe, stdout=subprocess.DEVNULL, stderr=pipe)
        for target in targets
    ]
    assert save.stdout
    inputs = [load.stdin for load in loads if load.stdin]
    while chunk := save.stdout.read(CHUNK):
        for end in list(inputs):
            try:
                end.write(chunk)
            except BrokenPipeError:  # this engine gave up, and says why when asked below
                inputs.remove(end)
    for load in loads:
        with contextlib.suppress(BrokenPipeError):
            if load.stdin:
                load.stdin.close()
        load.stdin = None
    for process in (*loads, save):
        _, complaint = process.communicate()
        if process.returncode != 0:
            assert isinstance(process.args, list)
            raise DockerFailed(process.args, process.returncode, complaint.decode(errors="replace").strip())
