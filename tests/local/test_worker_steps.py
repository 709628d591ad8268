"""Steps of plain scripts, as their agent sees them, with real training over gloo."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from worker_harness import SCRIPTS, Spawner, free_port, make_bundle, rank_env, spawner

from swarmtrain.wire.pulse import Activity, Pulse, Source


@dataclass
class Seen:
    """One rank after its end."""

    pulse: Pulse
    lines: list[dict[str, Any]]
    output: str


@pytest.fixture(scope="module", params=["warm", pytest.param("cold", marks=pytest.mark.long)])
def agent(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawner]:
    with spawner(request.param, tmp_path_factory.mktemp("spawner")) as running:
        yield running


def train(
    agent: Spawner, directory: Path, *args: str, script: str = "watched.py", world_size: int = 2
) -> list[Seen]:
    port = free_port()
    workers = []
    for rank in range(world_size):
        pulse, metrics = directory / f"{rank}.pulse", directory / f"{rank}.metrics"
        Pulse.create(pulse)
        files = {"SWARMTRAIN_PULSE": str(pulse), "SWARMTRAIN_METRICS": str(metrics)}
        env = {**rank_env(rank, world_size, port), **files}
        workers.append(agent.start(SCRIPTS / script, *args, env=env, wait=False))
    seen = []
    for rank, worker in enumerate(workers):
        assert agent.wait(worker).status == 0, worker.text
        assert "swarmtrain" not in worker.text
        metrics = directory / f"{rank}.metrics"
        lines = metrics.read_text().splitlines() if metrics.exists() else []
        seen.append(
            Seen(Pulse.map(directory / f"{rank}.pulse"), [json.loads(line) for line in lines], worker.text)
        )
    return seen


@pytest.mark.parametrize(
    ("loop", "steps", "marks"),
    [
        ("plain", 12, 24),
        ("gan", 12, 72),
        ("accumulation", 12, 24),
        ("by_hand", 47, 96),  # the last one is not seen: nothing follows it
        ("compiled", 12, 24),
        ("evaluated", 12, 24),
    ],
)
def test_steps_are_counted_without_an_edit(
    agent: Spawner, tmp_path: Path, loop: str, steps: int, marks: int
) -> None:
    for rank, seen in enumerate(train(agent, tmp_path, loop)):
        assert (seen.pulse.step, seen.pulse.mark, seen.pulse.source) == (steps, marks, Source.WATCHED)
        assert seen.pulse.activity == (Activity.EVALUATION if loop == "evaluated" else Activity.NONE)
        assert seen.pulse.busy_ns > 0
        start, *lines = seen.lines
        assert start == {"kind": "start", "rank": rank, "world": 2, "device": "cpu", "source": "ddp"}
        assert (lines[-1]["kind"], lines[-1]["step"]) == ("step", steps)
        assert all(0 < line["step_s"] < 60 for line in lines)


def test_script_that_uses_us_is_left_alone(agent: Spawner, tmp_path: Path) -> None:
    for seen in train(agent, tmp_path, "can_pause"):
        assert (seen.pulse.step, seen.pulse.mark, seen.lines) == (0, 0, [])


def test_torchs_classes_are_intact(agent: Spawner, tmp_path: Path) -> None:
    for seen in train(agent, tmp_path, "intact"):
        assert seen.output == "intact\n"


def test_steps_of_a_sharded_model_are_counted(agent: Spawner, tmp_path: Path) -> None:
    for seen in train(agent, tmp_path, script="shard.py"):
        assert (seen.pulse.step, seen.pulse.mark, seen.pulse.source) == (3, 6, Source.WATCHED)


def test_script_without_torch_is_not_watched(agent: Spawner, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text("import sys\nprint('torch' in sys.modules)\n")
    (seen,) = train(agent, tmp_path, script=str(script), world_size=1)
    assert seen.output == "False\n"
    assert (seen.pulse.source, seen.lines) == (Source.NOBODY, [])


def test_compiler_passes_over_us_also_in_the_bundle(tmp_path: Path) -> None:
    with spawner("cold", tmp_path, make_bundle(tmp_path)) as agent:
        for seen in train(agent, tmp_path, "compiled"):
            assert (seen.pulse.step, seen.pulse.activity) == (12, Activity.NONE)


BROKEN = """
import torch, torch.distributed as dist
class Other(torch.nn.parallel.DistributedDataParallel):
    require_backward_grad_sync = property(lambda self: 1 / 0, lambda self, value: None)
    def forward(self, *inputs):
        self._pre_forward  # as torch does to call it
        return self.module(*inputs)
dist.init_process_group("gloo")
model = Other(torch.nn.Linear(2, 1))
for _ in range(3):
    model(torch.ones(1, 2)).sum().backward()
dist.destroy_process_group()
"""


def test_another_torch_than_we_know_breaks_no_script(agent: Spawner, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(BROKEN)
    env = {**rank_env(0, 1, free_port()), "SWARMTRAIN_METRICS": str(tmp_path / "metrics")}
    worker = agent.run(script, env=env)
    assert worker.status == 0
    assert worker.text == "swarmtrain: steps are no longer counted: ZeroDivisionError: division by zero\n"


FORKS = """
import multiprocessing, os, torch, torch.distributed as dist
def train(rank):
    os.environ["RANK"] = "0"
    dist.init_process_group("gloo")
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
child = multiprocessing.get_context("fork").Process(target=train, args=(0,))
child.start()
child.join()
print(child.exitcode)
"""


def test_forked_children_do_not_write_into_their_parents_pulse(agent: Spawner, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(FORKS)
    (seen,) = train(agent, tmp_path, script=str(script), world_size=1)
    assert (seen.output, seen.pulse.step, seen.lines) == ("0\n", 0, [])
