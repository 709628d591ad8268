"""The command line with real processes: runs on this machine, Ctrl-C, files, and Docker that is not there."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from swarmtrain import Client, Job

SWARMTRAIN = str(Path(sys.executable).with_name("swarmtrain"))
DEAD = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}

COUNT = """\
import sys, time
for number in range(int(sys.argv[1])):
    print("tick", number, flush=True)
    time.sleep(0.1)
"""
STUBBORN = (
    "import signal, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nsys.argv[1:] = ['600']\n" + COUNT
)
BROKEN = """\
import os, sys, time
sys.stdout.buffer.write(b"caf\\xc3\\xa9 \\xff [red]plain[/red]\\n")
sys.stdout.flush()
def load(shard):
    raise ValueError(f"shard {shard} is damaged")
if os.environ["RANK"] == "1":
    load(7)
time.sleep(60)
"""

Shell = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARMTRAIN_ON", "local")
    for name, text in {"count": COUNT, "stubborn": STUBBORN, "broken": BROKEN}.items():
        (tmp_path / f"{name}.py").write_text(text)


def sh(*words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command line to its end."""
    argv = [SWARMTRAIN, *words]
    return subprocess.run(
        argv, capture_output=True, timeout=120, env={**os.environ, **environment}, check=False
    )


class Attached:
    """A command line that is still running, whose output is read until a word comes."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen([SWARMTRAIN, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def read_until(self, word: bytes) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if word in line:
                return
        raise AssertionError(f"{word!r} did not come: {self.process.communicate()[1].decode()}")

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, bytes, bytes]:
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


def alive(text: str) -> list[str]:
    """The processes of this machine whose command line or environment names ``text``."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            environment = (entry / "environ").read_bytes() if entry.name.isdigit() else b""
            if text.encode() in environment and b"swarmtrain" in (entry / "cmdline").read_bytes():
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


# ---- an attached run -------------------------------------------------------------------------------------------------


def test_a_run_shows_every_rank_and_ends_with_its_exit_code() -> None:
    done = sh("run", "-j", "2x1", "count.py", "3")
    assert done.returncode == 0, done.stderr.decode()
    expected = sorted(f"[{rank}] tick {number}" for rank in (0, 1) for number in range(3))
    assert sorted(done.stdout.decode().splitlines()) == expected
    words = done.stderr.decode()
    assert "swarmtrain: on local, as asked" in words
    assert "swarmtrain: generation 1: 2 ranks on node0, node1" in words
    assert "count.1 succeeded in" in words
    assert b"\x1b" not in done.stdout + done.stderr


def test_a_failure_ends_with_the_root_cause_and_where_the_rest_is() -> None:
    done = sh("run", "-j", "2x1", "broken.py")
    assert done.returncode == 1
    assert b"[1] caf\xc3\xa9 \xff [red]plain[/red]\n" in done.stdout
    last = done.stderr.decode().partition("\nerror: ")[2]
    assert last.startswith(
        "broken.1 failed: rank 1 on node1: ValueError: shard 7 is damaged\n\nTraceback (most"
    )
    assert '    load(7)\n  File "' in last
    assert last.endswith("\n\nhint: swarmtrain logs broken.1 --rank 1 has the whole output\n")
    assert last.count("Traceback") == 1
    again = sh("wait", "broken")
    assert (again.returncode, again.stderr.decode()) == (1, f"error: {last}")


def test_ctrl_c_stops_a_run_on_this_machine_and_shows_its_last_words() -> None:
    run = Attached("run", "-j", "2x1", "count.py", "600")
    run.read_until(b"tick 2")
    run.interrupt()
    code, _, words = run.end()
    assert code == 130
    assert b"swarmtrain: stopping count.1 (Ctrl-C again kills it)" in words
    assert b"count.1 stopped in" in words
    assert json.loads(sh("status", "count", "--json").stdout)["state"] == "stopped"
    assert sh("wait", "count").returncode == 4


def test_a_second_ctrl_c_kills_and_goes_at_once(tmp_path: Path) -> None:
    run = Attached("run", "--stop-grace", "4s", "stubborn.py")
    run.read_until(b"tick 2")
    run.interrupt()
    time.sleep(0.5)
    run.interrupt()
    begin = time.monotonic()
    code, _, words = run.end()
    assert code == 130 and time.monotonic() - begin < 20
    assert b"swarmtrain: killing stubborn.1" in words
    limit = time.monotonic() + 10
    while (left := alive(str(tmp_path / "home"))) and time.monotonic() < limit:
        time.sleep(0.1)
    assert left == []


def test_a_closed_pipe_is_no_error() -> None:
    line = f"set -o pipefail; {shlex.quote(SWARMTRAIN)} run count.py 20 | head -n 1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, b"[0] tick 0\n")
    assert b"Traceback" not in done.stderr and b"count.1 goes on" in done.stderr


# ---- a detached run --------------------------------------------------------------------------------------------------


def test_a_detached_run_is_looked_at_reached_into_stopped_and_removed(tmp_path: Path) -> None:
    started = sh("run", "-d", "-j", "2x1", "count.py", "600")
    assert (started.returncode, started.stdout) == (0, b"count.1\n")

    refused = sh("run", "count.py", "1")
    assert refused.returncode == 3
    assert b"error: count.1 is still running\n\nhint: stop it with `swarmtrain stop count`" in refused.stderr

    look = Attached("attach", "count")
    look.read_until(b"tick 3")
    look.interrupt()
    code, _, words = look.end()
    assert code == 130
    assert b"left count.1, which goes on" in words and b"swarmtrain attach count.1" in words

    assert [row.split()[:4] for row in sh("ps").stdout.decode().splitlines()[1:]] == [
        ["count.1", "running", "0", "local"]
    ]
    inside = sh("exec", "count", "1", "--", "sh", "-c", "pwd; exit 5")
    assert inside.returncode == 5 and inside.stdout.strip().endswith(b"node1/work")
    assert sh("logs", "count", "--rank", "1", "--tail", "1").stdout.startswith(b"[1] tick ")
    assert sh("wait", "count", "--timeout", "1").returncode == 3
    assert sh("rm", "count").returncode == 3

    assert sh("stop", "count").returncode == 0
    assert sh("ps").stdout == b""
    fetched = sh("fetch", "count", "count.py", "--node", "node1", "-o", "got.py")
    assert fetched.returncode == 0, fetched.stderr.decode()
    assert (tmp_path / "got.py").read_text() == COUNT
    assert b"stopped by a person" in sh("events", "count").stdout

    assert sh("rm", "count").returncode == 0
    assert sh("ps", "-a").stdout == b""
    assert not list((tmp_path / "home").glob("*/count*"))


def test_replace_and_resume(tmp_path: Path) -> None:
    assert sh("run", "-d", "count.py", "600").stdout == b"count.1\n"
    (tmp_path / "count.py").write_text("open('mark', 'w').write('x')\n")
    replaced = sh("run", "--replace", "count.py")
    assert replaced.returncode == 0, replaced.stderr.decode()
    assert b"stopping count.1 first" in replaced.stderr
    (tmp_path / "count.py").write_text("print(open('mark').read())\n")
    resumed = sh("run", "--resume", "count.py")
    assert (resumed.returncode, resumed.stdout) == (0, b"[0] x\n"), resumed.stderr.decode()


# ---- Docker that is not there ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("on", ["swarm", "docker"])
def test_a_docker_that_does_not_answer_is_one_error(on: str) -> None:
    done = sh("run", "--on", on, "--image", "x:1", "count.py", "1", **DEAD)
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr.endswith(
        b"error: the Docker daemon does not answer\n\nhint: start it (sudo systemctl start docker), "
        b"or point DOCKER_HOST or DOCKER_CONTEXT at one that runs\n"
    )


@pytest.mark.parametrize("on", ["swarm", "docker"])
def test_a_docker_that_is_not_installed_is_one_error(on: str, tmp_path: Path) -> None:
    done = sh("run", "--on", on, "--image", "x:1", "count.py", "1", PATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"error: the docker command is not installed\n\nhint: install Docker Engine" in done.stderr


def test_without_docker_a_run_is_here_and_says_why(tmp_path: Path) -> None:
    done = sh("run", "count.py", "1", SWARMTRAIN_ON="", PATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, b"[0] tick 0\n"), done.stderr.decode()
    assert (
        b"swarmtrain: on local (processes on this machine): the docker command is not installed\n"
        in done.stderr
    )


def test_a_docker_that_is_pointed_at_is_never_left_out_silently() -> None:
    done = sh("run", "count.py", "1", SWARMTRAIN_ON="", **DEAD)
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr.startswith(
        b"error: DOCKER_HOST is unix:///nowhere/docker.sock, but the Docker daemon does not answer\n\nhint: "
    )
    assert done.stderr.endswith(b"to train on this machine: --on local\n")
    listed = sh("ps", SWARMTRAIN_ON="", **DEAD)
    assert listed.returncode == 0
    assert listed.stderr.startswith(b"warning: Docker was not asked for runs: DOCKER_HOST is unix:///nowhere")


def test_named_nodes_are_never_run_here_silently() -> None:
    done = sh("run", "--nodes", "lab-1,lab-2", "count.py", "1", SWARMTRAIN_ON="", **DEAD)
    assert done.returncode == 3
    assert done.stderr.startswith(
        b"error: the job names nodes (lab-1, lab-2), but the Docker daemon does not answer\n\nhint: "
    )


def test_a_storage_that_cannot_be_written_is_one_error() -> None:
    done = sh("run", "count.py", "1", SWARMTRAIN_HOME="/proc/nowhere")
    assert done.returncode == 3
    assert b"Traceback" not in done.stderr and b"error: /proc/nowhere" in done.stderr


def test_a_coordinator_that_cannot_start_fails_within_seconds(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$1" = -c ] && exit 0\necho no such luck >&2\nexit 9\n')
    python.chmod(0o755)
    begin = time.monotonic()
    done = sh("run", "--python", str(python), "count.py", "1")
    assert done.returncode == 3
    assert b"count.1 cannot start: the coordinator ended: no such luck" in done.stderr
    assert time.monotonic() - begin < 20


# ---- from Python -----------------------------------------------------------------------------------------------------


def test_every_flag_of_the_torchrun_that_is_here_is_taken() -> None:
    from torch.distributed.run import get_args_parser

    from swarmtrain.ui.commands.run import run

    ours = {word for option in run.params for word in (*option.opts, *option.secondary_opts)}
    for action in get_args_parser()._actions:
        spellings = {
            "-" * (1 + (len(word) > 2)) + word.strip("-").replace("_", "-") for word in action.option_strings
        }
        assert spellings <= ours | {"-h", "--help"}


def test_the_api_runs_waits_and_removes(tmp_path: Path) -> None:
    client = Client("local")
    handle = client.run(Job(script="count.py", args=["3"], nodes=2))
    assert handle.id == "count.1"
    result = handle.wait(timeout=60)
    assert result.check().exit_code == 0
    texts = [line.text for batch in handle.logs() for line in batch]
    assert sorted(texts) == sorted(["tick 0", "tick 1", "tick 2"] * 2)
    assert next(handle.events()).kind == "submitted"
    assert client.get("count").id == "count.1"
    handle.remove()
    assert client.runs() == []
