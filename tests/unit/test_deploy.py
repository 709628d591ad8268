"""The deployment of a stack: how its parts reach docker, and what is left of one that is interrupted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

import pytest

from swarmtrain.docker.command import Docker
from swarmtrain.errors import ClusterError
from swarmtrain.launchers.swarm import SwarmLauncher, scratch, stacks
from swarmtrain.launchers.swarm.stacks import Stack
from swarmtrain.payload.code import Code
from swarmtrain.swarm.placement import Placement
from swarmtrain.swarm.plan import Plan
from swarmtrain.wire.run_spec import RunSecret

PLAN = Plan("version: 3", {"code-00": b"code"}, cast(Placement, None), (), cast(Code, None), "digits")
SECRET = RunSecret("digits.3", "a-token")


def test_docker_reads_the_secret_though_no_file_holds_it(tmp_path: Path) -> None:
    """Whoever is killed meanwhile leaves every file that there is."""
    script = tmp_path / "docker"
    script.write_text(
        f"""#!/bin/sh
cd "$(dirname "$7")"
ls > {tmp_path}/seen
cp secret {tmp_path}/secret
grep -rl a-token . > {tmp_path}/leaking < /dev/null
true
"""
    )
    script.chmod(0o755)
    docker = Docker(env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    Stack(docker, "digits-3").deploy(PLAN, SECRET)
    assert (tmp_path / "seen").read_text().split() == ["code-00", "secret", "stack.yml"]
    assert RunSecret.load(tmp_path / "secret") == SECRET
    assert (tmp_path / "leaking").read_text() == ""


KILLED = """
import os, sys
from swarmtrain.launchers.swarm import scratch
with scratch.directory() as directory:
    (directory / "code-00").write_bytes(b"code")
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_client_leaves_goes_with_the_next_one_and_nothing_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    subprocess.run([sys.executable, "-c", KILLED], env=os.environ | {"TMPDIR": str(tmp_path)}, check=False)
    (left,) = tmp_path.iterdir()
    assert [each.name for each in left.iterdir()] == ["code-00"]
    is_open, is_link = (left.with_name(left.name + end) for end in ("open", "link"))
    is_open.mkdir()
    is_open.chmod(0o755)
    is_link.symlink_to("/")
    with scratch.directory() as held:
        SwarmLauncher(Interrupted()).runs()
        assert set(tmp_path.iterdir()) == {held, is_open, is_link}
    assert set(tmp_path.iterdir()) == {is_open, is_link}


class Interrupted(Docker):
    """A Swarm in which a stack is deployed when somebody presses Ctrl-C."""

    def __init__(self, *kept: str) -> None:
        super().__init__()
        self.kept, self.calls = kept, list[tuple[str, ...]]()

    def completed(self, *args: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        self.calls.append(args[:2])
        answer = ""
        match args:
            case ["stack", "deploy", *_]:
                raise KeyboardInterrupt
            case ["service", "ls", *_]:
                answer = "".join(f"{name}\n" for name in self.kept)
            case ["inspect", _, "service", *_]:
                answer = json.dumps([service(name) for name in self.kept])
        return subprocess.CompletedProcess(args, 0, answer.encode(), b"")


def service(name: str) -> dict[str, Any]:
    """A service as Docker inspects it."""
    return {"ID": name, "Spec": {"Name": name, "TaskTemplate": {}}, "CreatedAt": "2026-01-31T09:30:00Z"}


@pytest.mark.parametrize(("kept", "removed"), [((), True), (("digits-3_agent",), False)])
def test_what_nobody_could_find_of_a_deployment_that_is_interrupted_goes(
    kept: tuple[str, ...], *, removed: bool
) -> None:
    swarm = Interrupted(*kept)
    with pytest.raises(KeyboardInterrupt):
        Stack(swarm, "digits-3").deploy(PLAN, SECRET)
    assert (("stack", "rm") in swarm.calls) is removed


class Busy(Interrupted):
    """An engine that hangs up on some of the questions what is left of a stack that is being removed."""

    def __init__(self, hung_up: int) -> None:
        super().__init__()
        self.hung_up = hung_up

    def completed(self, *args: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        if args[:2] == ("network", "ls") and self.hung_up:
            self.hung_up -= 1
            return subprocess.CompletedProcess(args, 1, b"", b"error during connect: EOF")
        return super().completed(*args, **options)


def test_an_engine_that_hangs_up_once_does_not_end_a_removal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "_POLL_SECONDS", 0.0)
    docker = Busy(2)
    Stack(docker, "digits-3").remove()
    assert docker.hung_up == 0 and docker.calls.count(("stack", "rm")) == 3
    monkeypatch.setattr(stacks, "_GONE_SECONDS", -1.0)
    with pytest.raises(ClusterError, match="does not answer"):
        Stack(Busy(100), "digits-3").remove()
