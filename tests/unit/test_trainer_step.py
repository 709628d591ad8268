"""A step waits for no GPU: nothing is read back from it, and nothing is copied there that has to be waited for.

torch's meta device stands in for the GPU. It has no memory, so whatever asks for a value there is an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from swarmtrain.trainer import Every, Options, Trainer, distributed
from swarmtrain.trainer.evaluation import Evaluator
from swarmtrain.trainer.precision import Precision

META = torch.device("meta")
_FROM_VALUES = (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor)


class FromValues(TorchFunctionMode):
    """Notes tensors that are made there of numbers here: each is a copy from memory that is not pinned."""

    def __init__(self, seen: Any) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if function in _FROM_VALUES and result.device == META:
            self.seen.append(function.__name__)
        return result


class Copies(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes copies to there that have to be waited for."""

    def __init__(self, seen: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = seen

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        source: Any = args[0] if args else None
        name = str(function)
        if name.startswith("aten.copy_"):
            source, blocking = args[1], args[0].device == META and not (len(args) > 2 and args[2])
        else:
            blocking = name.startswith("aten._to_copy") and kwargs.get("device") == META
            blocking = blocking and not kwargs.get("non_blocking")
        if blocking and source.device.type == "cpu":
            self.seen.append(name)
        return function(*args, **kwargs)


class Captured(torch.optim.Optimizer):
    """Its learning rate is on the GPU, as for a step that is captured in a CUDA graph."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": torch.zeros((), device=META)})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data -= group["lr"] * parameter.grad


class Enough(Exception):
    """So many steps are made that everything has been done in one."""


def seen_in(act: Any) -> Any:
    seen: list[str] = []
    with FromValues(seen), Copies(seen):
        act()
    return seen


@pytest.fixture
def data() -> Any:
    return torch.utils.data.TensorDataset(torch.randn(22, 4), torch.randn(22, 1))


def test_what_has_to_be_waited_for_is_seen() -> None:
    there = torch.zeros((), device=META)
    assert seen_in(lambda: there.new_tensor(3)) == ["new_tensor"]
    assert seen_in(lambda: torch.tensor(3.0, device=META)) == ["tensor"]
    assert seen_in(lambda: torch.ones(2).to(META)) == ["aten._to_copy.default"]
    assert seen_in(lambda: there.copy_(torch.ones(()))) == ["aten.copy_.default"]
    assert seen_in(lambda: torch.ones(2).to(META, non_blocking=True)) == []
    with pytest.raises(RuntimeError, match="cannot be called on meta"):
        float(there)


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("options", [{}, {"micro_batch": 3, "clip_norm": 1.0}])
def test_a_step_waits_for_nothing(
    data: Any, options: Any, captured: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("RANK", "WORLD_SIZE", "SWARMTRAIN_METRICS", "SWARMTRAIN_PULSE", "SWARMTRAIN_MEMORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(distributed, "_choose_device", lambda local_rank, backend: META)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Linear(8, 1))
    optimizer = (
        Captured(model.to(META).parameters()) if captured else torch.optim.SGD(model.parameters(), 0.1)
    )
    scheduler = None if captured else torch.optim.lr_scheduler.LinearLR(optimizer)
    seen: list[str] = []

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> Any:
        if trainer.step == 3:
            raise Enough
        return nn.functional.mse_loss(outputs, targets)

    chosen = Options(batch_size=5, snapshot=Every(), **options)
    trainer = Trainer(model, data, optimizer, loss=loss, scheduler=scheduler, options=chosen)
    with FromValues(seen), Copies(seen), pytest.raises(Enough):
        trainer.fit(epochs=1)
    assert seen == []


def test_an_evaluation_waits_at_its_end_alone(data: Any) -> None:
    world = distributed.World(0, 1, 0, "0", META, torch.device("cpu"), "none", owned=False)
    measures = {"loss": nn.functional.mse_loss, "each": lambda outputs, targets: (outputs - targets).square()}
    evaluator = Evaluator(data, measures, world=world, precision=Precision("fp32", META), batch_size=5)
    seen: list[str] = []
    with FromValues(seen), Copies(seen), pytest.raises(RuntimeError, match="meta"):
        evaluator(nn.Linear(4, 1, device=META))  # the sums are read, which cannot be done here
    assert seen == []


class Read(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts values that are read back."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += str(function).startswith("aten._local_scalar_dense")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize("overflows", [False, True])
def test_an_fp16_step_of_a_fused_optimizer_reads_nothing_back_unless_it_is_to_tell(
    clip_norm: float | None, overflows: bool
) -> None:
    ends = []
    for fused, tell in ((True, False), (True, True), (False, True)):
        torch.manual_seed(0)
        model = nn.Linear(3, 1)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)
        precision = Precision("fp16", torch.device("cpu"))
        before = [each.clone() for each in model.parameters()]
        precision.backward(model(torch.full((2, 3), float("inf") if overflows else 1.0)).sum())
        with Read() as read:  # type: ignore[no-untyped-call]
            applied = precision.update(optimizer, model, clip_norm, tell=tell)
        assert (read.count == 0) is (fused and not tell)
        assert applied is (not overflows or not tell)
        after = [each.detach() for each in model.parameters()]
        assert all(torch.equal(*pair) for pair in zip(before, after, strict=True)) is overflows
        ends.append(after)
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0])
