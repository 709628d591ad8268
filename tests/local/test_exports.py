"""A real run's measurements as other tools read them: Prometheus' official parser, and TensorBoard's own reader."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from healed import reach, story
from healed_local import start
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from waiting import until

from swarmtrain import SeriesRange
from swarmtrain.control.exports.serving import parse_address, serving

_COMMAND = [sys.executable, "-c", "from swarmtrain.ui.cli import main; main()", "metrics"]


def free_port() -> int:
    with serving(parse_address("0"), lambda: "") as at:
        return at.port


def losses(port: int) -> dict[str, float]:
    """The loss of each rank, as Prometheus would read it; empty where nobody listens yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    families = {each.name: each for each in text_string_to_metric_families(text)}
    assert {each.labels["run"] for family in families.values() for each in family.samples} == {"heal.1"}
    found = families.get("swarmtrain_train_loss")
    return {each.labels["rank"]: each.value for each in found.samples} if found is not None else {}


def test_a_run_is_served_by_its_coordinator_and_by_a_client_and_written_for_tensorboard(
    tmp_path: Path, home: Path
) -> None:
    inside, outside = free_port(), free_port()
    handle = start(tmp_path, metrics_port=inside, pause=0.05)
    reach(handle, 10)
    until(lambda: set(losses(inside)) == {"0", "1"}, what="the losses at the coordinator")
    client = subprocess.Popen([*_COMMAND, "heal", "--on", "local", "--serve", str(outside)])
    try:
        until(lambda: set(losses(outside)) == {"0", "1"}, what="the losses at the client")
    finally:
        client.send_signal(signal.SIGINT)
        assert client.wait(10) == 130
    until(lambda: handle.series("node/*"), what="the node's first measurement, after ten seconds")
    assert handle.wait(timeout=150).state == "succeeded", story(handle)
    for _ in range(2):  # what was written before is renewed, not doubled
        done = subprocess.run(
            [*_COMMAND, "heal", "--on", "local", "--tensorboard", "board", "--points", "0"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 and "below board/heal.1" in done.stderr, done.stderr
    (told,) = handle.series("train/loss", within=SeriesRange(ranks=(0,), x="step", most=0))
    board = EventAccumulator(str(tmp_path / "board" / "heal.1" / "rank=0"))
    board.Reload()
    read = [(each.step, round(each.value, 5)) for each in board.Scalars("train/loss")]
    assert read == [(point.step, round(point.mean or 0.0, 5)) for point in told.points] and len(read) > 20
    assert {each.name for each in (tmp_path / "board" / "heal.1").iterdir()} >= {"rank=1", "node=node0"}
