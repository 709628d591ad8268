"""The record of a run that was refused: kept as a config of its own, found and removed by the swarm launcher."""

from __future__ import annotations

import base64
import json
import subprocess
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


def test_a_record_of_a_version_that_says_more_is_read() -> None:
    record = records.RefusedRun("digits", 1, "no room", 0.0)
    assert (
        records.RefusedRun.load(json.dumps({**json.loads(record.dump()), "colour": "red"}).encode()) == record
    )
