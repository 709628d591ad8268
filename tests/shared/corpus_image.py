"""An image for the corpus on a lab: torch's, and on top of it what the scripts import of what is installed here."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from swarmtrain.lab import wheels
from swarmtrain.lab.images import TORCH_IMAGE
from swarmtrain.lab.lab import Lab
from swarmtrain.lab.node import LabNode

IMAGE = "swarmtrain/corpus:test"
_LABEL = "swarmtrain.corpus"
_REQUIREMENTS = Path(__file__).parents[1] / "corpus" / "requirements.txt"
_THERE = ("torch", "numpy", "filelock", "fsspec", "typing-extensions")  # in torch's image
_DOCKERFILE = f"""\
FROM {TORCH_IMAGE}
COPY packages /venv/lib/python{wheels.PYTHON}/site-packages
"""


def ensure_on(lab: Lab) -> str:
    """Have the image on every node of a lab; its tag."""
    here = "{}.{}".format(*sys.version_info)
    assert here == wheels.PYTHON, (
        f"the packages here are for Python {here}, those of the image {wheels.PYTHON}"
    )
    packages = needed(line for line in _REQUIREMENTS.read_text().splitlines() if not line.startswith("#"))
    versions = sorted(f"{each.name}=={each.version}" for each in packages)
    digest = hashlib.sha256(repr((_DOCKERFILE, versions)).encode()).hexdigest()[:16]
    without = [node for node in lab.nodes() if not _is_on(node, digest)]
    if without:
        with tempfile.TemporaryDirectory(prefix="swarmtrain-corpus-") as scratch:
            (Path(scratch) / "Dockerfile").write_text(_DOCKERFILE)
            for each in packages:
                copy_package(each, Path(scratch) / "packages")
            for node in without:
                label = f"{_LABEL}={digest}"
                node.docker.run("build", "--quiet", "--label", label, "--tag", IMAGE, scratch)
                node.docker.run("image", "prune", "--force", "--filter", f"label={_LABEL}")
    return IMAGE


def needed(lines: Iterable[str]) -> list[Distribution]:
    """What requirements name, and what that needs, as it is installed here."""
    found: dict[str, Distribution] = {}
    wanted = [(Requirement(line), "") for line in lines]
    while wanted:
        requirement, extra = wanted.pop()
        if requirement.name == "torch" or not _applies(requirement, extra):
            continue
        try:
            each = distribution(requirement.name)
        except PackageNotFoundError as error:
            raise AssertionError("make test-corpus installs what the scripts need") from error
        is_new = each.name not in found
        found[each.name] = each
        further = [Requirement(line) for line in each.requires or ()]
        wanted += [(one, wish) for one in further for wish in ["", *requirement.extras] if is_new or wish]
    return [each for each in found.values() if canonicalize_name(each.name) not in _THERE]


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def copy_package(each: Distribution, packages: Path) -> None:
    """Put an installed package where an image has its own."""
    for path in each.files or ():
        if ".." not in path.parts:
            target = packages / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(path.locate()), target)


def _is_on(node: LabNode, digest: str) -> bool:
    filters = ("--filter", f"reference={IMAGE}", "--filter", f"label={_LABEL}={digest}")
    return bool(node.docker.run("images", "--quiet", *filters).strip())
