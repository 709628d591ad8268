"""Flags in three spellings: ours, torchrun's, TorchX's."""

from __future__ import annotations

from typing import Any

import pytest

from swarmtrain.job import Override, overrides_from_flags
from swarmtrain.job.flags import FLAGS
from swarmtrain.job.spec import KEYS


def values(**flags: Any) -> dict[str, Any]:
    overrides = overrides_from_flags(**flags)
    assert not [override.mistake for override in overrides.values() if override.mistake]
    return {key: override.value for key, override in overrides.items()}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, {}),
        ({"nodes": None, "args": (), "env": (), "volume": []}, {}),
        ({"nodes": "3"}, {"nodes": 3}),
        ({"nodes": 3}, {"nodes": 3}),
        ({"nodes": "2..4"}, {"nodes": "2..4"}),
        ({"nodes": "a, b,c"}, {"nodes": ["a", "b", "c"]}),
        ({"nodes": "a"}, {"nodes": ["a"]}),
        ({"nnodes": "3"}, {"nodes": 3}),
        ({"nnodes": "2:4"}, {"nodes": "2..4"}),
        ({"nproc_per_node": "2"}, {"workers_per_node": 2}),
        ({"nproc_per_node": "auto"}, {"workers_per_node": "auto"}),
        ({"nproc_per_node": "gpu"}, {"workers_per_node": "auto"}),
        ({"j": "3x1"}, {"nodes": 3, "workers_per_node": 1}),
        ({"j": "2:4xgpu"}, {"nodes": "2..4", "workers_per_node": "auto"}),
        ({"j": "2..4x2"}, {"nodes": "2..4", "workers_per_node": 2}),
        ({"j": "2..4"}, {"nodes": "2..4"}),
        ({"j": "2:4"}, {"nodes": "2..4"}),
        ({"nproc_per_node": "cpu"}, {"workers_per_node": "cpu"}),
        ({"rdzv_conf": "timeout=90,join_timeout=60"}, {"join_deadline": "60"}),
        ({"rdzv_conf": "is_host=0"}, {}),
        (
            {"env": ("A=1", "B", "C=", "D=x=$y\n")},
            {"env.A": "1", "env.B": None, "env.C": "", "env.D": "x=$y\n"},
        ),
        ({"cpus": "1.5", "gpus": "2"}, {"resources.cpus": 1.5, "resources.gpus": 2}),
        (
            {"restart": "never", "node_timeout": "2h", "hang_timeout": "off"},
            {"restart": "never", "restart.node_timeout": "2h", "restart.hang_timeout": "off"},
        ),
        (
            {"max_restarts": "3", "settings": ("restart.window=1d",)},
            {"restart.max": 3, "restart.window": "1d"},
        ),
        ({"debug": False, "no_files": True}, {"debug": False, "files": []}),
        ({"settings": ("nodes=[a, b]", "args=[1e-3]")}, {"nodes": ["a", "b"], "args": ["1e-3"]}),
        (
            {"settings": ("env.A=1.10", "resources.gpus=2", "image=")},
            {"env.A": "1.10", "resources.gpus": 2, "image": None},
        ),
        ({"settings": ("nodes=3",), "nodes": "2"}, {"nodes": 3}),
        ({"args": ("a", "b")}, {"args": ["a", "b"]}),
    ],
)
def test_flags_set_keys(flags: dict[str, Any], expected: dict[str, Any]) -> None:
    assert values(**flags) == expected


@pytest.mark.parametrize(
    ("flags", "key", "expected"),
    [
        ({"j": "3"}, "nodes", ("-j", "'3' is not nodes x workers, which looks like 3x1, 2..4x1 or 2..4")),
        ({"j": "2-4x1"}, "nodes", ("-j", "'2-4' is no number of nodes, which looks like 3 or 2..4")),
        (
            {"nodes": "9" * 5000},
            "nodes",
            ("--nodes", f"'{'9' * 55}...' is more than anything can count"),
        ),
        ({"nnodes": "a,b"}, "nodes", ("--nnodes", "'a,b' is no number of nodes, which looks like 3 or 2:4")),
        ({"j": "3x1", "nnodes": "3"}, "nodes", ("-j", "cannot be combined with --nnodes: both set nodes")),
        ({"nodes": "3", "nnodes": "3"}, "nodes", ("--nodes", "cannot be combined with --nnodes")),
        (
            {"j": "3x1", "workers_per_node": "2"},
            "workers_per_node",
            ("-j", "cannot be combined with --workers-per-node"),
        ),
        ({"settings": ("nodes",)}, "nodes", ("--set nodes", "is not KEY=VALUE")),
        ({"settings": ("nodes=[a",)}, "nodes", ("--set nodes", "is not YAML: expected ',' or ']'")),
        ({"settings": ("env={A: 1, A: 2}",)}, "env", ("--set env", "the same key twice")),
        ({"files": ["*.py"], "no_files": True}, "files", ("--files", "cannot be combined with --no-files")),
    ],
)
def test_wrong_flags_travel_as_mistakes(flags: dict[str, Any], key: str, expected: tuple[str, str]) -> None:
    override = overrides_from_flags(**flags)[key]
    assert override.flag == expected[0]
    assert expected[1] in override.mistake


def test_what_a_flag_cannot_judge_is_left_to_the_job() -> None:
    assert overrides_from_flags(gpus="two") == {"resources.gpus": Override("two", "--gpus")}


def test_every_key_of_a_job_has_a_flag() -> None:
    assert [key for key, each in KEYS.items() if not each.key.flags] == ["resources", "alerts"]
    flags = {flag.name for each in KEYS.values() for flag in each.key.flags or ()}
    assert flags == {*FLAGS, "env"}
