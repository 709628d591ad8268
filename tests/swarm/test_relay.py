"""A run whose coordinator is on another manager is reached through a relay on the one spoken to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from managers import more_managers

from swarmtrain import Client, Job
from swarmtrain.lab.lab import Lab


@pytest.fixture
def second_manager(lab: Lab) -> Iterator[str]:
    """The endpoint of another manager of the lab's Swarm."""
    with more_managers(lab, "lab-2"):
        yield f"unix://{lab.node(2).socket}"


@pytest.mark.long
def test_another_manager_reaches_the_run_through_a_relay(
    lab: Lab, second_manager: str, torch_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    monkeypatch.setenv("DOCKER_HOST", lab.host)
    (tmp_path / "train.py").write_text("print('hello from', __import__('os').environ['RANK'])")
    monkeypatch.chdir(tmp_path)
    job = Job(script="train.py", name="relay", nodes=3, start="cold", image=torch_image)
    handle = Client(on="swarm").run(job)
    try:
        assert handle.wait(timeout=120).state == "succeeded"
        monkeypatch.setenv("DOCKER_HOST", second_manager)
        there = Client(on="swarm").get("relay")
        assert there.status()["state"] == "succeeded"
        lines = sorted(text for batch in there.logs() for *_, text in batch)
        assert lines == [f"hello from {rank}" for rank in range(3)]
    finally:
        monkeypatch.setenv("DOCKER_HOST", lab.host)
        handle.remove(force=True)
