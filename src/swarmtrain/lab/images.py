"""The lab's images: the node, and the ordinary training image that tests and the demo run.

Each is built from a Dockerfile in ``assets`` and labelled with a hash of what it was built from, so that it is
rebuilt when that changed and otherwise left alone. It goes to several engines at once: read once, written to all.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarmtrain.docker.command import Docker, DockerFailed
from swarmtrain.errors import ClusterError
from swarmtrain.lab import wheels
from swarmtrain.lab.base import Say, ensure_base
from swarmtrain.lab.commands import build_image
from swarmtrain.lab.names import LABEL_RECIPE, LABEL_STAGE
from swarmtrain.lab.releases import Release

# The Python of each release that images with it are made of.
PYTHONS = {"bookworm": wheels.PYTHON, "trixie": "3.13"}
TORCH_IMAGE = f"swarmtrain/torch:{wheels.TORCH}-cpu"

ASSETS = Path(__file__).parent / "assets"
CHUNK = 1 << 20  # bytes of an image on its way to other engines
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def ensure_node_image(engine: Docker, release: Release, say: Say) -> str:
    """Build the image of a lab node with a release's engine where it is missing; its id."""
    tag = f"swarmtrain/lab-node:{release.name}"
    made_of = Recipe(("node.Dockerfile", "node-entrypoint.sh"), node_arguments(release))
    if not is_current(engine, tag, made_of.digest):
        build(engine, tag, ensure_base(engine, release.name, say), made_of, say)
    return str(engine.json("image", "inspect", tag)[0]["Id"])


def node_arguments(release: Release) -> tuple[str, ...]:
    """What the Dockerfile of a node is to know of the release."""
    apt = "-o Acquire::Check-Valid-Until=false" if release.is_rolling else ""
    return (f"ENGINE={' '.join(release.packages)}", f"APT={apt}")


def ensure_python_image(engine: Docker, say: Say, release: str = wheels.RELEASE) -> str:
    """Build the image with nothing but the Python of a release in it where it is missing; its tag."""
    tag, made_of = f"swarmtrain/python:{PYTHONS[release]}", Recipe(("python.Dockerfile",))
    if not is_current(engine, tag, made_of.digest):
        build(engine, tag, ensure_base(engine, release, say), made_of, say)
    return tag


def ensure_torch_image(engine: Docker, say: Say) -> str:
    """Build the demo image with torch for the CPU where it is missing; its tag."""
    made_of = Recipe(("torch.Dockerfile", "python.Dockerfile"))
    if is_current(engine, TORCH_IMAGE, made_of.digest):
        return TORCH_IMAGE
    base = ensure_python_image(engine, say)
    with tempfile.TemporaryDirectory(prefix="swarmtrain-wheels-") as scratch:
        context = Path(scratch)
        say(f"downloading torch {wheels.TORCH} for the CPU")
        wheels.download(context / "wheels", architecture(engine))
        build(engine, TORCH_IMAGE, base, made_of, say, context)
    return TORCH_IMAGE


@dataclass(frozen=True)
class Recipe:
    """All that decides what an image holds, as far as this repository decides it.

    Args:
        assets: names of files in `ASSETS`, the Dockerfile first.
        arguments: ``NAME=VALUE`` for the Dockerfile.
    """

    assets: tuple[str, ...]
    arguments: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """A hash of it."""
        content = b"".join((ASSETS / name).read_bytes() for name in self.assets)
        parts = repr((self.arguments, wheels.REQUIREMENTS)).encode()
        return hashlib.sha256(content + parts).hexdigest()[:16]


def is_current(engine: Docker, tag: str, wanted: str) -> bool:
    """Whether the engine holds this image, built from this recipe."""
    try:
        found = engine.json("image", "inspect", tag)
    except DockerFailed as error:
        if "no such image" in error.stderr.lower():
            return False
        raise
    labels = found[0]["Config"].get("Labels") or {}
    return bool(labels.get(LABEL_RECIPE) == wanted)


def build(
    engine: Docker, tag: str, base: str, made_of: Recipe, say: Say, context: Path | None = None
) -> None:
    """Build an image from its Dockerfile, with the other assets and what is in ``context`` beside it."""
    say(f"building {tag}")
    with tempfile.TemporaryDirectory(prefix="swarmtrain-image-") as scratch:
        directory = context or Path(scratch)
        for name in made_of.assets:
            shutil.copy(ASSETS / name, directory / name)
        shutil.copy(ASSETS / made_of.assets[0], directory / "Dockerfile")
        proxies = [name for name in PROXIES if name in os.environ]
        labels = [f"{LABEL_RECIPE}={made_of.digest}"]
        arguments = [*made_of.arguments, *proxies]
        done = engine.completed(*build_image(tag, base, str(directory), labels, arguments))
    remove_replaced(engine)
    if done.returncode != 0:
        output = (done.stdout + done.stderr).decode(errors="replace").strip().splitlines()
        raise ClusterError(f"docker could not build {tag}:\n" + "\n".join(output[-15:]))


def remove_replaced(engine: Docker) -> None:
    """Remove older builds of our images, and the first stages of builds, which the classic builder keeps."""
    for label in (LABEL_RECIPE, LABEL_STAGE):
        engine.run("image", "prune", "--force", "--filter", f"label={label}", check=False)


def architecture(engine: Docker) -> str:
    """The engine's, as ``uname -m`` says it."""
    return str(engine.json_lines("info")[0]["Architecture"])


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
