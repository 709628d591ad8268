"""`swarmtrain.trainer.report`: what a script tells in one call, and the phases of a step."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from swarmtrain.coordinator.store.series.training import step_of, values_of
from swarmtrain.trainer import report
from swarmtrain.trainer.reports import report as module
from swarmtrain.trainer.reports.phases import BackwardWatch, CpuPhases, GpuPhases, StepPhases, phases_on
from swarmtrain.wire.pulse import Pulse, Source

lines = module.ReportLines


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a rank in a run."""
    monkeypatch.setenv("SWARMTRAIN_METRICS", str(tmp_path / "metrics"))
    monkeypatch.delenv("SWARMTRAIN_PULSE", raising=False)
    monkeypatch.setattr(module, "_is_open", False)
    monkeypatch.setattr(module, "_lines", None)
    yield tmp_path / "metrics"
    module._forget()


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def finish(path: Path) -> dict[str, Any]:
    module._finish()
    return read(path)[-1]


def test_outside_of_a_run_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SWARMTRAIN_METRICS", raising=False)
    monkeypatch.setattr(module, "_is_open", False)
    report(loss=0.5, step=1, anything=object())  # type: ignore[arg-type]
    assert module._lines is None


def test_the_first_call_is_a_line_at_once_and_the_last_one_comes_at_the_end(told: Path) -> None:
    report(loss=1.0, step=1)
    assert [(line["kind"], line["step"], line["values"]) for line in read(told)] == [
        ("report", 1, {"loss": 1.0})
    ]
    for step in range(2, 1000):
        report(loss=float(step), step=step)
    last = finish(told)
    assert (last["step"], last["values"]) == (999, {"loss": 999.0})
    assert len(read(told)) < 30


def test_between_two_lines_the_newest_value_of_each_name_counts(told: Path) -> None:
    report(step=1)
    report(loss=3.0, step=2)
    report(loss=2.0, accuracy=0.5, step=3)
    report(loss=1.0, step=4)
    last = finish(told)
    assert (last["step"], last["values"]) == (4, {"loss": 1.0, "accuracy": 0.5})


def test_a_tensor_is_read_when_its_line_is_written_and_keeps_no_graph(told: Path) -> None:
    weight = torch.ones(1, requires_grad=True)
    report(loss=0.0)
    assert module._lines is not None
    module._lines.due = math.inf  # however long the next line takes
    report(loss=(weight * 2).sum())
    held = module._lines.values["loss"]
    assert isinstance(held, torch.Tensor) and held.grad_fn is None
    assert finish(told)["values"] == {"loss": 2.0}


def test_what_is_no_number_is_left_out_and_said_once(told: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert module._opened() is not None
    with caplog.at_level("WARNING", "swarmtrain"):
        for _ in range(3):
            report(name="resnet", many=torch.ones(3), loss=float("nan"))  # type: ignore[arg-type]
            finish(told) if module._lines and module._lines.values else None
    assert all(line["values"] == {"loss": "nan"} for line in read(told))


def test_without_a_step_it_is_the_one_that_was_counted(
    told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulse = Pulse.create(tmp_path / "pulse")
    monkeypatch.setenv("SWARMTRAIN_PULSE", str(tmp_path / "pulse"))
    pulse.source, pulse.step = Source.TRAINER, 70
    report(loss=1.0)
    assert read(told)[-1]["step"] == 70
    pulse.source, pulse.counted = Source.WATCHED, 201
    report(loss=1.0)
    assert finish(told)["step"] == 270
    pulse.counted = 0
    monkeypatch.setenv("SWARMTRAIN_GENERATION", "2")
    report(loss=1.0)
    assert finish(told)["step"] is None


def test_a_call_between_lines_is_short(told: Path) -> None:
    report(loss=0.5, step=1)
    assert module._lines is not None
    module._lines.due = time.monotonic() + 3600
    rounds = []
    tracing = sys.gettrace()  # coverage counts each line, which takes longer than the call
    sys.settrace(None)
    for _ in range(400):  # short ones: on a busy machine some of them are left alone
        began = time.thread_time()
        for step in range(100):
            report(loss=0.5, step=step)
        rounds.append((time.thread_time() - began) / 100)
    sys.settrace(tracing)
    assert min(rounds) < 2e-6


def test_lines_become_series_by_their_names() -> None:
    assert values_of(
        {"kind": "report", "values": {"loss": "nan", "lr": 0.1, "val/acc": 1, "a{b": 2, "x": None}}
    ).keys() == {
        "train/loss",
        "train/learning_rate",
        "val/acc",
        "train/a_b",
    }
    assert values_of({"kind": "goal", "step": 3, "total_steps": 90}) == {"train/total_steps": 90.0}
    assert values_of({"kind": "step", "loss": None, "lr": True, "step_s": 0.5}) == {"train/step_seconds": 0.5}
    assert values_of({"kind": "eval", "metrics": {"loss": 0.5, "note": "good"}}) == {"eval/loss": 0.5}
    assert values_of({"kind": "phase", "name": "evaluation", "on": False, "seconds": 2.0}) == {
        "eval/seconds": 2.0
    }
    assert values_of({"kind": "phase", "name": "resume", "seconds": 2.0}) == {}
    assert values_of({"kind": "eval", "metrics": ["good"]}) == {} == values_of({})


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ({"step": 5, "g": 2}, 5),
        ({"step": 5, "g": 1, "source": "ddp"}, 5),
        ({"step": 5, "g": 2, "source": "ddp"}, None),
        ({"step": 5, "g": 2, "source": "ddp", "whole_step": 205}, 205),
        ({"step": "five", "g": 1}, None),
    ],
)
def test_a_step_counts_where_it_is_that_of_the_whole_training(
    line: dict[str, object], step: int | None
) -> None:
    assert step_of(line) == step


# ---- phases ----------------------------------------------------------------------------------------------------------


class Watch:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1.0

    def __call__(self) -> float:
        return self.now


def test_phases_of_steps_are_their_mean_since_the_last_time() -> None:
    watch = Watch()
    phases = CpuPhases(watch)
    for _ in range(2):
        for phase, seconds in ((phases.data, 2.0), (phases.forward, 4.0), (phases.optimizer, 1.0)):
            with phase:
                watch.now += seconds
            watch.now += 0.5  # between phases
    assert phases.taken() == {"data": 2.0, "forward": 4.0, "optimizer": 1.0, "backward": 0.0}
    assert not any(phases.taken().values())


def test_what_comes_after_a_ranks_last_gradient_is_communication() -> None:
    first, last, clock = nn.Linear(4, 4), nn.Linear(4, 1), Watch()
    model = nn.Sequential(first, nn.ReLU(), last)
    watch = BackwardWatch(clock)
    watch.watch(model)
    last.weight.register_hook(lambda gradient: setattr(clock, "now", clock.now + 3.0))  # type: ignore[no-untyped-call]
    for _ in range(3):
        loss = model(torch.ones(2, 4)).sum()
        with watch:
            loss.backward()
            clock.now += 5.0  # the gradients of others are waited for
    assert watch.taken() == {"backward": 9.0, "communication": 15.0}
    assert len(watch._asked) == 1 and any(watch._asked[0] is each for each in first.parameters())


def test_of_short_steps_some_are_looked_at_which_are_drawn() -> None:
    clock, drawn = Watch(), iter([0.25, 0.4999, 0.0, 0.2])
    phases = CpuPhases(clock, drawn.__next__)
    was_looked_at = []
    for _ in range(35):
        before = phases._seen
        with phases.forward:
            clock.now += 1e-3
        with phases.optimizer:
            clock.now += 1e-3
        was_looked_at.append(phases._seen > before)
    # 40 ms are twenty steps: a quarter of twice as many are passed over, then nearly half of them, then none.
    assert [at for at, looked in enumerate(was_looked_at) if looked] == [0, 11, 31, 32]
    assert phases.taken() == pytest.approx({"data": 0, "forward": 1e-3, "optimizer": 1e-3, "backward": 0})
    assert phases.taken() == {}, "nothing was looked at since"


def test_a_pass_that_is_not_looked_at_calls_nothing() -> None:
    layer, clock = nn.Linear(4, 1), Watch()
    phases = CpuPhases(clock, lambda: 0.25)
    phases.watch_gradients(layer)
    layer.weight.register_hook(lambda gradient: setattr(clock, "now", clock.now + 1e-3))  # type: ignore[no-untyped-call]

    def step() -> int:
        with phases.backward:
            layer(torch.ones(2, 4)).sum().backward()
            clock.now += 3e-3
            asked = sum(each._post_accumulate_grad_hooks is not None for each in layer.parameters())
        with phases.optimizer:
            pass
        return asked

    # At first all parameters are asked, then the one whose gradient comes last. 4 ms a step: five are passed over.
    assert [step() for _ in range(8)] == [2, 0, 0, 0, 0, 0, 1, 0]
    assert phases.taken()["communication"] == pytest.approx(3e-3)

    phases.watch_gradients(layer)  # as of another model: its next step is looked at
    assert [step() for _ in range(2)] == [2, 0]


def test_parameters_are_left_as_they_were_and_keep_hooks_of_others() -> None:
    layer, called = nn.Linear(4, 1), list[torch.Tensor]()
    layer.bias.register_post_accumulate_grad_hook(called.append)  # type: ignore[no-untyped-call]
    watch = BackwardWatch()
    watch.watch(layer)
    with watch:
        layer(torch.ones(2, 4)).sum().backward()
    layer(torch.ones(2, 4)).sum().backward()
    assert len(called) == 2
    assert layer.weight._post_accumulate_grad_hooks is None


def test_of_a_step_of_several_passes_all_are_looked_at() -> None:
    layer, clock = nn.Linear(4, 1), Watch()
    phases = CpuPhases(clock)
    phases.watch_gradients(layer)
    layer.weight.register_hook(lambda gradient: setattr(clock, "now", clock.now + 1e-3))  # type: ignore[no-untyped-call]
    for _ in range(2):
        for waits in (0.0, 0.0, 3e-3):  # with the last microbatch, the gradients travel
            with phases.backward:
                layer(torch.ones(2, 4)).sum().backward()
                clock.now += waits
        with phases.optimizer:
            clock.now += 0.02
    assert phases.taken() == pytest.approx(
        {"data": 0, "forward": 0, "optimizer": 0.02, "backward": 3e-3, "communication": 3e-3}
    )


def test_gradients_are_the_same_whether_they_are_watched() -> None:
    models = [nn.Linear(4, 1) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    watch = BackwardWatch()
    watch.watch(models[0])
    for model in models:
        with watch:
            model(torch.ones(2, 4)).sum().backward()
    one, other = (model.weight.grad for model in models)
    assert one is not None and other is not None and torch.equal(one, other)


def test_on_a_gpu_one_step_is_marked_between_two_lines_and_read_when_it_has_passed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With events that stand for CUDA's: not verified on a GPU."""
    passed = [False]

    class Event:
        clock = 0.0

        def __init__(self) -> None:
            self.at = 0.0

        def record(self) -> None:
            Event.clock += 1.0
            self.at = Event.clock

        def query(self) -> bool:
            return passed[0]

        def elapsed_time(self, other: Event) -> float:
            return other.at - self.at

    monkeypatch.setattr("swarmtrain.trainer.reports.phases._event", Event)
    phases: StepPhases = phases_on(torch.device("cuda"))
    assert isinstance(phases, GpuPhases)

    def step() -> None:
        for phase in (phases.data, phases.forward, phases.backward, phases.optimizer):
            with phase:
                pass

    step()
    assert phases.taken() == {}  # nothing was marked yet; the next step is
    step()
    step()
    assert Event.clock == 8.0
    assert phases.taken() == {}  # the GPU has not come there
    passed[0] = True
    assert phases.taken() == {"data": 0.001, "forward": 0.001, "backward": 0.001, "optimizer": 0.001}
