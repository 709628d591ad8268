"""What is said of a run that fails for a file which lies here and did not travel."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmtrain.control.views.left_behind import explained
from swarmtrain.job import Job, LoadedJob
from swarmtrain.job.origin import Origin
from swarmtrain.launchers.base import Run
from swarmtrain.protocol.status import Cause, Directories, Status

WORK = "/swarmtrain/data/train.1/lab-1/work"
NOT_FOUND = "FileNotFoundError: [Errno 2] No such file or directory: "


@pytest.fixture
def job(tmp_path: Path) -> Path:
    for name in ("job/data/train.bin", "data/train.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path / "job"


def hint(
    job: Path, summary: str, on: str = "swarm", host: str = "", known: str = "", traceback: str = ""
) -> str:
    origin = Origin.of(LoadedJob(Job(script="train.py"), job))
    origin = Origin(host or origin.host, origin.directory, origin.cwd)
    cause = Cause(
        kind="exception", node="lab-1", time=0.0, summary=summary, rank=0, hint=known, traceback=traceback
    )
    directories = {"lab-1": Directories(WORK, "")}
    status = Status(
        run="train.1", job="train", target="train.py", state="failed", cause=cause, directories=directories
    )
    told = explained(status, Run("train", 1, on, origin=origin)).cause
    assert told is not None
    return told.hint


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("data/train.bin", "job/data/train.bin"),
        ("../data/train.csv", "data/train.csv"),
        (f"{WORK}/data/../data/train.bin", "job/data/train.bin"),
        (f"{WORK}/../data/train.csv", "data/train.csv"),
        ("HERE/data/train.csv", "data/train.csv"),
    ],
)
def test_a_file_that_lies_here_is_named_with_what_to_do(job: Path, path: str, place: str) -> None:
    here = str(job.parent)
    said = hint(job, f"{NOT_FOUND}'{path.replace('HERE', here)}'")
    if place.startswith("job/"):
        assert said == (
            f"{here}/{place} is here, but it was not sent: `swarmtrain run --dry-run` says why. "
            "Name it under files:, or put it on every node and mount it (volumes:)"
        )
    else:
        assert said.startswith(
            f"{here}/{place} is here, but it lies outside of {job}, and only what is in it is sent"
        )
        assert said.endswith("or put it on every node and mount it (volumes:)")
    local = hint(job, f"{NOT_FOUND}'{path.replace('HERE', here)}'", on="local")
    assert local.endswith("or give the script its absolute path")


# What libraries said of data/train.bin, which was not there: each line was printed by the version that it names.
SEEN = [
    line.split("\t")
    for line in (Path(__file__).parent / "fixtures" / "missing_files.tsv").read_text().splitlines()
]


@pytest.mark.parametrize("summary", [words for _, words in SEEN], ids=[library for library, _ in SEEN])
def test_the_words_of_libraries_are_understood(job: Path, summary: str) -> None:
    assert f"{job}/data/train.bin is here" in hint(job, summary.replace("WORK", WORK))


@pytest.mark.parametrize(
    "summary",
    [
        f'{NOT_FOUND}"data/train.bin"',
        f"{NOT_FOUND}'data/train.bin' -> 'x'",
        "NotADirectoryError: [Errno 20] Not a directory: 'data/train.bin'",
        "RuntimeError: data not found at data/train.bin. Set download=True",
        "OSError: data/train.bin is not a local folder and is not a valid model identifier",
        "SystemExit: cannot read data/train.bin",
    ],
)
def test_and_so_are_those_of_scripts(job: Path, summary: str) -> None:
    assert f"{job}/data/train.bin is here" in hint(job, summary)


def test_a_file_that_a_process_lacks_which_loads_data_is_named(job: Path) -> None:
    summary = "FileNotFoundError: Caught FileNotFoundError in DataLoader worker process 0."
    traceback = f"""\
Traceback (most recent call last):
  File "train.py", line 9, in <module>
{summary}
Original Traceback (most recent call last):
  File "data/train.bin", line 3, in __getitem__
{NOT_FOUND}'../data/train.csv'
"""
    assert f"{job.parent}/data/train.csv is here" in hint(job, summary, traceback=traceback)


def test_a_path_of_this_machine_is_no_path_of_a_node(job: Path) -> None:
    said = hint(job, f"{NOT_FOUND}'{job}/data/train.bin'")
    assert f"{job}/data/train.bin is a path of this machine" in said and "name it by data/train.bin" in said


@pytest.mark.parametrize(
    ("summary", "more"),
    [
        (f"{NOT_FOUND}'data/none.bin'", {}),
        (f"{NOT_FOUND}'data/train.bin'", {"host": "elsewhere"}),
        ("ValueError: no 'data/train.bin'", {}),
        ("FileNotFoundError: nothing", {}),
        (f"{NOT_FOUND}'HERE'", {}),
        (f"{NOT_FOUND}'../..'", {}),
        (f"{NOT_FOUND}'data/\0'", {}),
    ],
)
def test_where_nothing_is_known_nothing_is_said(job: Path, summary: str, more: dict[str, str]) -> None:
    assert hint(job, summary.replace("HERE", str(job)), **more) == ""


def test_a_hint_of_the_coordinator_stays(job: Path) -> None:
    assert hint(job, f"{NOT_FOUND}'data/train.bin'", known="do this") == "do this"
