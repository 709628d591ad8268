"""A node's snapshots, looked at without torch: listed, checked, sent, removed.

Used by agents, by the coordinator for files on its own node, and, for its words, by the client. The files are those
of `trainer.snapshot_files`: a manifest in JSON, written last, that names a data file with its size and checksum.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from swarmtrain.errors import RequestError
from swarmtrain.wire import files
from swarmtrain.wire.clock import MACHINE, Clock, age
from swarmtrain.wire.frames import Message
from swarmtrain.wire.storage import Storage
from swarmtrain.wire.task import GENERATIONS

_NAME = re.compile(r"g(\d+)-s(\d+)[-.0-9a-f]*\.(json|pt|damaged)")
_CHUNK = 16 << 20
FENCED = 3  # the format of manifests from which on they say their fence
_SETTLED_SECONDS = 60.0  # data that has no manifest for so long gets none any more


@dataclass(frozen=True)
class Snapshot:
    """One copy of a snapshot, on one tier of one node.

    Attributes:
        tier: ``disk`` or ``memory``.
        fence: the number that its writer had claimed, above all that were there before; by it, snapshots are ordered.
        run, generation: of its writer; empty and None where it had none, or was of a version that did not say.
        time: Unix time at which it was written, on the node's clock.
        age: seconds since then, as the node counts them; None where it does not know.
        file: the name of its data.
        damage: what is wrong with it, in words; empty where nothing is known to be.
    """

    node: str
    tier: str
    fence: int
    step: int
    run: str = ""
    generation: int | None = None
    file: str = ""
    epoch: int | None = None
    world_size: int | None = None
    bytes: int = 0
    sha256: str = ""
    time: float = 0.0
    age: float | None = None
    damage: str = ""

    @property
    def key(self) -> tuple[int, int]:
        """By which snapshots are ordered: once a start has gone on from one, what others before it wrote is older."""
        return self.fence, self.step

    @property
    def manifest(self) -> str:
        """The name of its manifest."""
        return f"{stem(*self.key)}.json"


def stem(fence: int, step: int) -> str:
    """How the names of a snapshot's files begin."""
    return f"g{fence:04d}-s{step:09d}"


def key_of(name: str) -> tuple[int, int] | None:
    """The fence and the step that the name of a snapshot's file tells; None for any other file."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def fence_of(manifest: Mapping[str, Any]) -> int:
    """The fence in a manifest; before format 3, generations were numbered so that they could serve as one."""
    return int(manifest["fence" if int(manifest["format"]) >= FENCED else "generation"])


def _writer(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The run and the generation that a snapshot is of, as far as its manifest tells."""
    if int(manifest["format"]) >= FENCED:
        run = str(manifest["run"])
        return {"run": run, "generation": int(manifest["generation"]) if run else None}
    number, generation = divmod(int(manifest["generation"]), GENERATIONS)
    return {"run": f"run {number}" if number else "", "generation": generation}


def answer(storage: Storage, lineage: str, node: str, order: Mapping[str, Any]) -> Iterator[Message]:
    """The replies to one request about a node's snapshots.

    Args:
        order: ``do`` (``list``, ``verify``, ``read`` or ``remove``), ``directory`` (the run's), for ``read`` the
            ``tier`` and the ``file``, for ``remove`` the ``keys``.

    Raises:
        RequestError: there is no such file, or no such request. OSError: the disk says no.
    """
    memory = storage.memory(order["directory"], node) / "snapshots"
    tiers = {"disk": storage.snapshots(lineage, node), "memory": memory}
    if order["do"] == "list":
        found = [asdict(each) for tier, path in tiers.items() for each in listed(path, node, tier)]
        yield {"snapshots": found, "done": {}}
    elif order["do"] == "verify":
        for tier, path in tiers.items():
            for each in listed(path, node, tier):
                if checked := verified(path, each):
                    yield {"snapshots": [asdict(checked)]}
        yield {"done": {}}
    elif order["do"] == "read":
        yield from _read(tiers[order["tier"]], str(order["file"]), node)
    elif order["do"] == "remove":
        keys = {(int(fence), int(step)) for fence, step in order["keys"]}
        removed = [asdict(each) for tier, path in tiers.items() for each in remove(path, node, tier, keys)]
        yield {"snapshots": removed, "done": {}}
    else:
        raise RequestError(f"nothing can be done to snapshots that is called {order['do']!r}")


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


def _read(directory: Path, name: str, node: str) -> Iterator[Message]:
    path = directory / name
    if not _NAME.fullmatch(name) or not path.is_file():
        raise RequestError(f"there is no snapshot {name} on {node} (any more)", "newer ones take its place")
    return files.send(path, node)


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
