"""What travels to the nodes runs on the Pythons that images have: those of two Debian releases, in containers."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmtrain import Client, Job
from swarmtrain.docker.command import Docker
from swarmtrain.job import Restart
from swarmtrain.lab.images import PYTHONS, ensure_python_image
from swarmtrain.payload import bundle

# Every module of the bundle that needs no torch: those that do say so in their own ways.
IMPORT_ALL = """\
import importlib, pkgutil, sys
import swarmtrain
for each in pkgutil.walk_packages(swarmtrain.__path__, "swarmtrain."):
    if not each.name.startswith("swarmtrain.trainer"):
        importlib.import_module(each.name)
assert not {"torch", "numpy", "click", "pydantic"} & set(sys.modules)
print(*sys.version_info[:2], sep=".")
"""


@pytest.fixture(params=PYTHONS)
def release(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A release, whose image this machine's own engine holds."""
    for variable in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(variable, raising=False)
    ensure_python_image(Docker(), print, request.param)
    return str(request.param)


def test_all_of_the_bundle_that_needs_no_torch_can_be_imported(release: str) -> None:
    image = f"swarmtrain/python:{PYTHONS[release]}"
    mount = f"{bundle.on_disk()}:/bundle.zip:ro"
    words = ["--rm", "--network", "none", "--volume", mount, "--env", "PYTHONPATH=/bundle.zip", image]
    assert Docker().run("run", *words, "python", "-W", "error", "-c", IMPORT_ALL).split() == [
        PYTHONS[release]
    ]


def test_a_run_of_two_nodes_goes_its_whole_way_without_torch(
    release: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Coordinator, agents, spawners and workers: a command needs nothing but Python."""
    monkeypatch.chdir(tmp_path)
    words = "import os, sys; print(*sys.version_info[:2], os.environ['RANK'], os.environ['WORLD_SIZE'])"
    job = Job(
        command=["python", "-c", words],
        name=f"python-{release}",
        image=f"swarmtrain/python:{PYTHONS[release]}",
        nodes=2,
        workers_per_node=1,
        backend="gloo",
        restart=Restart(max=0),
    )
    handle = Client("docker").run(job)
    try:
        assert handle.wait(timeout=120).state == "succeeded"
        printed = sorted(line.text for lines in handle.logs() for line in lines)
        assert printed == [f"{PYTHONS[release].replace('.', ' ')} {rank} 2" for rank in (0, 1)]
    finally:
        handle.remove(force=True)
