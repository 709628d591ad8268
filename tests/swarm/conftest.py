"""What the tests on a real Swarm share: a lab of three engines that hold the training image.

The lab is the checkout's own, or the one that SWARMTRAIN_LAB names. It is brought up where it is not, repaired where
it is broken, and left up: the next session begins at once. Where it cannot be had, the tests fail. Its engines are
those that SWARMTRAIN_LAB_ENGINE names, or the default.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from engines import ENGINES

from swarmtrain.lab.images import ensure_torch_image
from swarmtrain.lab.lab import Lab

# The first test also builds images, loads them and brings the lab up.
TIMEOUT = 1200


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.fixture(scope="session")
def whole_lab() -> Lab:
    """The lab, for what asks it nothing but to be there."""
    lab = Lab(os.environ.get("SWARMTRAIN_LAB"))
    lab.up(engines=ENGINES)
    lab.load(ensure_torch_image(lab.engine, lambda words: None))
    return lab


@pytest.fixture
def lab(whole_lab: Lab) -> Iterator[Lab]:
    """The lab with its three nodes; whatever a test does to them is repaired after it."""
    before = _machines(whole_lab)
    yield whole_lab
    if _machines(whole_lab) != before:
        whole_lab.up()


def _machines(lab: Lab) -> str:
    """What the nodes are, since when they run, and where they are plugged in."""
    ours = lab.engine.run(
        "ps", "--all", "--quiet", "--filter", f"label=swarmtrain.lab={lab.names.lab}"
    ).split()
    form = "{{.Id}} {{.State.StartedAt}} {{.State.Status}} {{json .NetworkSettings.Networks}}"
    return lab.engine.run("inspect", "--format", form, *sorted(ours))


@pytest.fixture
def machines(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The lab, while the test is a shell that speaks to its Swarm."""
    monkeypatch.setenv("DOCKER_HOST", lab.host)
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    return Lab(lab.names.lab)


@pytest.fixture(scope="session")
def torch_image() -> str:
    """The tag of an ordinary image with Python and torch, which every node holds."""
    from swarmtrain.lab.images import TORCH_IMAGE

    return TORCH_IMAGE
