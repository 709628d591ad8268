"""Images of Debian's packages, which no registry is needed for: as deploy/monitoring/debian.Dockerfile makes them."""

from __future__ import annotations

from pathlib import Path

from swarmtrain.docker.command import Docker
from swarmtrain.lab.base import ensure_base

DIRECTORY = Path(__file__).parents[2] / "deploy" / "monitoring"


def debian_image(engine: Docker, package: str) -> str:
    """The tag of an image whose program is that of a package; the host's engine holds it then."""
    base, tag = ensure_base(engine, "trixie", lambda words: None), f"swarmtrain/{package}:debian"
    engine.run(
        *("build", "--quiet", "--file", str(DIRECTORY / "debian.Dockerfile"), "--tag", tag),
        *("--build-arg", f"BASE_IMAGE={base}", "--build-arg", f"PACKAGE={package}", str(DIRECTORY)),
    )
    return tag
