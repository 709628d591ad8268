"""The examples' job files are right, and so is the stack that the guide's readers deploy."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from swarmtrain.job import load

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("example", ["guide", "digits", "charlm"])
def test_a_job_file_loads_beside_its_script(example: str) -> None:
    job = load(cwd=EXAMPLES / example, environ={}).job
    assert job.name == example and job.nodes == 3
    assert (EXAMPLES / example / str(job.script)).is_file()


def test_the_guide_s_stack_starts_its_script_on_three_nodes_and_lets_none_start_twice() -> None:
    stack = YAML(typ="safe", pure=True).load((EXAMPLES / "guide" / "docker-compose.yml").read_text())
    nodes = [stack["services"][f"node{number}"] for number in range(3)]
    assert stack["version"] == "3.8"
    assert stack["services"]["rendezvous"]["init"], "or its end takes the ten seconds until SIGKILL"
    for number, node in enumerate(nodes):
        assert "training_code.py 20 5" in node["command"] and "--nnodes=3" in node["command"]
        assert node["deploy"]["placement"]["constraints"] == [
            f"node.hostname == ${{NODE{number}:-lab-{number + 1}}}"
        ]
        assert node["deploy"]["restart_policy"]["condition"] == "on-failure"
        assert node["deploy"]["endpoint_mode"] == "dnsrr"
        assert "TORCH_DISTRIBUTED_DEBUG" not in node["environment"]
        assert "snapshots:/snapshots" in node["volumes"]
