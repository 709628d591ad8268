"""`swarmtrain explain` and what it says where no coordinator knows the question, on runs that a fake launcher keeps."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from client_fakes import FakeLauncher, fixed, status, told

from swarmtrain.control import places
from swarmtrain.control.handle import RunHandle
from swarmtrain.control.places import Places
from swarmtrain.errors import ClusterError
from swarmtrain.protocol.codec import dump
from swarmtrain.protocol.evidence.diagnosis import Diagnosis, Observation, Remedy
from swarmtrain.ui import screen
from swarmtrain.ui.cli import cli
from swarmtrain.ui.commands.look.explain import explain

Run = Callable[..., Result]
CAUSE: dict[str, Any] = {
    "rank": 1,
    "node": "lab-2",
    "summary": "ValueError: bad",
    "traceback": "Traceback (...)\n",
}
REASON = "rank 1 on lab-2: ValueError: bad"
KNOWN = Diagnosis(
    run="digits.1",
    code="oom-gpu",
    verdict="rank 1 on lab-2 ran out of GPU memory",
    rank=1,
    node="lab-2",
    evidence=[Observation("torch says so", 1, "lab-2")],
    cause="the batch does not fit",
    sure="likely",
    remedies=[Remedy("Make it smaller.", "swarmtrain run --resume")],
    unseen=["what else was on the GPU"],
)


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> FakeLauncher:
    failed = status(state="failed", reason=REASON, cause=CAUSE)
    fake = FakeLauncher(
        digits_1=fixed(failed, explain=told({"diagnosis": dump(KNOWN), "done": {}})), other_1=fixed(failed)
    )
    monkeypatch.setattr(Places, "open", lambda self, name: fake)
    monkeypatch.setattr(places, "LAUNCHERS", ("local",))
    return fake


@pytest.fixture
def run(launcher: FakeLauncher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Run]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SWARMTRAIN_ON", raising=False)
    yield lambda *words: CliRunner().invoke(cli, words, prog_name="swarmtrain")


def test_what_the_coordinator_says_is_shown_with_its_parts(run: Run) -> None:
    assert run("explain", "digits").stdout == (
        "rank 1 on lab-2 ran out of GPU memory\n\n"
        "  rank 1 on lab-2\n    torch says so\n\n"
        "cause: the batch does not fit (likely)\n\n"
        "try: Make it smaller.\n       swarmtrain run --resume\n\n"
        "not seen: what else was on the GPU\n\n"
        "more of this kind: swarmtrain explain oom-gpu\n"
    )
    assert json.loads(run("explain", "digits", "--json").stdout) == KNOWN.dump()


def test_of_a_version_that_is_not_asked_so_the_client_finds_it_out_itself(run: Run) -> None:
    shown = run("explain", "other").stdout
    assert shown.startswith("rank 1 on lab-2 raised ValueError: bad\n") and "cause: an exception" in shown


def test_a_run_that_never_got_to_its_place_is_explained(run: Run, launcher: FakeLauncher) -> None:
    launcher.kept = [dataclasses.replace(launcher.kept[0], live=False)]
    launcher.coordinators.clear()
    launcher.troubles = (
        "lab-2 has no image me:1 and cannot pull it; push it, or: docker save me:1 | ssh NODE docker load"
    )
    shown = run("explain", "digits").stdout
    assert shown.startswith("digits.1 did not start: lab-2 has no image me:1")
    assert "       docker push me:1\n" in shown
    assert "cause: the registry does not have the image me:1" in run("status", "digits").stdout


def test_of_a_run_that_nobody_knows_nothing_is_claimed(run: Run, launcher: FakeLauncher) -> None:
    launcher.coordinators.clear()
    assert run("explain", "digits").exit_code == ClusterError.exit_code


def test_status_has_the_verdict_in_one_line_where_it_is_news(run: Run) -> None:
    assert "verdict: rank 1 on lab-2 ran out of GPU memory\n" in run("status", "digits").stdout
    assert "verdict: " not in run("status", "other").stdout


def test_a_failed_run_ends_with_its_traceback_and_then_with_what_to_do(run: Run) -> None:
    shown = run("wait", "digits").stderr
    order = ("failed: rank 1 on lab-2: ValueError: bad", "Traceback (...)", "cause: ", "try: ", "not seen: ")
    assert [shown.index(word) for word in order] == sorted(shown.index(word) for word in order)


def test_an_end_is_told_also_where_nobody_can_explain_it(
    run: Run, launcher: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(handle: RunHandle) -> Diagnosis:
        raise ClusterError("the coordinator is gone")

    monkeypatch.setattr(RunHandle, "explain", gone)
    shown = run("wait", "digits")
    assert shown.exit_code == 1 and "Traceback (...)" in shown.stderr and "cause:" not in shown.stderr
    handle = RunHandle(launcher.kept[0], launcher)
    assert screen.diagnosis_of(handle, handle.status()) is None


def test_a_kind_is_told_of_without_asking_anybody(run: Run, launcher: FakeLauncher) -> None:
    shown = run("explain", "disk-full")
    assert shown.stdout.startswith("disk-full: A disk is full\n\n")
    assert json.loads(run("explain", "disk-full", "--json").stdout)["code"] == "disk-full"
    assert not any(each.requests for each in launcher.coordinators.values())


def test_names_and_kinds_are_completed(run: Run) -> None:
    (argument,) = (each for each in explain.params if each.name == "name")
    context = click.Context(explain)
    assert {each.value for each in argument.shell_complete(context, "di")} >= {
        "digits",
        "digits.1",
        "disk-full",
    }
