"""`swarmtrain metrics`: what it prints, draws and writes, and what it says when there is nothing."""

from __future__ import annotations

import csv
import json
import sys
import xml.etree.ElementTree as xml
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click
import pytest
from client_fakes import FakeLauncher, Receive, fixed, status

from swarmtrain.control.client import Client
from swarmtrain.errors import RequestError
from swarmtrain.ui import options
from swarmtrain.ui.commands.look import metrics as module

LOSS = {
    "name": "train/loss",
    "labels": {"rank": "0"},
    "nodes": ["a"],
    "time": 1000.0,
    "step": 2,
    "value": 0.25,
}
POINTS = [[1.0, 990.0, 1, 1, 0.5, 0.5, 0.5, 1, 0], [2.0, 1000.0, 2, 1, None, None, None, 1, 1]]
BUSY = {
    "name": "node/cpu_busy_ratio",
    "labels": {"node": "a"},
    "unit": "ratio",
    "time": 1004.0,
    "value": 0.375,
}

Call = Callable[..., Any]
asked: list[dict[str, Any]] = []


def series(request: dict[str, Any], receive: Receive) -> Iterator[dict[str, Any]]:
    asked.append(request)
    for each in (BUSY, LOSS):
        if not request.get("names") or any(fnmatch(each["name"], name) for name in request["names"]):
            yield {"series": {**each, **({"points": POINTS} if request["points"] else {})}}
    yield {"done": {}}


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    launcher = FakeLauncher(digits_1=fixed(status(now=1010.0), series=series))
    monkeypatch.setattr(options, "client", lambda on, **_: Client("local", {"local": launcher}))
    asked.clear()

    def run(*argv: str) -> Any:
        return module.metrics.main(args=["digits", *argv], standalone_mode=False)

    return run


def test_without_series_they_are_listed_with_what_they_are_now(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    call()
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["series", "of", "value", "age"],
        ["node/cpu_busy_ratio", "node", "a", "37.5", "%", "6.0", "s"],
        ["train/loss", "rank", "0", "0.25", "10", "s"],
    ]
    assert asked[0]["points"] is False


def test_csv_has_every_point_and_nothing_for_what_is_no_number(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    call("train/*", "--csv", "--x", "step", "--points", "0")
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [(row["series"], row["label"], row["x"], row["mean"], row["bad"]) for row in rows] == [
        ("train/loss", "rank=0", "1.0", "0.5", "0"),
        ("train/loss", "rank=0", "2.0", "", "1"),
    ]
    assert (asked[0]["x"], asked[0]["most"]) == ("step", 0)


def test_json_is_one_document(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    call("train/loss", "--json")
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["name"], found["points"][0][5]) == ("train/loss", 0.5)


def test_a_plot_is_drawn_here_and_a_picture_is_written(
    call: Call, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    call("train/loss", "--plot", "--x", "step", "-o", str(tmp_path / "loss.svg"))
    out, err = capsys.readouterr()
    assert out.startswith("train/loss\n") and "not a number" in out and "wrote" in err
    assert xml.parse(tmp_path / "loss.svg").getroot().tag.endswith("svg")
    with pytest.raises(RequestError, match="no name of an SVG file"):
        call("train/loss", "-o", str(tmp_path / "loss.png"))


def test_event_files_need_tensorboard_and_that_is_said_in_a_sentence(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [each for each in sys.modules if each.partition(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(RequestError, match="need its package, which is not here") as caught:
        call("--tensorboard", str(tmp_path / "board"))
    assert caught.value.hint == "pip install 'swarmtrain[tensorboard]'"
    assert not (tmp_path / "board").exists()


@pytest.mark.torch  # where the packages for development are
def test_event_files_hold_each_series_where_its_labels_say_and_a_loss_that_is_no_number(
    call: Call, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (tmp_path / "digits.1" / "rank=0").mkdir(parents=True)
    (tmp_path / "digits.1" / "rank=0" / "events.out.tfevents.1.theirs").write_text("")
    for _ in range(2):
        call("--tensorboard", str(tmp_path))
    assert "wrote 4 points of digits.1 below" in capsys.readouterr().err
    assert sorted(each.name for each in (tmp_path / "digits.1").iterdir()) == ["node=a", "rank=0"]
    assert len(list((tmp_path / "digits.1" / "rank=0").iterdir())) == 2
    board = EventAccumulator(str(tmp_path / "digits.1" / "rank=0")).Reload()
    first, second = board.Scalars("train/loss")
    assert (first.step, first.value, first.wall_time) == (1, 0.5, 990.0)
    assert second.step == 2 and second.value != second.value


def test_an_address_to_serve_at_that_is_none_is_refused(call: Call) -> None:
    with pytest.raises(RequestError, match="'train/loss' is no address to listen on"):
        call("--serve", "train/loss")


def test_ranks_nodes_and_times_are_asked_for(call: Call) -> None:
    call("train/loss", "--rank", "0-2", "--node", "a", "--since", "10m", "--json")
    assert (asked[0]["ranks"], asked[0]["nodes"], asked[0]["start"]) == ([0, 1, 2], ["a"], -600.0)
    with pytest.raises(RequestError, match="--since is a time"):
        call("train/loss", "--since", "10m", "--x", "step")


def test_a_name_that_is_none_is_answered_with_those_that_are(call: Call) -> None:
    with pytest.raises(RequestError) as caught:
        call("train/los")
    assert "no points of train/los" in caught.value.message and "train/loss" in caught.value.hint


def test_names_are_completed(call: Call) -> None:
    ctx = click.Context(module.metrics)
    ctx.params = {"name": "digits"}
    found = module.complete_series(ctx, module.metrics.params[-1], "train/")
    assert [each.value for each in found] == ["train/loss"]
    ctx.params = {}
    assert module.complete_series(ctx, module.metrics.params[-1], "") == []
