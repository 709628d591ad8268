"""Plain DistributedDataParallel loops, one for each way in which people write them. Nothing of swarmtrain in it."""

import copy
import inspect
import io
import sys
import traceback

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as DDP

STEPS = 12


def model():
    return torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 1))


def batch():
    return torch.randn(4, 8)


def plain():
    ddp = DDP(model())
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.01)
    for _ in range(STEPS):
        optimizer.zero_grad()
        ddp(batch()).mean().backward()
        optimizer.step()


def gan():
    discriminator, generator = DDP(torch.nn.Linear(8, 1)), DDP(torch.nn.Linear(8, 8))
    first = torch.optim.Adam(discriminator.parameters())
    second = torch.optim.Adam(generator.parameters())
    for _ in range(STEPS):
        first.zero_grad()
        discriminator(generator(batch()).detach()).mean().backward()
        first.step()
        second.zero_grad()
        discriminator.module(generator(batch())).mean().backward()
        second.step()


def accumulation():
    ddp = DDP(model())
    optimizer = torch.optim.AdamW(ddp.parameters())
    for _ in range(STEPS):
        with ddp.no_sync():
            for _ in range(3):
                ddp(batch()).mean().backward()
        ddp(batch()).mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def by_hand():
    ddp = DDP(model())
    for _ in range(4 * STEPS):
        ddp(batch()).mean().backward()
        with torch.no_grad():
            for parameter in ddp.parameters():
                parameter -= 0.01 * parameter.grad
                parameter.grad = None


def compiled():
    ddp = DDP(model())
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.01)
    fast = torch.compile(ddp, backend="aot_eager")
    for _ in range(STEPS):
        optimizer.zero_grad()
        fast(batch()).mean().backward()
        optimizer.step()


def evaluated():
    ddp = DDP(model())
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.01)
    for _ in range(STEPS):
        ddp.train()
        optimizer.zero_grad()
        ddp(batch()).mean().backward()
        optimizer.step()
        ddp.eval()
        with torch.no_grad():
            ddp(batch())


def can_pause():
    from swarmtrain.wire.pulse import Source, opened

    opened().source = Source.CAN_PAUSE
    plain()


class Own(DDP):
    def forward(self, *inputs):
        return super().forward(*inputs)


def intact():
    """What others see of DistributedDataParallel is as torch has made it."""
    ddp = Own(model())
    ddp(batch()).mean().backward()
    assert type(ddp) is Own and isinstance(ddp, DDP)
    assert inspect.isfunction(DDP._pre_forward) and "def _pre_forward" in inspect.getsource(DDP._pre_forward)
    assert str(inspect.signature(DDP.train)) == "(self, mode=True)"
    saved = io.BytesIO()
    torch.save(DDP(model()), saved)
    saved.seek(0)
    assert b"swarmtrain" not in saved.getvalue()
    for copied in (torch.load(saved, weights_only=False), copy.deepcopy(DDP(model()))):
        assert type(copied) is DDP
        copied(batch()).mean().backward()
    try:
        ddp(torch.randn(3, 5))
    except RuntimeError as error:
        modules = [frame.f_globals["__name__"] for frame, _ in traceback.walk_tb(error.__traceback__)]
        assert modules[0] == "__main__" and not [each for each in modules if each.startswith("swarmtrain")]
    ddp(batch())
    print("intact")


if __name__ == "__main__":
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    globals()[sys.argv[1]]()
    dist.destroy_process_group()
