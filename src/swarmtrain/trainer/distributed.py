"""The process group: joining and leaving it, and small exchanges between the ranks.

Ranks come from torchrun's environment (RANK, WORLD_SIZE, LOCAL_RANK, ...). Without it there is one rank and no
process group. The exchanges here need no numpy, which torch's own exchanges of objects do, so that they work in
any image that holds torch.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import os
import pickle
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # before the process group is made: see leave_world
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from swarmtrain.errors import DriftError, TrainerError
from swarmtrain.wire import names

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This rank and its place among the others.

    Attributes:
        leads_node: whether this rank writes its node's snapshots.
        device: on which this rank computes.
        control: where tensors of small exchanges live: the CPU, unless the process group has no backend for it.
        owned: whether the trainer made the process group, and so takes it down.
    """

    rank: int
    size: int
    local_rank: int
    node: str
    device: torch.device
    control: torch.device
    backend: str
    owned: bool

    @property
    def leads_node(self) -> bool:
        return self.local_rank == 0

    @property
    def leads(self) -> bool:
        return self.rank == 0


def join_world() -> World:
    """Join the process group that the environment describes; one that exists already is used as it is."""
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    backend = _choose_backend(os.environ.get(names.ENV_BACKEND) or "auto")
    device = _choose_device(local_rank, backend)
    owned = "RANK" in os.environ and not dist.is_initialized()
    if owned:
        # Small exchanges stay on the CPU also where gradients go over NCCL.
        backends = "cpu:gloo,cuda:nccl" if backend == "nccl" else backend
        seconds = os.environ.get(names.ENV_TIMEOUT)
        dist.init_process_group(backends, timeout=timedelta(seconds=float(seconds)) if seconds else None)
    control = torch.device("cpu")
    if dist.is_initialized():
        rank, size = dist.get_rank(), dist.get_world_size()
        if "gloo" not in str(dist.get_backend_config()):
            control = device
    return World(
        rank, size, local_rank, _node_name(), device, control, backend if size > 1 else "none", owned
    )


def find_world(device: torch.device | None = None) -> World:
    """This rank's place in the process group that the script has made; without one it must be alone.

    Args:
        device: where its model is, which need not be the script's current GPU.

    Raises:
        TrainerError: there are several ranks, and no process group.
    """
    if not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise TrainerError(
            "there are several ranks and no process group yet",
            "call init_process_group before snapshot.resume",
        )
    grouped = dist.is_initialized()
    rank, size = (dist.get_rank(), dist.get_world_size()) if grouped else (0, 1)
    on_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    if device is None:
        device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
    only_gpu = grouped and "gloo" not in str(dist.get_backend_config())
    return World(
        rank,
        size,
        int(os.environ.get("LOCAL_RANK", 0)),
        _node_name(),
        device,
        device if only_gpu else torch.device("cpu"),
        str(dist.get_backend()) if grouped else "none",
        owned=False,
    )


def _node_name() -> str:
    return os.environ.get(names.ENV_NODE) or os.environ.get("GROUP_RANK", "0")


def leave_world(world: World) -> None:
    """Take the process group down, if the trainer made it and it still stands.

    Gloo's threads end with the last reference to the group. If one of them is still letting go of a tensor while the
    interpreter shuts down, the process aborts after all its work is done. So nothing may keep the group: not a
    DistributedDataParallel, which is collected here, and not the functions of ``torch.distributed.nn``, whose
    defaults hold the group that exists when they are first imported.
    """
    if world.owned and dist.is_initialized():
        gc.collect()
        dist.destroy_process_group()


def _choose_backend(asked: str) -> str:
    if asked not in ("auto", "nccl", "gloo"):
        raise TrainerError(f"{names.ENV_BACKEND}={asked} is unknown: it is one of auto, nccl, gloo")
    if asked == "nccl" and not torch.cuda.is_available():
        raise TrainerError(
            "the backend nccl was asked for and this process sees no GPU", f"set {names.ENV_BACKEND}=auto"
        )
    if asked == "auto":
        return "nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    return asked


def _choose_device(local_rank: int, backend: str) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if local_rank >= count and backend != "gloo":
        raise TrainerError(
            f"local rank {local_rank} has no GPU of its own: this process sees {count}",
            "start as many processes on a node as it has GPUs, hide them with CUDA_VISIBLE_DEVICES='', or share them "
            f"with {names.ENV_BACKEND}=gloo",
        )
    device = torch.device("cuda", local_rank % count)
    torch.cuda.set_device(device)
    return device


# ----------------------------------------------------------------------------------------------------------
# Exchanges


def gather(world: World, value: T) -> list[T]:
    """Every rank's ``value``, in the order of ranks, on every rank."""
    if world.size == 1:
        return [value]
    data = pickle.dumps(value)
    sizes = [torch.zeros(1, dtype=torch.int64, device=world.control) for _ in range(world.size)]
    dist.all_gather(sizes, torch.tensor([len(data)], device=world.control))
    longest = max(int(size) for size in sizes)
    mine = torch.zeros(longest, dtype=torch.uint8)
    mine[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    everyones = [torch.zeros(longest, dtype=torch.uint8, device=world.control) for _ in range(world.size)]
    dist.all_gather(everyones, mine.to(world.control))
    return [
        pickle.loads(tensor_bytes(each[: int(size)])) for each, size in zip(everyones, sizes, strict=True)
    ]


def broadcast(world: World, value: T, source: int = 0) -> T:
    """``source``'s value, on every rank."""
    if world.size == 1:
        return value
    data = pickle.dumps(value) if world.rank == source else b""
    size = torch.tensor([len(data)], device=world.control)
    dist.broadcast(size, source)
    return pickle.loads(broadcast_bytes(world, data, int(size), source))  # type: ignore[no-any-return]


def broadcast_bytes(world: World, data: bytes, size: int, source: int) -> bytes:
    """``source``'s ``size`` bytes, on every rank."""
    if world.rank == source:
        tensor = torch.frombuffer(bytearray(data), dtype=torch.uint8).to(world.control)
    else:
        tensor = torch.empty(size, dtype=torch.uint8, device=world.control)
    dist.broadcast(tensor, source)
    return tensor_bytes(tensor)


def total(world: World, sums: torch.Tensor) -> torch.Tensor:
    """``sums`` added up over the ranks, on the CPU."""
    sums = sums.to(world.control, copy=True)
    if world.size > 1:
        dist.all_reduce(sums)
    return sums.cpu()


def greatest(world: World, values: torch.Tensor) -> torch.Tensor:
    """The greatest of every rank's ``values``, one by one, on the CPU."""
    if world.size == 1:
        return values
    values = values.to(world.control)
    dist.all_reduce(values, dist.ReduceOp.MAX)
    return values.cpu()


def tensor_bytes(tensor: torch.Tensor) -> bytes:
    """The bytes of a tensor's elements, in order."""
    tensor = tensor.detach().cpu().contiguous()
    return ctypes.string_at(tensor.data_ptr(), tensor.numel() * tensor.element_size())


# ----------------------------------------------------------------------------------------------------------
# Drift


def settle_buckets(parallel: DistributedDataParallel) -> None:
    """Bring gradients into the order in which all-reduces add them up from the second step on; before the first.

    DistributedDataParallel puts them into buckets by the parameters' order, and after one step again, by the order
    in which they came. Where in a bucket a gradient lies decides in which order the ranks' values are added, and with
    three ranks or more that decides how the sum is rounded. So the first step after a resume would differ in the last
    bit from the same step of a training that was not stopped. One pass of zeros, with a graph that no data and no
    chance have a part in, has the buckets made anew before any step. All ranks call this together.
    """
    if dist.get_world_size(parallel.process_group) < 3:
        return  # of two numbers there is one sum
    sparse = any(getattr(each, "sparse", False) for each in parallel.module.modules())
    if parallel.find_unused_parameters or parallel.static_graph or sparse or parallel._comm_hooks:
        return  # they keep their buckets, or such a pass would be more to them than nothing
    model = parallel.module
    parallel.module = _Zero(model)
    try:
        parallel(torch.zeros(())).backward()  # with device_ids it wants something to move
    finally:
        parallel.module = model
    for parameter in model.parameters():
        parameter.grad = None


class _Zero(nn.Module):
    """Takes a model's place; its output is zero, and every parameter has a part in it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, nothing: torch.Tensor) -> torch.Tensor:
        # Later ones get their gradients first, as in most models, so that communication begins early.
        wanted = [each for each in self.model.parameters() if each.requires_grad]
        return torch.stack([each.sum().to(wanted[0].device, torch.float32) * 0 for each in wanted]).sum()


def share_buffers(world: World, model: nn.Module) -> None:
    """Give every rank rank 0's buffers, as DistributedDataParallel does before the next forward pass.

    Buffers such as BatchNorm's running statistics follow each rank's own samples until then.
    """
    if world.size > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def weights_hash(model: nn.Module) -> str:
    """SHA-256 of all parameters and buffers, in the model's order, as hex."""
    return tensors_hash((*model.parameters(), *model.buffers()))


def tensors_hash(tensors: Iterable[torch.Tensor]) -> str:
    """SHA-256 of the tensors' bytes, one after the other, as hex."""
    digest = hashlib.sha256()
    for tensor in tensors:
        plain = tensor.detach().cpu().contiguous()
        if plain.numel():  # hashed where it lies, without a copy
            size = plain.numel() * plain.element_size()
            digest.update((ctypes.c_char * size).from_address(plain.data_ptr()))
    return digest.hexdigest()


def check_drift(hashes: list[str], step: int) -> None:
    """Compare the ranks' hashes of their weights.

    Raises:
        DriftError: they differ; it names those that differ from most, or from rank 0 where there is no most.
    """
    counts = Counter(hashes)
    if len(counts) == 1:
        return
    most = max(counts.values())
    reference = next(each for each in hashes if counts[each] == most)
    raise DriftError([rank for rank, each in enumerate(hashes) if each != reference], len(hashes), step)
