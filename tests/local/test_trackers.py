"""The example with Weights & Biases and MLflow, offline, with the real packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from swarmtrain import Client
from swarmtrain.job import load
from swarmtrain.job.flags import Override

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / ".cache" / "trackers"


@pytest.fixture(scope="module")
def packages() -> Path:
    """Where both are installed, for the job's workers alone."""
    if not (PACKAGES / "mlflow").is_dir():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(PACKAGES)]
        subprocess.run([*pip, "wandb", "mlflow-skinny"], check=True)
    return PACKAGES


@pytest.mark.long
def test_trackers_keep_book_of_rank_0_by_their_own_variables(home: Path, packages: Path) -> None:
    job = load(
        ROOT / "examples" / "trackers" / "swarmtrain.yaml", {"env.PYTHONPATH": Override(str(packages), "-e")}
    )
    handle = Client("local").run(job)
    assert handle.wait(timeout=120).state == "succeeded", handle.status().reason
    (kept,) = (home / "data" / handle.id / "node0" / "work" / "wandb").glob("offline-run-*")
    (written,) = kept.glob("run-*.wandb")
    assert written.name == "run-trackers-1.wandb" and written.stat().st_size > 1000
    (metric,) = (home / "data" / handle.id / "node0" / "work" / "mlruns").glob("*/*/metrics/loss")
    told = [line.split() for line in metric.read_text().splitlines()]
    assert [int(step) for _, _, step in told] == [*range(10, 101, 10)]
    assert float(told[-1][1]) < float(told[0][1])
