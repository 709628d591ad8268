"""``bundle.zip probe collect``: what torch makes of the ways between nodes, with gloo: are collectives right, how fast.

All nodes are one group first, for all-reduce, broadcast, gather and scatter; then every two of them are one, as many
pairs at a time as there are, so that one slow machine shows in all of its pairs and one slow way in one pair.

This part imports torch; nothing else of the doctor's does.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from swarmtrain.agent import network
from swarmtrain.protocol.probes.reports import CollectiveReport, ProbePeer

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist

PORT = 29412
_NUMBERS = 1 << 20  # of 4 bytes
_TIMES = 3
_TIMEOUT = timedelta(seconds=60)
_RESOLVE_SECONDS = 60.0


def collect(node: str, peers: Sequence[ProbePeer]) -> Iterator[CollectiveReport]:
    """Take part with the others, of whom this node is one; every node sees the same order of them."""
    try:
        yield from _collect(node, peers)
    except (RuntimeError, OSError, ImportError) as error:
        told = (str(error).splitlines() or [type(error).__name__])[0]
        yield CollectiveReport(
            node=node, name="", peer="", correct=False, seconds=0.0, bits=0.0, error=told[:300]
        )


def rounds(nodes: int) -> list[list[tuple[int, int]]]:
    """Every two of some nodes once, in rounds in which nobody is in two pairs (the circle method). Pure."""
    ring: list[int | None] = [*range(nodes), *([None] if nodes % 2 else [])]
    half = len(ring) // 2
    found = []
    for _ in range(len(ring) - 1):
        couples = zip(ring[:half], reversed(ring[half:]), strict=True)
        found.append([(min(a, b), max(a, b)) for a, b in couples if a is not None and b is not None])
        ring = [ring[0], ring[-1], *ring[1:-1]]
    return found


def _collect(node: str, peers: Sequence[ProbePeer]) -> Iterator[CollectiveReport]:
    here = socket.gethostname()
    rank = next(index for index, peer in enumerate(peers) if peer.hostname == here)
    address = _await_address(peers[0].hostname)
    os.environ["GLOO_SOCKET_IFNAME"] = _interface(address)
    import torch.distributed as dist

    _one_thread()
    meeting = f"tcp://{address}:{PORT}"
    dist.init_process_group("gloo", meeting, rank=rank, world_size=len(peers), timeout=_TIMEOUT)
    for name, work, expected in _works(rank, len(peers)):
        seconds, correct = _measured(work, expected)
        yield _report(node, name, "", correct, seconds, _moved(name, len(peers)))
    for pairs in rounds(len(peers)):
        # Every rank makes all groups, also those of others.
        groups = {pair: dist.new_group(list(pair), timeout=_TIMEOUT) for pair in pairs}
        for pair, group in groups.items():
            if rank in pair:
                other = peers[sum(pair) - rank].node
                seconds, correct = _measured(
                    partial(_all_reduce, _ones(rank), group), 2 * _ramp() + sum(pair)
                )
                yield _report(node, "pair", other, correct, seconds, _moved("all-reduce", 2))
        dist.barrier()
    dist.destroy_process_group()


def _report(node: str, name: str, peer: str, correct: bool, seconds: float, moved: float) -> CollectiveReport:
    bits = moved * _NUMBERS * 32 / seconds
    return CollectiveReport(
        node=node, name=name, peer=peer, correct=correct, seconds=seconds, bits=bits, error=""
    )


def _all_reduce(own: torch.Tensor, group: dist.ProcessGroup | None = None) -> torch.Tensor:
    import torch.distributed as dist

    result = own.clone()
    dist.all_reduce(result, group=group)
    return result


def _one_thread() -> None:
    """One thread: adding up should not be what is measured, nor disturb the node's other work."""
    import torch

    torch.set_num_threads(1)


def _moved(name: str, nodes: int) -> float:
    """How many times its size a node has to send or take for a collective; rank 0, which has most to do."""
    return (
        2 * (nodes - 1) / nodes
        if name == "all-reduce"
        else nodes - 1
        if name in ("gather", "scatter")
        else 1.0
    )


def _ramp() -> torch.Tensor:
    import torch

    return torch.arange(_NUMBERS, dtype=torch.float32) % 1000


def _ones(rank: int) -> torch.Tensor:
    """What a rank brings: whole numbers, whose sums are exact."""
    return _ramp() + rank


Work = Callable[[], "torch.Tensor"]


def _works(rank: int, nodes: int) -> list[tuple[str, Work, torch.Tensor]]:
    """The collectives of the whole group: their names, what to do, what must come of it on this rank."""
    import torch
    import torch.distributed as dist

    own = _ones(rank)

    def broadcast() -> torch.Tensor:
        result = own.clone()
        dist.broadcast(result, src=0)
        return result

    def gather() -> torch.Tensor:
        parts = [torch.empty_like(own) for _ in range(nodes)] if rank == 0 else None
        dist.gather(own, parts, dst=0)
        return torch.stack(parts).sum(0) if parts else own

    def scatter() -> torch.Tensor:
        result = torch.empty_like(own)
        dist.scatter(result, [_ones(each) for each in range(nodes)] if rank == 0 else None, src=0)
        return result

    total = nodes * _ramp() + nodes * (nodes - 1) / 2
    return [
        ("all-reduce", partial(_all_reduce, own), total),
        ("broadcast", broadcast, _ones(0)),
        ("gather", gather, total if rank == 0 else own),
        ("scatter", scatter, own),
    ]


def _measured(work: Work, expected: torch.Tensor) -> tuple[float, bool]:
    """The seconds of the quickest of some times after one to warm up, and whether every result was right."""
    import torch

    correct, quickest = True, float("inf")
    for turn in range(_TIMES + 1):
        began = time.monotonic()
        result = work()
        if turn:
            quickest = min(quickest, time.monotonic() - began)
        correct = correct and bool(torch.equal(result, expected))
    return max(quickest, 1e-6), correct


def _await_address(hostname: str) -> str:
    """The address of rank 0, whose name is known once its container runs. Raises OSError."""
    deadline = time.monotonic() + _RESOLVE_SECONDS
    while True:
        try:
            return socket.gethostbyname(hostname)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


def _interface(address: str) -> str:
    """The interface in whose network rank 0 is."""
    found = [each.name for each in network.interfaces() if each.contains(address)]
    if not found:
        raise OSError(f"no interface here is in the network of {address}")
    return found[0]
