"""From which snapshot all ranks go on: the newest that any node holds and that is whole.

Every node has directories of its own, on disk and in memory, and after a fault they differ: one node missed the last
snapshot, another's file was torn, a third is new. The nodes' leaders tell each other what they hold, newest first; the
holders of the newest check it; a node without it, or with a damaged one, gets it from a holder over the process group.
In the end every node holds it, and every rank loads it from its own node's directory. What they write from then on is
ordered above all that was found, under a fence that all claim together.
"""

from __future__ import annotations

import atexit
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from swarmtrain.errors import TrainerError
from swarmtrain.trainer.distributed import World, broadcast_bytes, gather
from swarmtrain.trainer.reports.log import LOG
from swarmtrain.trainer.snapshots import fence, files
from swarmtrain.trainer.snapshots.disk import MEMORY
from swarmtrain.trainer.snapshots.files import Manifest
from swarmtrain.trainer.snapshots.writer import Tier

_CHUNK = 16 << 20


@dataclass(frozen=True)
class LocalSnapshot:
    """A snapshot on this node."""

    directory: Path
    manifest: Manifest


@dataclass(frozen=True)
class _Verdict:
    """What a rank says of the newest snapshot: where it holds it whole, and which of its copies are damaged."""

    whole: LocalSnapshot | None
    damaged: list[str]
    node: str


def agree(world: World, tiers: Sequence[Tier]) -> LocalSnapshot | None:
    """Bring the newest whole snapshot to every node and say where it is there; None where there is none.

    Args:
        tiers: this node's, the quickest first: of equal snapshots the one there is taken.
    """
    if world.leads_node:
        for tier in tiers:
            files.sweep(tier.directory)
    held = _held(tiers) if world.leads_node else []
    while True:
        offers = gather(world, held[0].manifest.key if held else None)
        newest = max((offer for offer in offers if offer is not None), default=None)
        if newest is None:
            return None
        mine = [each for each in held if each.manifest.key == newest]
        held = held[len(mine) :]
        verdicts = gather(world, _judge(world, mine))
        if world.leads:
            _name_damaged(verdicts, newest[1])
        whole = [verdict.whole for verdict in verdicts if verdict.whole is not None]
        if len({found.manifest.weights for found in whole}) > 1:
            # The ranks had drifted apart, and were stopped before they noticed: none of these is to be trusted.
            if world.leads:
                LOG.warning(
                    f"passing over the snapshot of step {newest[1]}: the nodes hold different weights in it"
                )
            for each in mine:
                files.discard(each.directory, each.manifest)
        elif whole:
            return _share(world, tiers, [verdict.whole for verdict in verdicts])


def claim_fence(world: World, tiers: Sequence[Tier], least: int) -> int:
    """Claim a fence above all that any node has, in each node's directories; all ranks together.

    A directory that cannot be read or written has no say: nothing is written there, which is said when it is tried.

    Args:
        least: what it is at least.
    """
    owner = gather(world, secrets.token_hex(16))[0]
    number = least
    while True:
        number = max(number, *gather(world, max(least, 1 + _highest(world, tiers))))
        if all(gather(world, _claim(world, tiers, number, owner))):
            return number
        number += 1


def _highest(world: World, tiers: Sequence[Tier]) -> int:
    """The highest fence on this node, as its leader sees it."""
    found = 0
    for tier in tiers if world.leads_node else ():
        with suppress(OSError):
            found = max(found, fence.highest(tier.directory))
    return found


def _claim(world: World, tiers: Sequence[Tier], number: int, owner: str) -> bool:
    """Whether ``number`` is ours on this node, wherever it can be claimed."""
    for tier in tiers if world.leads_node else ():
        with suppress(OSError):
            if not fence.claim(tier.directory, number, owner, tier.disk):
                return False
    return True


def _held(tiers: Sequence[Tier]) -> list[LocalSnapshot]:
    """The snapshots on this node, newest first, of equal ones the quickest first."""
    found = [LocalSnapshot(tier.directory, each) for tier in tiers for each in files.listed(tier.directory)]
    # sorted() keeps the order of equals
    return sorted(found, key=lambda each: each.manifest.key, reverse=True)


def _judge(world: World, mine: Sequence[LocalSnapshot]) -> _Verdict:
    damaged: list[str] = []
    for each in mine:
        problem = files.damage(each.directory, each.manifest)
        if problem is None:
            return _Verdict(each, damaged, world.node)
        damaged.append(f"{each.directory}: {problem}")
        files.discard(each.directory, each.manifest)
    return _Verdict(None, damaged, world.node)


def _name_damaged(verdicts: Sequence[_Verdict], step: int) -> None:
    for verdict in verdicts:
        for problem in verdict.damaged:
            LOG.warning(f"passing over a damaged snapshot of step {step} on node {verdict.node}: {problem}")


def _share(world: World, tiers: Sequence[Tier], held: Sequence[LocalSnapshot | None]) -> LocalSnapshot:
    """Send the snapshot of the first rank that holds it to the nodes that lack it; say where it is on this one."""
    source = next(rank for rank, found in enumerate(held) if found is not None)
    chosen = held[source]
    assert chosen is not None
    ours = held[world.rank]
    places = _places(tiers)
    while True:
        # One that lacks it tries one of its places after the other, together with all that lack it still.
        lacking = world.leads_node and ours is None
        if not any(gather(world, lacking)):
            break
        place = next(places) if lacking else None
        received, problem = _transfer(world, chosen, source, place)
        if problem is not None:
            LOG.warning(
                f"node {world.node} cannot keep the snapshot of step {chosen.manifest.step}: {problem}"
            )
        if received is not None and place is not None:
            ours = LocalSnapshot(place.directory, received)
    everyones = gather(world, ours)
    ours = everyones[world.rank - world.local_rank]  # the leader's of this node: ranks of a node are in a row
    if ours is None or not (ours.directory / ours.manifest.file).is_file():
        raise TrainerError(
            f"rank {world.rank} finds no snapshot of step {chosen.manifest.step} on node {world.node}",
            "let all ranks of a node use one directory of snapshots",
        )
    return ours


def _places(tiers: Sequence[Tier]) -> Iterator[Tier]:
    """Where a snapshot that comes from another node may be put, best first."""
    yield from tiers
    aside = Path(tempfile.mkdtemp(prefix="swarmtrain-"))  # for this start alone
    atexit.register(shutil.rmtree, aside, ignore_errors=True)
    yield Tier("temporary", aside, 1, MEMORY)
    raise TrainerError(
        f"this node can keep the snapshot neither in {aside} nor in its directories of snapshots",
        "free some space on it",
    )


def _transfer(
    world: World, chosen: LocalSnapshot, source: int, place: Tier | None
) -> tuple[Manifest | None, str | None]:
    """Pass the state's bytes over the process group, a chunk at a time, into ``place`` where that is given.

    Returns:
        What was stored, or in words what prevented it.
    """
    manifest = chosen.manifest
    sizes = iter(_chunks(manifest.bytes))
    if world.rank == source:
        with open(chosen.directory / manifest.file, "rb") as file:
            for size in sizes:
                broadcast_bytes(world, file.read(size), size, source)
        return None, None

    def write(file: BinaryIO) -> None:
        for size in sizes:
            file.write(broadcast_bytes(world, b"", size, source))

    stored, problem, damaged = None, None, False
    if place is not None:
        try:
            _check_room(place, manifest.bytes)
            stored = files.store(
                place.directory,
                manifest.position,
                write,
                versions=manifest.versions,
                disk=place.disk,
                expected=manifest.sha256,
            )
        except OSError as error:
            problem = str(error)
        except files.Damaged:
            damaged = True
    for size in sizes:  # what this rank does not keep it takes part in all the same
        broadcast_bytes(world, b"", size, source)
    if damaged:
        raise TrainerError(
            f"the snapshot of step {manifest.step} was damaged on its way from rank {source}",
            "the network between these machines is at fault",
        )
    return stored, problem


def _check_room(place: Tier, size: int) -> None:
    place.disk.make_directory(place.directory)
    if shutil.disk_usage(place.directory).free < size:
        raise OSError(f"{place.directory} has no room for its {size >> 20} MiB")


def _chunks(size: int) -> list[int]:
    whole, rest = divmod(size, _CHUNK)
    return [_CHUNK] * whole + ([rest] if rest else [])
