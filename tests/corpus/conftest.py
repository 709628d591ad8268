"""What these tests use: a home for runs on this machine, or the lab, with an image of what the scripts need."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import corpus_image
import pytest
from corpus_harness import NAME
from corpus_places import OnALab, OnThisMachine, Place
from engines import ENGINES
from homes import home

from swarmtrain import Client
from swarmtrain.lab.images import ensure_torch_image
from swarmtrain.lab.lab import Lab

__all__ = ["home"]


@pytest.fixture(scope="session")
def lab_place() -> OnALab:
    lab = Lab(os.environ.get("SWARMTRAIN_LAB"))
    lab.up(engines=ENGINES)
    lab.load(ensure_torch_image(lab.engine, lambda words: None))
    return OnALab(lab, corpus_image.ensure_on(lab))


@pytest.fixture(params=["local", "lab"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Where runs go; none may be left afterwards."""
    if request.param == "local":
        request.getfixturevalue("home")
        yield OnThisMachine()
        return
    found: OnALab = request.getfixturevalue("lab_place")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_HOST", found.lab.host)
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    yield found
    found.lab.up()
    for handle in Client(on="swarm").runs():
        if handle.run.job == NAME:
            handle.remove(force=True)
