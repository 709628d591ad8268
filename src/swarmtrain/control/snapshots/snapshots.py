"""The snapshots of a run, on all of its nodes at once: what there is, whether it is whole, one of them here.

What is done to files is done on the nodes (`files.snapshots`), by agents while the run is live, by helpers after its
end: nothing is copied to be checked.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from swarmtrain.control.files.everywhere import everywhere, on_node
from swarmtrain.control.files.transfer import receive
from swarmtrain.control.snapshots.retention import Key, Wanted, choose, complete
from swarmtrain.control.views import format
from swarmtrain.errors import ChannelError, ClusterError, RequestError, SwarmtrainError, in_short
from swarmtrain.protocol.ask import ask
from swarmtrain.protocol.replies import NodeReply
from swarmtrain.protocol.requests import SnapshotKey, SnapshotsRequest
from swarmtrain.protocol.snapshots import Snapshot

if TYPE_CHECKING:
    from swarmtrain.control.handle import RunHandle

Progress = Callable[[int, int], None]  # bytes that have come, of how many


@dataclass(frozen=True)
class Found:
    """What the nodes hold.

    Attributes:
        snapshots: every copy, the newest first.
        silent: nodes that could not be asked, and why.
    """

    snapshots: list[Snapshot] = field(default_factory=list)
    silent: dict[str, str] = field(default_factory=dict)

    @property
    def damaged(self) -> list[Snapshot]:
        """The copies with which something is wrong."""
        return [each for each in self.snapshots if each.damage]


@dataclass(frozen=True)
class Pulled:
    """What arrived: the data beside its manifest."""

    path: Path
    snapshot: Snapshot
    passed_over: tuple[str, ...] = ()  # copies that were not whole, in sentences


class Snapshots:
    """The snapshots of one run."""

    def __init__(self, handle: RunHandle) -> None:
        self._handle = handle

    def listing(self) -> Found:
        """What there is, by its manifests and sizes. Raises ClusterError."""
        return self._everywhere(SnapshotsRequest("list"))

    def verify(self) -> Found:
        """What there is, with every checksum added up anew on its node. Raises ClusterError."""
        return self._everywhere(SnapshotsRequest("verify"))

    def pull(
        self, step: int | None = None, to: Path | None = None, progress: Progress = lambda done, size: None
    ) -> Pulled:
        """Bring the newest complete snapshot here, or that of a step, with its manifest; whole or not at all.

        Copies are tried until one arrives with the right checksum.

        Args:
            to: a directory, made where it is missing; the current one by default.

        Raises:
            RequestError: there is none, or it cannot be written here. ClusterError: no copy arrives whole.
        """
        found = self.listing()
        keys = [key for key in complete(found.snapshots) if step in (None, key[1])]
        if not keys:
            raise RequestError(*_none(self._handle.id, found, step))
        copies = [each for each in found.snapshots if each.key == keys[0] and not each.damage]
        passed_over: list[str] = []
        for copy in sorted(copies, key=lambda each: (each.tier != "disk", each.node)):
            try:
                path = self._bring(copy, to or Path(), progress)
            except SwarmtrainError as error:
                passed_over.append(f"{format.name(copy.file)} on {format.name(copy.node)}: {in_short(error)}")
                continue
            except OSError as error:
                why = error.strerror or error
                raise RequestError(f"nothing can be written into {to or Path.cwd()}: {why}") from error
            return Pulled(path, copy, tuple(passed_over))
        raise ClusterError(
            f"no copy of step {keys[0][1]} arrived whole: {'; '.join(passed_over)}",
            f"`swarmtrain snapshots verify {self._handle.id}` looks at all of them",
        )

    def remove(self, wanted: Wanted, *, force: bool = False) -> tuple[Found, list[Key]]:
        """Remove what is wanted on every node; return the copies that went, and which snapshots they were.

        Before anything goes, all checksums are added up anew: a damaged snapshot is none that others could go for.

        Args:
            force: also the newest one, of a run that has ended.

        Raises:
            RequestError: a step is not there, or must not go. ClusterError: a node cannot be asked.
        """
        # Another run of the job may have resumed from these, and need them.
        live = self._is_live() or any(other.is_live() for other in self._handle.others())
        keys: list[Key] = []
        # To read all of them takes its time, and often there is nothing to remove.
        for look in (self.listing, self.verify):
            found = look()
            keys = choose(found.snapshots, wanted, live=live, force=force)
            if not keys:
                return Found(silent=found.silent), []
        return self._everywhere(SnapshotsRequest("remove", keys=[SnapshotKey(*key) for key in keys])), keys

    def _bring(self, copy: Snapshot, to: Path, progress: Progress) -> Path:
        # the node's word: it must not lead elsewhere
        if copy.file in ("", "..") or Path(copy.file).name != copy.file:
            raise ChannelError(f"{copy.file!r} is no name of a file")
        to.mkdir(parents=True, exist_ok=True)
        data = to / copy.file
        if not (data.exists() and _sha256(data) == copy.sha256):
            self._write(copy, copy.file, data, progress, copy.sha256)
        self._write(copy, copy.manifest, to / copy.manifest, lambda done, size: None)
        return data

    def _write(self, copy: Snapshot, name: str, target: Path, progress: Progress, sha256: str = "") -> None:
        """One file of a copy, aside first; renamed once its checksum is that of the manifest."""
        handle, part = tempfile.mkstemp(dir=target.parent, prefix=f".{name}.")
        try:
            with open(handle, "wb") as file:
                request = SnapshotsRequest("read", copy.node, copy.tier, name)
                replies = self._stream(request)
                header = next(replies).file
                size = header.size if header is not None else 0
                receive(replies, file, lambda done: progress(done, size))
            if sha256 and _sha256(Path(part)) != sha256:
                raise ChannelError("it does not match its checksum", "it is damaged on that node")
            umask = os.umask(0o077)
            os.umask(umask)
            Path(part).chmod(0o666 & ~umask)
            Path(part).replace(target)
        finally:
            Path(part).unlink(missing_ok=True)

    def _stream(self, request: SnapshotsRequest) -> Iterator[NodeReply]:
        """The replies of a node, as they come, over a link of their own."""
        on_node(self._handle, SnapshotsRequest("list", request.node), live=self._is_live())
        with self._handle.launcher.connect(self._handle.run) as link:
            yield from ask(link, request)

    def _everywhere(self, request: SnapshotsRequest) -> Found:
        answered, silent = everywhere(self._handle, request)
        found = [each for replies in answered.values() for reply in replies for each in reply.snapshots or ()]
        found.sort(key=lambda each: (-each.fence, -each.step, each.node, each.tier))
        return Found(found, {node: in_short(error) for node, error in silent.items()})

    def _is_live(self) -> bool:
        return not self._handle.status().has_ended


def _none(run: str, found: Found, step: int | None) -> tuple[str, str]:
    """Why there is no snapshot to bring, and what to do."""
    steps = sorted({step for _, step in complete(found.snapshots)})
    if step is not None and steps:
        return (
            f"{run} has no complete snapshot of step {step}",
            f"there are steps {', '.join(map(str, steps))}",
        )
    silent = "; ".join(f"{node}: {why}" for node, why in found.silent.items())
    hint = "a script that uses swarmtrain.trainer takes them; other files come with `swarmtrain fetch`"
    return f"{run} has no complete snapshot" + (f" within reach ({silent})" if silent else ""), hint


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 24):
            digest.update(chunk)
    return digest.hexdigest()
