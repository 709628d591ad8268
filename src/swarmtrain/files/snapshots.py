"""A node's snapshots: listed, checked, sent, removed. The replies to `snapshots`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from swarmtrain.errors import RequestError
from swarmtrain.files.fetch import send
from swarmtrain.protocol.replies import Done, NodeReply
from swarmtrain.protocol.snapshots import Snapshot
from swarmtrain.protocol.to_agent import SnapshotsOrder
from swarmtrain.wire.clock import MACHINE, Clock, age
from swarmtrain.wire.disk.snapshots import FENCED, fence_of, key_of
from swarmtrain.wire.disk.storage import Storage
from swarmtrain.wire.run_spec import GENERATIONS

_CHUNK = 16 << 20
_SETTLED_SECONDS = 60.0  # data that has no manifest for so long gets none any more


def answer(storage: Storage, lineage: str, node: str, order: SnapshotsOrder) -> Iterator[NodeReply]:
    """The replies to one request about a node's snapshots.

    Raises:
        RequestError: there is no such file. OSError: the disk says no.
    """
    memory = storage.memory(order.directory, node) / "snapshots"
    tiers = {"disk": storage.snapshots(lineage, node), "memory": memory}
    if order.do == "list":
        found = [each for tier, path in tiers.items() for each in listed(path, node, tier)]
        yield NodeReply(snapshots=found, done=Done())
    elif order.do == "verify":
        for tier, path in tiers.items():
            for each in listed(path, node, tier):
                if checked := verified(path, each):
                    yield NodeReply(snapshots=[checked])
        yield NodeReply(done=Done())
    elif order.do == "read":
        if order.tier not in tiers:
            raise RequestError(f"there is no tier {order.tier!r}", f"tiers: {', '.join(tiers)}")
        yield from _read(tiers[order.tier], order.file, node)
    else:
        keys = {(key.fence, key.step) for key in order.keys or ()}
        removed = [each for tier, path in tiers.items() for each in remove(path, node, tier, keys)]
        yield NodeReply(snapshots=removed, done=Done())


def listed(directory: Path, node: str, tier: str, clock: Clock = MACHINE) -> list[Snapshot]:
    """What is in a directory, newest first; damaged ones, too."""
    found, known = [], set()
    for path in directory.glob("g*-s*.json"):
        snapshot = _of_manifest(path, node, tier, clock)
        if snapshot is not None:
            found.append(snapshot)
            known.add(snapshot.file)
    for path in [*directory.glob("g*-s*.pt"), *directory.glob("g*-s*.damaged")]:
        if path.name not in known and (snapshot := _of_data(path, node, tier, clock)):
            found.append(snapshot)
    return sorted(found, key=lambda each: each.key, reverse=True)


def verified(directory: Path, snapshot: Snapshot) -> Snapshot | None:
    """The same with its checksum added up; None where it was removed meanwhile."""
    if snapshot.damage:
        return snapshot
    digest = hashlib.sha256()
    try:
        with open(directory / snapshot.file, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        if not (directory / snapshot.manifest).exists():
            return None
        return _damaged(snapshot, f"cannot be read: {error.strerror or error}")
    if digest.hexdigest() != snapshot.sha256:
        return _damaged(snapshot, "does not match its checksum")
    return snapshot


def remove(directory: Path, node: str, tier: str, keys: set[tuple[int, int]]) -> list[Snapshot]:
    """Remove these; return what there was. The manifest goes first: what is listed can be loaded."""
    gone = [each for each in listed(directory, node, tier) if each.key in keys]
    for snapshot in gone:
        (directory / snapshot.manifest).unlink(missing_ok=True)
        if snapshot.file:
            (directory / snapshot.file).unlink(missing_ok=True)
    return gone


def _read(directory: Path, name: str, node: str) -> Iterator[NodeReply]:
    path = directory / name
    if key_of(name) is None or not path.is_file():
        raise RequestError(f"there is no snapshot {name} on {node} (any more)", "newer ones take its place")
    return send(path, node)


def _of_manifest(path: Path, node: str, tier: str, clock: Clock) -> Snapshot | None:
    """None for one that was removed at this moment."""
    key = key_of(path.name)
    if key is None:
        return None
    snapshot = Snapshot(node, tier, *key)
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        snapshot = Snapshot(
            node,
            tier,
            *key,
            **_writer(fields),
            file=str(fields["file"]),
            epoch=int(fields["epoch"]),
            world_size=int(fields["world_size"]),
            bytes=int(fields["bytes"]),
            sha256=str(fields["sha256"]),
            time=float(fields["time"]),
            age=age(fields.get("stamp") or {"boot": "", "unix": fields["time"]}, clock),
        )
        if (fence_of(fields), int(fields["step"])) != key or key_of(snapshot.file) != key:
            return _damaged(snapshot, "its manifest is another one's")
        size = (path.parent / snapshot.file).stat().st_size
    except (ValueError, KeyError, TypeError):
        return _damaged(snapshot, "its manifest cannot be read")
    except OSError as error:
        return _damaged(snapshot, f"cannot be read: {error.strerror or error}") if path.exists() else None
    if size != snapshot.bytes:
        return _damaged(snapshot, f"has {size} bytes, not {snapshot.bytes}")
    return snapshot


def _of_data(path: Path, node: str, tier: str, clock: Clock) -> Snapshot | None:
    """Data that no manifest names; None where one may come in a moment."""
    key = key_of(path.name)
    try:
        status = path.stat()
    except OSError:
        return None
    settled = max(0.0, clock.unix() - status.st_mtime)
    if key is None or (path.suffix == ".pt" and settled < _SETTLED_SECONDS):
        return None
    damage = "set aside as damaged" if path.suffix == ".damaged" else "has no manifest: it was cut off"
    return Snapshot(
        node,
        tier,
        *key,
        file=path.name,
        bytes=status.st_size,
        time=status.st_mtime,
        damage=damage,
        age=settled,
    )


def _damaged(snapshot: Snapshot, damage: str) -> Snapshot:
    return Snapshot(**{**asdict(snapshot), "damage": damage})


def _writer(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The run and the generation that a snapshot is of, as far as its manifest tells."""
    if int(manifest["format"]) >= FENCED:
        run = str(manifest["run"])
        return {"run": run, "generation": int(manifest["generation"]) if run else None}
    number, generation = divmod(int(manifest["generation"]), GENERATIONS)
    return {"run": f"run {number}" if number else "", "generation": generation}
