"""From which snapshot all ranks go on: the newest that any node holds and that is whole.

Every node has a directory of its own, and after a fault they differ: one node missed the last snapshot, another's
file was torn, a third is new. The nodes' leaders tell each other what they hold, newest first; the holders of the
newest check it; a node without it, or with a damaged one, gets it from a holder over the process group. In the end
every node holds it, and every rank loads it from its own node's directory.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

from swarmtrain.trainer import snapshot
from swarmtrain.trainer.distributed import World, broadcast_bytes, gather
from swarmtrain.trainer.errors import TrainerError
from swarmtrain.trainer.snapshot import Manifest, Position

_CHUNK = 16 << 20


def agree(world: World, directory: Path) -> Manifest | None:
    """Brings the newest whole snapshot to every node and returns its manifest there; None where there is none."""
    if world.leads_node:
        snapshot.sweep(directory)
    held = snapshot.listed(directory) if world.leads_node else []
    while True:
        offers = gather(world, held[0] if held else None)
        newest = max(
            (offer for offer in offers if offer is not None), key=lambda offer: offer.key, default=None
        )
        if newest is None:
            return None
        mine = held[0] if held and held[0].key == newest.key else None
        problem = snapshot.damage(directory, mine) if mine is not None else None
        verdicts = gather(world, (mine, problem, world.node))
        _name_damaged(world, verdicts)
        source = next((rank for rank, (its, bad, _) in enumerate(verdicts) if its and not bad), None)
        if mine is not None and problem is not None:
            snapshot.discard(directory, mine)
        if source is not None:
            return _share(world, directory, verdicts, source)
        if mine is not None:
            held = held[1:]


def _name_damaged(world: World, verdicts: list[tuple[Manifest | None, str | None, str]]) -> None:
    for manifest, problem, node in verdicts:
        if world.leads and manifest is not None and problem is not None:
            print(
                f"swarmtrain: passing over a damaged snapshot of step {manifest.step} on node {node}: {problem}",
                file=sys.stderr,
                flush=True,
            )


def _share(
    world: World, directory: Path, verdicts: list[tuple[Manifest | None, str | None, str]], source: int
) -> Manifest:
    """Sends ``source``'s snapshot to the nodes that lack it; returns this node's manifest of it."""
    chosen = verdicts[source][0]
    assert chosen is not None
    mine, problem, _ = verdicts[world.rank]
    whole = mine is not None and problem is None and mine.weights == chosen.weights
    lacking = world.leads_node and not whole
    if any(gather(world, lacking)):
        received = _transfer(world, directory, chosen, source, receive=lacking)
        if received is not None and received.sha256 != chosen.sha256:
            raise TrainerError(
                f"the snapshot of step {chosen.step} was damaged on its way from rank {source}"
            )
    gather(world, None)  # nobody reads before every leader has written
    ours = next((each for each in snapshot.listed(directory) if each.key == chosen.key), None)
    if ours is None:
        raise TrainerError(
            f"rank {world.rank} finds no snapshot of step {chosen.step} in {directory}",
            "let all ranks of a node use one directory of snapshots",
        )
    return ours


def _transfer(
    world: World, directory: Path, chosen: Manifest, source: int, *, receive: bool
) -> Manifest | None:
    """Passes the state's bytes over the process group, a chunk at a time; receivers store them as they come."""
    if world.rank == source:
        with open(directory / chosen.file, "rb") as file:
            for size in _chunks(chosen.bytes):
                broadcast_bytes(world, file.read(size), size, source)
        return None
    if not receive:
        for size in _chunks(chosen.bytes):
            broadcast_bytes(world, b"", size, source)
        return None

    def write(file: BinaryIO) -> None:
        for size in _chunks(chosen.bytes):
            file.write(broadcast_bytes(world, b"", size, source))

    position = Position(chosen.generation, chosen.epoch, chosen.step, chosen.world_size, chosen.weights)
    return snapshot.store(directory, position, write)


def _chunks(size: int) -> list[int]:
    whole, rest = divmod(size, _CHUNK)
    return [_CHUNK] * whole + ([rest] if rest else [])
