"""Snapshots in the background: what is copied when, what is written, and what a failing or slow disk does."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from torch import nn

from swarmtrain.trainer import Every, TrainerError
from swarmtrain.trainer.distributed import World, weights_hash
from swarmtrain.trainer.reports.metrics import Reporter
from swarmtrain.trainer.reports.pulse_writer import PulseWriter
from swarmtrain.trainer.snapshots import files as snapshot_files
from swarmtrain.trainer.snapshots import manager, staging
from swarmtrain.trainer.snapshots.disk import Disk
from swarmtrain.trainer.snapshots.files import Position
from swarmtrain.trainer.snapshots.manager import SnapshotManager
from swarmtrain.trainer.snapshots.schedule import Due, SnapshotSchedule
from swarmtrain.trainer.snapshots.staging import Staging, addresses
from swarmtrain.trainer.snapshots.writer import Content, SnapshotWriter, Tier

CPU = torch.device("cpu")
ALONE = World(0, 1, 0, "lab-1", CPU, CPU, "none", owned=False)
START = Position(fence=1, epoch=0, step=0, world_size=1, weights="")


# --- Copies ----------------------------------------------------------------------------------------------------


def test_what_stands_still_is_copied_later_and_all_else_at_once() -> None:
    weight, buffer, rate = torch.zeros(1000), torch.zeros(1000), [0.1]
    copied = Staging().copy({"weight": weight, "buffer": buffer, "rate": rate}, still={weight.data_ptr()})
    buffer.fill_(1)
    rate[0] = 0.2
    weight.fill_(2)  # too early: it was to stand still
    copied.finish()
    weight.fill_(3)
    assert copied.state["buffer"].max() == 0 and copied.state["rate"] == [0.1]
    assert copied.state["weight"].min() == 2
    assert copied.bytes == 8000


def test_a_copy_is_not_finished_while_the_thread_that_trains_still_copies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weight = torch.ones(10)
    copied = Staging().copy([weight], still={weight.data_ptr()})
    entered, slow = threading.Event(), threading.Event()
    copy = staging._copy

    def slowly(source: Any, target: Any) -> None:
        entered.set()
        slow.wait(10)
        copy(source, target)

    monkeypatch.setattr(staging, "_copy", slowly)
    holding = threading.Thread(target=copied.hold)
    holding.start()
    entered.wait(10)
    finishing = threading.Thread(target=copied.finish)
    finishing.start()
    finishing.join(0.2)
    assert finishing.is_alive()
    slow.set()
    finishing.join(10)
    holding.join(10)
    assert copied.state[0].min() == 1


def test_the_thread_that_trains_copies_what_is_left_when_it_has_to_wait() -> None:
    weights = [torch.full((100,), float(number)) for number in range(50)]
    copied = Staging().copy(weights, still={weight.data_ptr() for weight in weights})
    finishing = threading.Thread(target=copied.finish)
    holding = threading.Thread(target=copied.hold)
    holding.start()
    finishing.start()
    holding.join(10)
    for weight in weights:
        weight.fill_(-1)
    finishing.join(10)
    assert [tensor[0].item() for tensor in copied.state] == list(range(50))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(12.0).view(3, 4).t(),
        torch.arange(16.0).view(1, 2, 2, 4).to(memory_format=torch.channels_last),
        torch.arange(4.0).expand(3, 4),
        torch.arange(4.0)[::2],
        torch.tensor([1 + 2j]).conj(),
        torch.zeros(0, 3),
        torch.tensor(5, dtype=torch.int64),
        torch.arange(3).to(torch.bfloat16),
        torch.eye(3).to_sparse(),
    ],
)
def test_any_tensor_is_copied_as_it_is(tensor: torch.Tensor) -> None:
    copied = Staging().copy([tensor], still=set() if tensor.is_sparse else {tensor.data_ptr()})
    copied.finish()
    assert copied.state[0] is not tensor
    assert torch.equal(copied.state[0].to_dense(), tensor.to_dense())
    assert copied.state[0].dtype == tensor.dtype


def test_tied_weights_stay_tied_and_are_saved_once() -> None:
    model = nn.ModuleDict({"one": nn.Linear(100, 100, bias=False), "two": nn.Linear(100, 100, bias=False)})
    model["two"].weight = model["one"].weight
    copied = Staging().copy(model.state_dict())
    assert copied.state["one.weight"].data_ptr() == copied.state["two.weight"].data_ptr()
    assert copied.bytes == 40_000


def test_the_memory_of_a_copy_is_used_again() -> None:
    memory, state = Staging(), {"weight": torch.zeros(100), "more": [torch.ones(3, 3)]}
    first = memory.copy(state).state
    places = {first["weight"].data_ptr(), first["more"][0].data_ptr()}
    second = memory.copy(state).state
    assert {second["weight"].data_ptr(), second["more"][0].data_ptr()} == places


def test_addresses_are_those_that_the_optimizer_changes() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(model.parameters())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(torch.randn(4, 2)).sum().backward()
    optimizer.step()
    owned = addresses([optimizer])
    assert all(parameter.data_ptr() in owned for parameter in model.parameters())
    assert all(value["exp_avg"].data_ptr() in owned for value in optimizer.state.values())
    assert not any(buffer.data_ptr() in owned for buffer in model.buffers())
    assert not torch.equal(before["0.weight"], model.state_dict()["0.weight"])


# --- Writing ---------------------------------------------------------------------------------------------------


class SlowDisk(Disk):
    """Waits before it creates a file until it is let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def create(self, path: Path) -> BinaryIO:
        assert self.go.wait(30)
        return super().create(path)


class FullDisk(Disk):
    """Real files that take so many bytes; the error is what a full disk gives."""

    def __init__(self) -> None:
        super().__init__()
        self.room: int | None = None

    def create(self, path: Path) -> BinaryIO:
        file = super().create(path)
        return file if self.room is None else _Limited(file, self)  # type: ignore[return-value]


class _Limited:
    def __init__(self, file: BinaryIO, disk: FullDisk) -> None:
        self._file, self._disk = file, disk

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()

    def write(self, data: Any) -> Any:
        assert self._disk.room is not None
        left = self._disk.room - memoryview(data).nbytes
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._disk.room = left
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def trained(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.randn(8, 16)).square().mean().backward()
    optimizer.step()


def content(model: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    def state() -> Any:
        return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}

    return Content(state, {}, [*model.parameters(), *model.buffers()], [optimizer])


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 64), nn.BatchNorm1d(64), nn.Linear(64, 1))


@pytest.fixture
def optimizer(model: nn.Module) -> Any:
    optimizer = torch.optim.AdamW(model.parameters())
    trained(model, optimizer)
    return optimizer


def test_a_snapshot_is_of_the_instant_at_which_it_was_begun_while_training_goes_on(
    tmp_path: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    disk = SlowDisk()
    writer, tier = SnapshotWriter(), Tier("disk", tmp_path, 3, disk)
    what = content(model, optimizer)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    moments = [state["exp_avg"].clone() for state in optimizer.state.values()]
    weights = weights_hash(model)
    writer.start(what, what.shared(), replace(START, step=1), lambda size: [tier])
    for _ in range(5):
        trained(model, optimizer)
    assert writer.busy and snapshot_files.listed(tmp_path) == []
    disk.go.set()
    assert writer.wait(30)
    (manifest,) = snapshot_files.listed(tmp_path)
    state = snapshot_files.load(tmp_path, manifest)
    assert all(torch.equal(state["model"][name], value) for name, value in expected.items())
    kept = [each["exp_avg"] for each in state["optimizer"]["state"].values()]
    assert all(torch.equal(*pair) for pair in zip(kept, moments, strict=True))
    assert manifest.weights == weights and writer.weights == (1, weights)
    assert weights_hash(model) != weights


# --- The manager ----------------------------------------------------------------------------------------------


@pytest.fixture
def kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: nn.Module, optimizer: torch.optim.Optimizer
) -> Iterator[Any]:
    """What makes a manager on a disk, and gives the manager, a step for it and the lines for the agent."""
    monkeypatch.setenv("SWARMTRAIN_METRICS", str(tmp_path / "metrics"))
    monkeypatch.delenv("SWARMTRAIN_MEMORY", raising=False)

    class Kept:
        def __init__(self, disk: Disk) -> None:
            monkeypatch.setattr(manager, "DISK", disk)
            self.reporter = Reporter(ALONE)
            self.directory = tmp_path / "snapshots"
            schedule = SnapshotSchedule(Every(steps=1), Every(seconds=5), 3, self.directory)
            self.manager = SnapshotManager(ALONE, schedule, self.reporter, PulseWriter())

        def take(self, step: int, tier: str = "disk", **changes: Any) -> None:
            self.manager.take(replace(content(model, optimizer), **changes), Due(**{tier: True}), step, 0)

        def written(self, step: int) -> Any:
            self.manager.finish()
            return [manifest.step for manifest in snapshot_files.listed(self.directory)]

        def told(self, kind: str) -> Any:
            lines = map(json.loads, (tmp_path / "metrics").read_text().splitlines())
            return [line for line in lines if line["kind"] == kind]

    made = []

    def make(disk: Disk) -> Any:
        made.append(Kept(disk))
        return made[-1]

    yield make
    for each in made:
        each.manager.close()
        each.reporter.close()


def test_a_full_disk_is_told_and_harms_nothing_and_that_it_works_again_is_told_too(
    kept: Any, caplog: pytest.LogCaptureFixture
) -> None:
    disk = FullDisk()
    run = kept(disk)
    run.take(1)
    assert run.written(1) == [1]
    before = sorted(run.directory.iterdir())
    for step in (2, 3):
        disk.room = 10_000
        run.take(step)
        assert run.written(step) == [1]
        assert sorted(run.directory.iterdir()) == before
    disk.room = None
    run.take(4)
    assert run.written(4) == [4, 1]
    failed = run.told("snapshot_failed")
    assert [line["step"] for line in failed] == [2, 3]
    assert {key: value for key, value in failed[0].items() if key != "t"} == {
        "kind": "snapshot_failed",
        "step": 2,
        "node": "lab-1",
        "tier": "disk",
        "error": "[Errno 28] No space left on device",
    }
    assert caplog.messages == [
        (
            "node lab-1 could not write the snapshot of step 2 to disk, and trains on; "
            "the last one there is of step 1: [Errno 28] No space left on device"
        ),
        "node lab-1 writes snapshots to disk again, with that of step 4",
    ]


def test_a_snapshot_that_is_due_while_the_last_is_written_is_left_out_and_said_once(
    kept: Any, caplog: pytest.LogCaptureFixture
) -> None:
    disk = SlowDisk()
    run = kept(disk)
    for step in (1, 2, 3):
        run.take(step)
    disk.go.set()
    assert run.written(3) == [1]
    run.take(4)
    assert run.written(4) == [4, 1]
    assert [line["step"] for line in run.told("snapshot_skipped")] == [2, 3]
    assert caplog.text.count("leaves out the snapshot of step 2") == 1


def test_one_that_is_due_on_disk_waits_for_what_goes_to_memory(
    kept: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWARMTRAIN_MEMORY", str(tmp_path / "memory"))
    memory = SlowDisk()
    monkeypatch.setattr(manager, "MEMORY", memory)
    run = kept(Disk())
    run.take(1, "memory")
    threading.Timer(0.2, memory.go.set).start()
    run.take(2)
    assert run.written(2) == [2]
    assert run.told("snapshot_skipped") == []


def test_a_state_that_cannot_be_pickled_is_an_error_in_the_thread_that_trains(kept: Any) -> None:
    run = kept(Disk())
    run.take(1, shared=lambda: {"scheduler": {"function": lambda step: 1.0}})
    with pytest.raises(TrainerError, match=r"cannot be written as a snapshot: .*lambda"):
        run.written(1)


def test_memory_without_room_is_done_without_and_said_once(
    kept: Any, caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWARMTRAIN_MEMORY", str(tmp_path / "memory"))
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    run = kept(Disk())
    for step in (1, 2):
        run.manager._start(content_of_nothing(), [], Due(memory=True), step, 0)
        run.manager.finish()
    assert snapshot_files.listed(tmp_path / "memory") == []
    assert caplog.text.count("lab-1 does without snapshots in memory") == 1


def content_of_nothing() -> Any:
    return Content(lambda: {"tensor": torch.zeros(1000)}, {}, [], [])
