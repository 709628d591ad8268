"""A run that is killed because its coordinator stays silent: what docker is told, and what is in its journal then."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, cast

import pytest

from swarmtrain.control.handle import RunHandle
from swarmtrain.docker.command import Docker
from swarmtrain.launchers.base import Run
from swarmtrain.launchers.docker import DockerLauncher
from swarmtrain.launchers.swarm import SwarmLauncher
from swarmtrain.protocol.journal.events import Ended
from swarmtrain.protocol.journal.lines import read_events
from swarmtrain.swarm import records, tasks
from swarmtrain.wire import names
from swarmtrain.wire.machine.processes import descendants, kill_all
from swarmtrain.wire.run_spec import RunSecret, RunSpec
from swarmtrain.wire.sockets import UNIX

WHY = "killed by a person"


LEAD = """
import os, sys
from swarmtrain.coordinator.main import main
from swarmtrain.wire import names
for name in ("SOCKET", "LEFT", "KILLED"):
    setattr(names, name, os.path.join(os.environ[names.ENV_STORAGE], name))
sys.exit(main([]))
"""


@pytest.mark.parametrize(("told", "begun"), [("by a variable", True), ("by a file", False)])
def test_the_coordinator_of_a_killed_run_begins_by_writing_down_its_end(
    tmp_path: Path, told: str, begun: bool
) -> None:
    (tmp_path / "job.json").write_text(RunSpec(name="t", kind="script", target="t.py", linger=0.0).dump())
    (tmp_path / "secret").write_text(RunSecret("t.1", "token").dump())
    env = os.environ | {
        names.ENV_JOB_FILE: str(tmp_path / "job.json"),
        names.ENV_SECRET_FILE: str(tmp_path / "secret"),
        names.ENV_STORAGE: str(tmp_path),
        names.ENV_COORDINATOR: f"{UNIX}{tmp_path / 'agents'}",
    }
    argv = [sys.executable, "-c", LEAD]
    if begun:
        with subprocess.Popen(argv, env=env, stderr=subprocess.PIPE) as leading:
            assert leading.stderr is not None and b"coordinator of t.1" in leading.stderr.readline()
            kill_all(descendants(leading.pid))  # its init ends with it, as in a container
    if told == "by a variable":
        env[names.ENV_KILLED] = WHY
    else:
        (tmp_path / "KILLED").write_text(WHY)
    for _ in range(2):  # also when it is started again to be asked
        assert subprocess.run(argv, env=env, timeout=20).returncode == 0
    events = read_events(tmp_path / "runs" / "t.1" / "coordinator" / "journal.jsonl")
    assert [event.kind for event in events] == ["submitted", "ended"]
    ended = events[-1]
    assert isinstance(ended, Ended) and (ended.outcome.value, ended.reason) == ("stopped", WHY)
    assert json.loads((tmp_path / "LEFT").read_text())["state"] == "stopped"


class Engine(Docker):
    """A docker that inspects what it is given, and writes down what it is told to do."""

    def __init__(self, *inspected: dict[str, Any]) -> None:
        super().__init__()
        self.inspected = inspected
        self.told: list[tuple[str, ...]] = []
        self.input = b""

    def completed(self, *args: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        ids = "\n".join(str(each.get("Id", each.get("ID"))) for each in self.inspected)
        answer = json.dumps(self.inspected) if args[0] == "inspect" else ids
        if args[0] != "inspect" and "--quiet" not in args:
            self.told.append(args)
            self.input += options.get("input") or b""
        return subprocess.CompletedProcess(args, 0, answer.encode(), b"")


def container(role: str, status: str, code: int = 0) -> dict[str, Any]:
    state = {"Status": status, "ExitCode": code, "Error": ""}
    return {"Id": role, "State": state, "Config": {"Labels": {names.LABEL_ROLE: role}}}


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("paused", 0, ["kill coordinator agent", "cp - coordinator:/", "start coordinator"]),
        ("exited", 1, ["kill agent", "cp - coordinator:/", "start coordinator"]),
        ("exited", 0, ["kill agent"]),  # it has gone some time after the end
    ],
)
def test_on_docker_the_coordinator_is_started_again_to_write_down_the_end(
    status: str, code: int, expected: list[str]
) -> None:
    engine = Engine(container("agent", "running"), container("coordinator", status, code))
    DockerLauncher(engine).kill(Run("digits", 1, "docker"))
    assert [" ".join(args) for args in engine.told] == expected
    if engine.input:
        with tarfile.open(fileobj=io.BytesIO(engine.input)) as archive:
            assert cast(Any, archive.extractfile(names.KILLED.lstrip("/"))).read() == WHY.encode()


class Manager(Engine):
    """A manager of a Swarm, at half past nine."""

    def json_lines(self, *args: str, timeout: float | None = None) -> list[dict[str, Any]]:
        return [{"SystemTime": "2026-01-31T09:30:00Z"}]


NINE_THIRTY = 1769851800
MARKS = {names.LABEL_KILLED: WHY, names.LABEL_ENDED: f"{NINE_THIRTY}"}


def services(replicas: int, **labels: str) -> list[dict[str, Any]]:
    ours = {"com.docker.stack.namespace": "digits-1", names.LABEL_JOB: "digits"}
    return [
        {
            "ID": role,
            "CreatedAt": "2026-01-31T09:00:00Z",
            "Spec": {
                "Name": f"digits-1_{role}",
                "Labels": ours | {names.LABEL_ROLE: role} | (labels if role == "coordinator" else {}),
                "Mode": {"Replicated": {"Replicas": replicas if role == "agent" else 1}},
                "TaskTemplate": {},
            },
        }
        for role in ("agent", "coordinator")
    ]


def test_on_a_swarm_the_coordinator_is_started_again_to_write_down_the_end() -> None:
    engine = Manager(*services(2))
    SwarmLauncher(engine).kill(Run("digits", 1, "swarm"))
    scale = ("service", "scale", "--detach", "digits-1_agent=0")
    told = ["--env-add", f"{names.ENV_KILLED}={WHY}"]
    told += [word for key, value in MARKS.items() for word in ("--label-add", f"{key}={value}")]
    assert engine.told == [("service", "update", "--detach", *told, "digits-1_coordinator"), scale]
    again = Manager(*services(2, **MARKS))
    SwarmLauncher(again).kill(Run("digits", 1, "swarm"))
    assert again.told == [scale]


def test_of_a_killed_run_the_swarm_tells_while_the_machine_of_its_coordinator_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(records, "read", lambda docker: [])
    monkeypatch.setattr(tasks, "resting", lambda docker, services: ())
    monkeypatch.setattr(tasks, "read", lambda docker, stack: [])
    launcher = SwarmLauncher(Manager(*services(0, **MARKS)))
    (run,) = launcher.runs()
    status = RunHandle(run, launcher).status()
    assert (status.state, status.reason, status.ended) == ("stopped", WHY, NINE_THIRTY)
    assert RunHandle(run, launcher).is_live() is False
