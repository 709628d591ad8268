"""The lab's images: the node, and the ordinary training image that tests and the demo run.

Each is built from a Dockerfile in ``assets`` and labelled with a hash of what it was built from, so that it is
rebuilt when that changed and otherwise left alone.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from swarmtrain.errors import ClusterError
from swarmtrain.lab import wheels
from swarmtrain.lab.base import Say, ensure_base
from swarmtrain.lab.commands import build_image
from swarmtrain.lab.names import LABEL_RECIPE, LABEL_STAGE
from swarmtrain.swarm.docker import Docker, DockerFailed

NODE_IMAGE = "swarmtrain/lab-node:bookworm"
PYTHON_IMAGE = f"swarmtrain/python:{wheels.PYTHON}"
TORCH_IMAGE = f"swarmtrain/torch:{wheels.TORCH}-cpu"

ASSETS = Path(__file__).parent / "assets"
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def ensure_node_image(engine: Docker, say: Say) -> str:
    """Build the image of a lab node where it is missing; its id."""
    assets = ("node.Dockerfile", "node-entrypoint.sh")
    if not is_current(engine, NODE_IMAGE, recipe(assets)):
        build(engine, NODE_IMAGE, ensure_base(engine, say), assets, say)
    return str(engine.json("image", "inspect", NODE_IMAGE)[0]["Id"])


def ensure_python_image(engine: Docker, say: Say) -> str:
    """Build the image with nothing but Python where it is missing; its tag."""
    assets = ("python.Dockerfile",)
    if not is_current(engine, PYTHON_IMAGE, recipe(assets)):
        build(engine, PYTHON_IMAGE, ensure_base(engine, say), assets, say)
    return PYTHON_IMAGE


def ensure_torch_image(engine: Docker, say: Say) -> str:
    """Build the demo image with torch for the CPU where it is missing; its tag."""
    assets = ("torch.Dockerfile", "python.Dockerfile")
    if is_current(engine, TORCH_IMAGE, recipe(assets)):
        return TORCH_IMAGE
    base = ensure_python_image(engine, say)
    with tempfile.TemporaryDirectory(prefix="swarmtrain-wheels-") as scratch:
        context = Path(scratch)
        say(f"downloading torch {wheels.TORCH} for the CPU")
        wheels.download(context / "wheels", architecture(engine))
        build(engine, TORCH_IMAGE, base, assets, say, context)
    return TORCH_IMAGE


def recipe(assets: Sequence[str]) -> str:
    """A hash of all that decides what an image holds, as far as this repository decides it."""
    content = b"".join((ASSETS / name).read_bytes() for name in assets)
    return hashlib.sha256(content + repr(wheels.REQUIREMENTS).encode()).hexdigest()[:16]


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
    engine: Docker, tag: str, base: str, assets: Sequence[str], say: Say, context: Path | None = None
) -> None:
    """Build an image from its Dockerfile, the first of its assets, with the others and ``context`` beside it."""
    say(f"building {tag}")
    with tempfile.TemporaryDirectory(prefix="swarmtrain-image-") as scratch:
        directory = context or Path(scratch)
        for name in assets:
            shutil.copy(ASSETS / name, directory / name)
        shutil.copy(ASSETS / assets[0], directory / "Dockerfile")
        proxies = [name for name in PROXIES if name in os.environ]
        labels = [f"{LABEL_RECIPE}={recipe(assets)}"]
        done = engine.completed(*build_image(tag, base, str(directory), labels, proxies))
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
