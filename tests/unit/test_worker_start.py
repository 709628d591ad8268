"""What a request becomes: its environment, its command line, its module path, and whether a fork will do."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from swarmtrain.protocol.codec import Family, dump
from swarmtrain.protocol.spawner import FROM_SPAWNER, TO_SPAWNER, Program, SpawnWorker
from swarmtrain.worker import launch
from swarmtrain.worker.warm import module_path
from swarmtrain.worker.warm.preload import why_cold


def request(kind: str = "script", target: str = "train.py", **fields: Any) -> SpawnWorker:
    order = {"key": "g1-r0", "kind": kind, "target": target, "cwd": "/work", "output": "o", **fields}
    found = TO_SPAWNER.load({"spawn": order})
    assert isinstance(found, SpawnWorker)
    return found


def test_request_has_defaults_for_what_is_not_said() -> None:
    assert request() == SpawnWorker("g1-r0", Program("script", "train.py", (), "/work", ()), "o", {}, "warm")


ORDERS: list[dict[str, Any]] = [
    {
        "spawn": {
            "key": "g1-r0",
            "kind": "module",
            "target": "train",
            "args": ["5"],
            "cwd": "/work",
            "env": {"A": "1"},
            "output": "g1-r0.out",
            "path": ["/bundle.zip"],
            "start": "cold",
        }
    },
    {"stop": {"key": "g1-r0", "grace": 2.5}},
    {"signal": {"key": "g1-r0", "signal": 9}},
    {"ping": {}},
]
TOLD: list[dict[str, Any]] = [
    {"ready": {"torch": "2.13.0", "seconds": 1.25, "error": None}},
    {"started": {"key": "g1-r0", "pid": 70, "start": "cold", "why": "a command is executed"}},
    {"failed": {"key": "g1-r0", "error": "no such file"}},
    {"exited": {"key": "g1-r0", "pid": 70, "code": None, "signal": 9}},
    {"pong": {}},
]


@pytest.mark.parametrize(
    ("family", "messages"), [(TO_SPAWNER, ORDERS), (FROM_SPAWNER, TOLD)], ids=["orders", "told"]
)
def test_what_agent_and_spawner_say_is_read_and_written_as_it_was(
    family: Family[Any], messages: list[dict[str, Any]]
) -> None:
    read = [family.load(message) for message in messages]
    assert [json.loads(json.dumps(dump(message))) for message in read] == messages
    assert [type(message) for message in read] == list(family.kinds)


@pytest.mark.parametrize(
    ("inherited", "fields", "expected"),
    [
        ({"A": "1"}, {}, {"A": "1"}),
        ({"A": "1"}, {"env": {"A": "2", "RANK": "0"}}, {"A": "2", "RANK": "0"}),
        ({"PYTHONPATH": "/old"}, {"path": ["/a", "/b"]}, {"PYTHONPATH": "/a:/b:/old"}),
        (
            {"PYTHONPATH": "/old"},
            {"path": ["/a"], "env": {"PYTHONPATH": "/new:"}},
            {"PYTHONPATH": "/a:/new:"},
        ),
        ({}, {"path": ["/a"]}, {"PYTHONPATH": "/a"}),
        ({"PYTHONPATH": ""}, {}, {"PYTHONPATH": ""}),
    ],
)
def test_environment_is_the_spawners_and_the_workers_own(
    inherited: dict[str, str], fields: dict[str, Any], expected: dict[str, str]
) -> None:
    assert launch.environment_of(request(**fields), inherited) == {**expected, "SWARMTRAIN_WORKER": "g1-r0"}


def test_cold_worker_starts_by_our_entrance_and_a_command_by_its_name() -> None:
    entrance = [sys.executable, "-m", "swarmtrain.inside", "start"]
    args: dict[str, Any] = {"args": ["--lr", "3"]}
    assert launch.cold_command(request(**args).program) == [
        *entrance,
        "/work",
        "script",
        "train.py",
        "--lr",
        "3",
    ]
    assert launch.cold_command(request("module", "pkg.train").program) == [
        *entrance,
        "/work",
        "module",
        "pkg.train",
    ]
    assert launch.cold_command(request("command", "make", **args).program) == ["make", "--lr", "3"]


@pytest.mark.parametrize(
    ("fields", "inherited", "reason"),
    [
        ({}, {}, None),
        ({"kind": "command", "target": "make"}, {}, "a command is executed"),
        ({"env": {"RANK": "0", "CUDA_VISIBLE_DEVICES": "1", "PYTHONPATH": "/x"}}, {}, None),
        ({"env": {"PYTHONHASHSEED": "0"}}, {}, "PYTHONHASHSEED is read when a process starts"),
        ({"env": {"OMP_NUM_THREADS": "2"}}, {"OMP_NUM_THREADS": "1"}, "OMP_NUM_THREADS is read"),
        ({"env": {"OMP_NUM_THREADS": "2"}}, {"OMP_NUM_THREADS": "2"}, None),
        ({"env": {"TORCH_COMPILE_DISABLE": "1"}}, {}, "TORCH_COMPILE_DISABLE is read"),
    ],
)
def test_fork_is_refused_where_only_a_fresh_process_does(
    fields: dict[str, Any], inherited: dict[str, str], reason: str | None
) -> None:
    why = why_cold(request(**fields), inherited)
    assert why == reason if reason is None else reason in str(why)


def test_module_path_follows_pythonpath_as_it_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text("")
    (tmp_path / "train.py").symlink_to("code/train.py")
    monkeypatch.setenv("PYTHONPATH", "a:/b:./a")
    entries = [f"{tmp_path}/a", "/b"]
    assert module_path.of_program(Program("script", "train.py"))[:3] == [f"{tmp_path}/code", *entries]
    assert module_path.of_program(Program("module", "train"))[:3] == [str(tmp_path), *entries]
    monkeypatch.delenv("PYTHONPATH")
    assert not set(entries) & set(module_path.of_program(Program("module", "train")))


def test_a_worker_for_which_there_is_no_process_is_refused_and_leaves_all_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As at a container's limit of processes: the spawner, and the workers that it has, go on."""

    def fork() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, []), set(Path("/proc/self/fd").iterdir())
    with pytest.raises(launch.CannotLaunch, match="no process can be made for it: Resource temporarily"):
        launch.launch(request(), warm=False, close=lambda: None)
    assert (signal.pthread_sigmask(signal.SIG_BLOCK, []), set(Path("/proc/self/fd").iterdir())) == before
