"""An image for published dashboards on a lab: torch's, and on top of it starlette and uvicorn as they are installed."""

from __future__ import annotations

import tempfile
from pathlib import Path

from corpus_image import copy_package, needed

from swarmtrain.lab import wheels
from swarmtrain.lab.images import TORCH_IMAGE
from swarmtrain.lab.lab import Lab

IMAGE = "swarmtrain/page:test"
_DOCKERFILE = f"""\
FROM {TORCH_IMAGE}
COPY packages /venv/lib/python{wheels.PYTHON}/site-packages
"""


def ensure_page_image(lab: Lab) -> str:
    """Have the image on the first node of a lab, its manager; its tag."""
    with tempfile.TemporaryDirectory(prefix="swarmtrain-page-") as scratch:
        (Path(scratch) / "Dockerfile").write_text(_DOCKERFILE)
        for each in needed(["starlette", "uvicorn"]):
            copy_package(each, Path(scratch) / "packages")
        lab.node(1).docker.run("build", "--quiet", "--tag", IMAGE, scratch)
    return IMAGE
