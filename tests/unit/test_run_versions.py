"""What a run is made of, as another version of swarmtrain reads it: refused in a sentence, and not tried for ever."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from swarmtrain.errors import ChannelError
from swarmtrain.wire import frames, names
from swarmtrain.wire.run_spec import RunSecret, RunSpec
from swarmtrain.wire.sockets import UNIX

SPEC = RunSpec(name="t", kind="script", target="t.py")
REFUSED = "holds a run spec of a newer version of swarmtrain: this one knows no priority, queue"


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """Of a process on a node, whose run was submitted by a version whose spec has more keys."""
    newer = json.loads(SPEC.dump()) | {"priority": 3, "queue": "night"}
    (tmp_path / "job.json").write_text(json.dumps(newer))
    (tmp_path / "secret").write_text(RunSecret("t.1", "token").dump())
    return {
        names.ENV_JOB_FILE: str(tmp_path / "job.json"),
        names.ENV_SECRET_FILE: str(tmp_path / "secret"),
        names.ENV_STORAGE: str(tmp_path),
        names.ENV_NODE: "node0",
        names.ENV_COORDINATOR: f"{UNIX}{tmp_path / 'agents'}",
    }


def start(what: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "swarmtrain.inside", what]
    return subprocess.run(argv, env=os.environ | variables, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize(
    ("what", "code", "prefix"),
    [("coordinator", 0, ""), ("agent", 3, "error: ")],
    ids=["a coordinator rests", "an agent"],
)
def test_a_run_of_a_newer_version_is_refused_in_a_sentence(
    variables: dict[str, str], tmp_path: Path, what: str, code: int, prefix: str
) -> None:
    done = start(what, variables)
    assert done.returncode == code
    assert done.stderr.splitlines() == [
        f"{prefix}{tmp_path / 'job.json'} {REFUSED}",
        "",
        "hint: start and read it with the version that submitted it",
    ]


def test_an_archive_of_a_newer_version_says_so_to_whoever_asks(
    variables: dict[str, str], tmp_path: Path
) -> None:
    place = tmp_path / "runs" / "t.1" / "coordinator"
    place.mkdir(parents=True)
    (tmp_path / "job.json").rename(place / "job.json")
    (tmp_path / "secret").rename(place / names.SECRET_ON_LOCAL)
    asked = frames.pack({"op": "status", "swarmtrain": names.PROTOCOL_VERSION})
    argv = [sys.executable, "-m", "swarmtrain.inside", "connect", str(place)]
    done = subprocess.run(argv, input=asked, capture_output=True, timeout=60)
    reply = frames.unpack(done.stdout[4:])
    assert REFUSED in str(reply["error"]) and "with the version that submitted it" in str(reply["hint"])
    assert (reply["exit"], done.returncode, done.stderr) == (3, 0, b"")


def test_a_spec_of_a_version_that_had_fewer_keys_is_read(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text('{"name": "t", "kind": "script", "target": "t.py"}')
    assert RunSpec.load(tmp_path / "job.json") == SPEC


@pytest.mark.parametrize("text", ["", "[]", "{", '{"name": "t"}', "null"])
def test_what_is_no_spec_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(ChannelError, match=r"job\.json holds no run spec that this version can read: "):
        RunSpec.load(tmp_path / "job.json")
