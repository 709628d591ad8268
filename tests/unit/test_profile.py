"""A profile of some steps: how a worker records it, how its agent asks for it, and how it is shown."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from swarmtrain.agent.services.profiling import Profiling
from swarmtrain.agent.worker_group.workers import Workers
from swarmtrain.control.look.profiling import RankProfile
from swarmtrain.control.views import profile as words
from swarmtrain.errors import ClusterError
from swarmtrain.protocol.evidence.profile import OperatorTime, ProfileNews, ProfileSummary
from swarmtrain.protocol.to_agent import ProfileOrder
from swarmtrain.trainer.reports.profiling import Span, StepProfiler, longest, share
from swarmtrain.wire.pulse import Pulse, Source

# ---- the worker ----------------------------------------------------------------------------------------------


class OneWorker:
    """A worker in this process: its pulse, its files, and its steps."""

    def __init__(self, directory: Path) -> None:
        self.pulse = Pulse.create(directory / "pulse")
        self.stack = directory / "g1-r0.stack"
        self.profiler = StepProfiler(self.pulse, str(self.stack))
        self.step = 0

    def ask(self, number: int, steps: int = 2) -> None:
        Path(f"{self.stack}.profile.ask").write_text(json.dumps({"steps": steps}))
        self.pulse.profile = number

    def make_steps(self, count: int, work: Callable[[], object] = lambda: None) -> bool:
        for _ in range(count):
            torch.ones(8) @ torch.ones(8)
            work()
            self.step += 1
            again = self.profiler.stepped(self.step)
        for each in threading.enumerate():
            if each.name == "swarmtrain-profile":
                each.join()
        return again

    def said(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(Path(f"{self.stack}.profile").read_text())
        return found


@pytest.fixture
def worker(tmp_path: Path) -> OneWorker:
    return OneWorker(tmp_path)


def is_recording() -> bool:
    return bool(torch._C._autograd._profiler_enabled())


def test_the_steps_after_one_that_warms_up_are_recorded(worker: OneWorker) -> None:
    worker.ask(3)
    worker.make_steps(1)
    assert (worker.said()["state"], is_recording()) == ("warming", False)
    worker.make_steps(1)
    assert (worker.said()["state"], is_recording()) == ("recording", True)
    worker.make_steps(2)
    said = worker.said()
    assert (said["number"], said["state"], is_recording()) == (3, "written", False)
    assert (said["summary"]["first"], said["summary"]["steps"]) == (3, 2)
    with gzip.open(f"{worker.stack}.profile.json.gz") as file:
        names = [each.get("name") for each in json.load(file)["traceEvents"]]
    assert names.count("aten::dot") == 2 and "end of step 4" in names
    assert worker.make_steps(1), "it is told of steps until nobody waits any more"
    worker.pulse.profile = 0
    assert not worker.make_steps(1)


def test_what_is_taken_back_leaves_no_profiler_and_no_file(worker: OneWorker) -> None:
    for steps in (1, 2):  # while it is prepared, and while it records
        worker.ask(steps)
        worker.make_steps(steps)
        worker.pulse.profile = 0
        worker.make_steps(1)
        assert not is_recording()
    with torch.profiler.profile() as own:
        torch.ones(2) + 1
    assert own.events()
    assert not list(worker.stack.parent.glob("*.gz"))


def test_a_script_that_profiles_itself_is_left_alone(worker: OneWorker) -> None:
    with torch.profiler.profile() as own:
        worker.ask(1)
        worker.make_steps(4)
    assert "the script profiles itself at the moment" in worker.said()["reason"]
    assert sum(each.name == "aten::dot" for each in own.events()) == 4


def test_one_that_warms_its_own_profiler_up_is_left_alone(worker: OneWorker) -> None:
    schedule = torch.profiler.schedule(wait=0, warmup=3, active=2, repeat=1)
    with torch.profiler.profile(schedule=schedule) as own:
        worker.ask(1)
        worker.make_steps(5, own.step)
        assert "is about to profile itself" in worker.said()["reason"]
    assert sum(each.name == "aten::dot" for each in own.events()) == 2


@pytest.mark.parametrize("steps", [1, 2])
def test_a_profile_gives_way_to_the_scripts_own(worker: OneWorker, steps: int) -> None:
    worker.ask(1)
    worker.make_steps(steps)  # prepared, or recording
    with torch.profiler.profile() as own:
        worker.make_steps(2)
    assert "has begun to profile itself" in worker.said()["reason"]
    assert sum(each.name == "aten::dot" for each in own.events()) == 2


def test_a_question_that_makes_no_sense_does_not_reach_the_script(worker: OneWorker) -> None:
    worker.ask(1)
    Path(f"{worker.stack}.profile.ask").write_text("{}")
    worker.make_steps(3)
    assert worker.said()["state"] == "failed" and "KeyError" in worker.said()["reason"]


def test_time_that_several_share_counts_once() -> None:
    spans = [
        Span("gloo:all_reduce", 0, 2e6),
        Span("gloo:all_reduce", 1e6, 3e6),
        Span("aten::mm", 3e6, 9e6),
        Span("gloo:broadcast", 5e6, 5.5e6),
        Span("gloo:all_reduce", 8e6, 50e6),  # it had not ended with the recording
    ]
    assert share(spans, ("gloo:",), 10e6) == pytest.approx(3 + 0.5 + 2)
    assert share(spans, ("nccl:",), 10e6) == 0.0


def test_operators_are_told_by_the_time_of_the_device_that_computes() -> None:
    def row(name: str, cpu: float, gpu: float) -> SimpleNamespace:
        return SimpleNamespace(
            key=name, count=1, self_cpu_time_total=cpu, cpu_time_total=cpu, self_device_time_total=gpu
        )

    rows = [row("launch", 3e6, 0), row("kernel", 0, 2e6)]
    assert [each[0] for each in longest(rows, on_gpu=False)] == ["launch", "kernel"]
    assert longest(rows, on_gpu=True)[0] == ["kernel", 1, 0.0, 0.0, 2.0]


# ---- the agent -----------------------------------------------------------------------------------------------


def workers_of(worker: OneWorker) -> Workers:
    fake = SimpleNamespace(
        states={0: SimpleNamespace(state="running")},
        pulse=lambda rank: worker.pulse if rank == 0 else None,
        stack_files=lambda: {0: worker.stack},
    )
    return cast("Workers", fake)


async def heard(profiling: Profiling, meanwhile: Callable[[], object] = lambda: None) -> list[ProfileNews]:
    found = []
    async for news in profiling.news():
        found.append(news)
        meanwhile()
    return found


def test_an_agent_hears_of_every_stage_and_leaves_nothing_behind(worker: OneWorker) -> None:
    with Profiling(workers_of(worker), ProfileOrder(0, 1, within=5.0)) as profiling:
        news = asyncio.run(heard(profiling, lambda: worker.make_steps(1)))
        assert [each.state for each in news] == ["waiting", "warming", "recording", "written"]
        assert profiling.trace.stat().st_size > 100
        summary = news[-1].summary
        assert summary is not None and isinstance(summary.operators[0], OperatorTime)
    assert worker.pulse.profile == 0
    assert not list(worker.stack.parent.glob("*.profile*"))


def test_one_rank_is_profiled_once_at_a_time(worker: OneWorker) -> None:
    order = ProfileOrder(0, 1)
    with (
        Profiling(workers_of(worker), order),
        pytest.raises(ClusterError, match="rank 0 is being profiled already"),
    ):
        Profiling(workers_of(worker), order)
    with pytest.raises(ClusterError, match="rank 1 does not run now"):
        Profiling(workers_of(worker), ProfileOrder(1, 1))


def why_not(worker: OneWorker, workers: Workers) -> str:
    with (
        Profiling(workers, ProfileOrder(0, 1, within=0.01)) as profiling,
        pytest.raises(ClusterError) as caught,
    ):
        asyncio.run(heard(profiling))
    return str(caught.value)


def test_a_worker_without_steps_is_said_to_make_none(worker: OneWorker) -> None:
    assert "rank 0 tells of no steps" in why_not(worker, workers_of(worker))
    worker.pulse.source = Source.TRAINER
    assert "rank 0 made no step within 0 s: it still starts" in why_not(worker, workers_of(worker))


def test_a_worker_that_goes_takes_its_profile_along(worker: OneWorker) -> None:
    workers = workers_of(worker)
    with Profiling(workers, ProfileOrder(0, 1, within=5.0)) as profiling:
        workers.states[0].state = "exited"  # type: ignore[misc]
        with pytest.raises(ClusterError, match="ended, or was started again, before its profile was whole"):
            asyncio.run(heard(profiling))


def test_what_a_worker_says_may_be_anything(worker: OneWorker) -> None:
    with Profiling(workers_of(worker), ProfileOrder(0, 1, within=5.0)) as profiling:
        Path(f"{worker.stack}.profile").write_text('{"number": ["nonsense"')
        with pytest.raises(ClusterError, match="makes no sense"):
            asyncio.run(heard(profiling))


# ---- the screen ----------------------------------------------------------------------------------------------


def test_a_profile_is_shown_as_shares_and_a_table() -> None:
    operators = [
        OperatorTime("aten::mm", 10, 0.25, 0.5, 0.0),
        OperatorTime("\x1b[2J" + "x" * 60, 1, 0.01, 0.01, 0.0),
    ]
    found = RankProfile(1, "bob", Path("t"), 10, ProfileSummary(7, 2, 1.0, "cpu", 0.5, 0.1, 0.04, operators))
    lines = words.lines(found)
    assert lines[0] == "rank 1 on bob: steps 7 to 8, 0.5 s each while they were recorded"
    assert lines[1] == "  gradients travel 50 % (in part beside computing), data 10 %, optimizer 4 %"
    assert lines[4].split() == ["aten::mm", "10", "0.25", "s", "0.5", "s"]
    assert "\x1b" not in "".join(lines) and all(len(line) <= 80 for line in lines)


def test_how_far_it_is_stands_in_a_line() -> None:
    assert words.progress(1, ProfileNews("recording", 2), 5) == "rank 1: 2 of 5 steps recorded"
    assert words.progress(1, ProfileNews("warming"), 5) == "rank 1 warms the profiler up"
    assert words.progress(1, 2_000_000, 5) == "rank 1: 2 MB of its trace have come"
