"""The record of a run that was refused: kept as a config of its own, found and removed by the swarm launcher."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from swarmtrain.docker.command import Docker
from swarmtrain.errors import ClusterError
from swarmtrain.job.origin import Origin
from swarmtrain.launchers.base import Run
from swarmtrain.launchers.swarm import SwarmLauncher
from swarmtrain.swarm import records

ORIGIN = Origin("alice", "/home/alice/digits", "/home/alice", ("--image", "me:1", "train.py"))
RECORD = records.RefusedRun("digits", 3, "bob has no image me:1", 1000.5, ORIGIN)


class Swarm(Docker):
    """A Swarm that holds configs and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.configs: dict[str, tuple[str, bytes]] = {}  # label and data by name

    def completed(self, *args: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        code, answer = 0, ""
        match args:
            case ["config", "create", "--label", label, name, "-"]:
                self.configs[name] = (label, options["input"])
            case ["config", "ls", "--quiet", "--filter", wanted]:
                key = wanted.removeprefix("label=")
                answer = "\n".join(name for name, (label, _) in self.configs.items() if label.startswith(key))
            case ["config", "rm", name]:
                code = 0 if self.configs.pop(name, None) else 1
            case ["inspect", "--type", "config", *names]:
                data = [base64.b64encode(self.configs[name][1]).decode() for name in names]
                answer = json.dumps([{"Spec": {"Data": each}} for each in data])
        return subprocess.CompletedProcess(args, code, answer.encode(), b"")


def test_a_refused_run_is_kept_with_its_reason_until_it_is_removed() -> None:
    swarm = Swarm()
    launcher = SwarmLauncher(swarm)
    records.write(swarm, "digits-3", RECORD)
    assert records.read(swarm) == [RECORD]
    (run,) = launcher.runs()
    assert (run.id, run.live, run.refused, run.created, run.origin) == (
        "digits.3",
        False,
        True,
        1000.5,
        ORIGIN,
    )
    assert launcher.trouble(run).text == "bob has no image me:1"
    assert not launcher.trouble(Run("digits", 2, "swarm", live=False))
    launcher.remove(run)
    assert (swarm.configs, launcher.runs()) == ({}, [])
    with pytest.raises(ClusterError, match="there is no stack digits-3"):
        launcher.remove(run)


def test_a_run_whose_origin_nobody_wrote_down_has_none() -> None:
    record = records.RefusedRun("digits", 1, "no room", 0.0)
    assert records.RefusedRun.load(record.dump()) == record


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
    tmp_path: Path, kept: tuple[str, ...], *, removed: bool
) -> None:
    swarm = Interrupted(*kept)
    with pytest.raises(KeyboardInterrupt):
        SwarmLauncher(swarm)._deploy(tmp_path / "stack.yml", Run("digits", 3, "swarm"))
    assert (("stack", "rm") in swarm.calls) is removed


def test_a_record_of_a_version_that_says_more_is_read() -> None:
    record = records.RefusedRun("digits", 1, "no room", 0.0)
    assert (
        records.RefusedRun.load(json.dumps({**json.loads(record.dump()), "colour": "red"}).encode()) == record
    )
