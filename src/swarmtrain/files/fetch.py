"""Files and directories of a node: where they are, and the replies to `fetch`."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from swarmtrain.errors import RequestError
from swarmtrain.protocol.replies import Done, FileHeader, NodeReply
from swarmtrain.wire.disk import in_place
from swarmtrain.wire.disk.storage import Storage

if TYPE_CHECKING:
    import tarfile

_PIECE = 1 << 20


def locate(storage: Storage, lineage: str, node: str, path: str) -> Path:
    """The file of a node that ``path`` names: relative to its working directory, else to its data directory.

    Raises:
        RequestError: it leads outside of the run's data, or there is no such file.
    """
    work = storage.work(lineage, node)
    for base in (work, work.parent):
        candidate = base / path
        leads = str(candidate.readlink()) if candidate.is_symlink() else ""
        if leads in in_place.links(work):
            raise RequestError(
                f"{path} was not copied to {node}: it is used where it lies, at {leads}",
                "take it from there",
            )
        # Not Path.resolve, which raises RuntimeError where links lead in a circle.
        if not Path(os.path.realpath(candidate)).is_relative_to(os.path.realpath(work.parent)):
            raise RequestError(
                f"{path} lies outside of the run's directories",
                f"name a file below {work} or {storage.snapshots(lineage, node)}",
            )
        if candidate.exists():
            return candidate
    raise RequestError(
        f"there is no {path} on {node}", "paths are relative to the workers' working directory"
    )


def send(path: Path, node: str) -> Iterator[NodeReply]:
    """The replies to `fetch`: what comes, its pieces, and the checksum. A directory comes as a tar.

    A run may be at work on the files: what goes meanwhile is left out, and what grows comes as it was at first.

    Raises:
        RequestError: it is neither a file nor a directory. OSError: it cannot be read.
    """
    directory = path.is_dir()
    if not directory and not path.is_file():
        raise RequestError(f"{path.name} is neither a file nor a directory")
    with tempfile.TemporaryFile() if directory else path.open("rb") as opened:
        source = cast("IO[bytes]", opened)
        if directory:
            import tarfile  # which no process waits for that starts

            with tarfile.open(fileobj=source, mode="w") as archive:
                _pack(archive, path.resolve(), path.name)
        size = source.seek(0, 2)
        source.seek(0)
        yield NodeReply(file=FileHeader(path.name, directory, size, node))
        digest = hashlib.sha256()
        while piece := source.read(min(_PIECE, size - source.tell())):
            digest.update(piece)
            yield NodeReply(data=base64.b64encode(piece).decode("ascii"))
        yield NodeReply(done=Done(bytes=source.tell(), sha256=digest.hexdigest()))


def _pack(archive: tarfile.TarFile, root: Path, name: str) -> None:
    """Add a file or a directory, less what has gone since it was listed. Links are added as links. Raises OSError."""
    waiting = [(root, name)]
    while waiting:  # not by calls in calls, however deep it is
        path, its = waiting.pop()
        try:
            archive.add(path, arcname=its, recursive=False)
            below = sorted(path.iterdir(), reverse=True) if not path.is_symlink() and path.is_dir() else []
        except FileNotFoundError:
            continue
        waiting += [(each, f"{its}/{each.name}") for each in below if each.name != in_place.RECORD]
