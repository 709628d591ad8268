"""What is made of the events that a plain script's torch tells."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmtrain.wire.pulse import Activity, Pulse, Source
from swarmtrain.worker.instruments.steps import Steps


class Thing:
    """Stands for a module or an optimizer."""


class Script:
    """Plays a script, on a clock in milliseconds that only goes on when told to."""

    def __init__(self, directory: Path, device: str = "cpu") -> None:
        self.pulse = Pulse.create(directory / "pulse")
        self.file = directory / "metrics"
        self.ms = 1000
        self.steps = Steps(self.pulse, self.file, lambda: self.ms * 1_000_000)
        self.model, self.optimizer, self.device = Thing(), Thing(), device

    def forward(
        self,
        model: Thing | None = None,
        *,
        step: bool = True,
        evaluation: bool = False,
        wait: int = 0,
        work: int = 0,
    ) -> None:
        if not self.steps.on:
            return
        model = model or self.model
        self.steps.enters(model, step, evaluation, self.device)
        self.ms += wait
        self.steps.computes(model)
        self.ms += work
        self.steps.leaves(model)

    def step(self, optimizer: Thing | None = None, backward: int = 0) -> None:
        self.ms += backward
        if self.steps.on:
            self.steps.steps_made(optimizer or self.optimizer)

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.exists() else []


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    playing = Script(tmp_path)
    yield playing
    playing.steps.finish()


def test_a_disk_that_is_full_costs_lines_and_not_the_count_of_steps(script: Script) -> None:
    """Whose steps are no longer counted may be taken for one that hangs."""
    script.file.symlink_to("/dev/full")
    for _ in range(100):
        script.forward(work=4)
        script.step(backward=1000)
    script.steps.finish()
    assert script.steps.on and script.pulse.step == 100


def test_a_plain_loop_is_counted_and_timed(script: Script) -> None:
    assert script.pulse.source == Source.NOBODY
    for _ in range(100):
        script.ms += 3  # loads its batch
        script.forward(wait=2, work=4)
        script.step(backward=11)
    assert (script.pulse.step, script.pulse.mark) == (100, 200)
    assert (script.pulse.source, script.pulse.activity) == (Source.WATCHED, Activity.NONE)
    # nobody knows when the first batch was asked for
    assert script.pulse.busy_ns == (99 * (3 + 4) + 4) * 1_000_000
    script.steps.finish()
    start, first, *others = script.lines()
    assert start == {"kind": "start", "rank": 0, "world": 1, "device": "cpu", "source": "ddp"}
    assert (first["step"], first["step_s"]) == (1, 0.017)
    assert [line["step"] for line in others] == [*range(6, 100, 5), 100]  # 100 ms apart, and the last
    assert {line["step_s"] for line in others} == {0.02}


def test_a_step_of_two_optimizers_counts_once(script: Script) -> None:
    other_model, other = Thing(), Thing()
    for _ in range(10):
        script.forward(other_model, work=1)
        script.step(other)
        script.forward(work=1)
        script.step()
    assert (script.pulse.step, script.pulse.mark) == (10, 40)


def test_an_optimizer_that_takes_over_is_counted_after_a_while(script: Script) -> None:
    for optimizer, number in ((Thing(), 5), (script.optimizer, 50)):
        for _ in range(number):
            script.forward()
            script.step(optimizer)
    assert script.pulse.step == 5 + 50 - 32


def test_passes_without_synchronisation_are_no_marks_and_their_time_is_own_work(script: Script) -> None:
    for _ in range(10):
        for micro in range(4):
            script.forward(step=micro == 3, wait=1, work=5)
            script.ms += 5  # backward, which meets the others in the last pass only
        script.step()
    assert (script.pulse.step, script.pulse.mark) == (10, 20)
    own = 4 * 5 + 3 * 5
    assert script.pulse.busy_ns == (9 * own + 5) * 1_000_000


def test_a_loop_without_an_optimizer_is_counted_by_its_passes(script: Script) -> None:
    for _ in range(32):
        script.forward(work=1)
    assert (script.pulse.step, script.pulse.activity) == (0, Activity.START)
    script.forward(work=1)
    assert (script.pulse.step, script.pulse.activity) == (32, Activity.NONE)
    for _ in range(8):
        script.forward(work=1)
    assert script.pulse.step == 40


def test_a_module_within_another_is_a_part_of_it(script: Script) -> None:
    script.steps.enters(script.model, True, False, "cpu")
    script.forward(Thing())
    script.steps.leaves(script.model)
    assert script.pulse.mark == 2


def test_a_pass_that_failed_is_forgotten(script: Script) -> None:
    # out of memory; the script goes on with a smaller batch
    script.steps.enters(script.model, True, False, "cpu")
    script.forward()
    script.step()
    script.forward()
    assert (script.pulse.step, script.pulse.mark) == (1, 5)


def test_evaluation_is_said_and_its_time_left_out(script: Script) -> None:
    for _ in range(3):
        script.forward(work=10)
        script.step(backward=10)
    for _ in range(5):
        script.forward(step=False, evaluation=True, wait=10, work=100)
    assert (script.pulse.activity, script.pulse.mark) == (Activity.EVALUATION, 6)
    script.forward(work=10)
    assert script.pulse.activity == Activity.NONE
    script.step(backward=10)
    script.steps.finish()
    assert script.lines()[-1]["step_s"] == 0.02
    assert script.pulse.busy_ns == 40_000_000


def test_evaluation_begins_with_the_mode_of_the_model(script: Script) -> None:
    script.steps.switches(script.model, False)
    assert script.pulse.activity == Activity.START
    script.forward()
    script.step()
    script.steps.switches(Thing(), False)
    assert script.pulse.activity == Activity.NONE
    script.steps.switches(script.model, False)
    assert script.pulse.activity == Activity.EVALUATION
    script.forward(step=False)  # a script that trains in this mode, with gradients
    assert script.pulse.activity == Activity.NONE


def test_compilation_is_said_and_its_time_left_out(script: Script) -> None:
    script.steps.enters(script.model, True, False, "cpu")
    script.steps.compiles(True)
    assert script.pulse.activity == Activity.COMPILE
    script.ms += 30_000
    script.steps.compiles(False)
    assert script.pulse.activity == Activity.START
    script.ms += 7
    script.steps.leaves(script.model)
    script.step()
    assert script.pulse.busy_ns == 7_000_000
    assert script.lines()[-1]["step_s"] == 0.007


def test_a_script_that_keeps_its_pulse_itself_is_left_alone(script: Script) -> None:
    script.pulse.source = Source.CAN_PAUSE
    for _ in range(3):
        script.forward(work=1)
        script.step()
        script.forward(step=False, evaluation=True)
    script.steps.compiles(True)
    assert (script.pulse.step, script.pulse.mark, script.pulse.busy_ns) == (0, 0, 0)
    assert (script.pulse.activity, script.lines()) == (Activity.START, [])


def test_a_script_that_begins_to_keep_its_pulse_is_left_alone_from_then_on(script: Script) -> None:
    script.forward()
    script.step()
    script.pulse.source = Source.CAN_PAUSE
    for _ in range(3):
        script.forward()
        script.step()
    assert (script.pulse.step, script.pulse.mark) == (1, 2)


def test_work_on_an_accelerator_is_not_timed(tmp_path: Path) -> None:
    script = Script(tmp_path, device="cuda")
    for _ in range(3):
        script.forward(work=5)
        script.step()
    script.steps.finish()
    assert (script.pulse.step, script.pulse.busy_ns) == (3, 0)


def test_giving_up_takes_one_line(script: Script, capfd: pytest.CaptureFixture[str]) -> None:
    script.steps.give_up(OSError(28, "No space left on device"))
    assert not script.steps.on
    assert capfd.readouterr().err == (
        "swarmtrain: steps are no longer counted: OSError: [Errno 28] No space left on device\n"
    )


def test_without_a_file_the_pulse_is_kept_and_without_a_pulse_the_file(tmp_path: Path) -> None:
    script = Script(tmp_path)
    script.steps = Steps(script.pulse, None)
    script.forward()
    script.step()
    assert (script.pulse.step, script.lines()) == (1, [])
    script.steps = Steps(None, script.file)
    script.forward()
    script.forward(step=False, evaluation=True)
    script.step()
    script.steps.finish()
    assert [line["kind"] for line in script.lines()] == ["start", "step"]


def test_the_epoch_of_the_first_step_is_told_whatever_was_tested_before_or_comes_later(
    script: Script,
) -> None:
    script.steps.begins_epoch(0)  # of a test
    script.steps.begins_epoch(48)
    script.forward()
    script.steps.counts(701)
    script.step()
    script.steps.begins_epoch(49)
    assert (script.pulse.epoch, script.pulse.counted) == (49, 701), "the epoch plus 1"


class Logging(Thing):
    """A DistributedDataParallel that has sampled its own times, in nanoseconds."""

    def __init__(self, travel: int = 0, beside: int = 0) -> None:
        self._told = {"backward_comm_time": travel, "backward_compute_comm_overlap_time": beside}

    def _get_ddp_logging_data(self) -> dict[str, int]:
        return self._told if self._told["backward_comm_time"] else {}


def play(script: Script, times: int) -> None:
    for _ in range(times):
        script.ms += 3  # loads its batch
        script.forward(wait=2, work=4)
        script.ms += 9  # the backward pass
        script.steps.steps_begin()
        script.ms += 2
        script.step()


def test_where_the_time_of_a_step_goes_is_told(script: Script) -> None:
    play(script, 100)
    script.steps.finish()
    last = script.lines()[-1]
    parts = {
        key: last[key] for key in ("data_s", "forward_s", "backward_s", "optimizer_s", "step_s", "steps")
    }
    assert parts == {
        "data_s": 0.003,
        "forward_s": 0.006,
        "backward_s": 0.009,
        "optimizer_s": 0.002,
        "step_s": 0.02,
        "steps": 4,
    }
    assert "communication_s" not in last


def test_what_of_the_backward_pass_is_communication_alone_ddp_tells(script: Script) -> None:
    script.model = Logging(travel=8_000_000, beside=3_000_000)
    play(script, 10)
    script.steps.finish()
    last = script.lines()[-1]
    assert (last["backward_s"], last["communication_s"]) == (0.004, 0.005)


def test_an_evaluation_is_no_part_of_a_step(script: Script) -> None:
    play(script, 3)
    script.ms += 1
    script.forward(evaluation=True, work=5000)
    play(script, 40)
    script.steps.finish()
    assert max(float(str(line.get("data_s", 0))) for line in script.lines()) < 0.01


def test_on_an_accelerator_the_scripts_thread_knows_nothing_of_phases(tmp_path: Path) -> None:
    script = Script(tmp_path, "cuda")
    play(script, 10)
    script.steps.finish()
    assert not [key for key in script.lines()[-1] if key in ("data_s", "forward_s", "backward_s")]


def test_an_optimizer_that_counts_tells_the_step_of_the_whole_training(script: Script) -> None:
    script.steps.counts(201)
    play(script, 5)
    script.steps.finish()
    assert [(line["step"], line["whole_step"]) for line in script.lines()[1:]][-1] == (5, 205)
