"""A file or directory of a node, brought to this machine: whole and checked, or not at all."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from swarmtrain.control.files.unpack import unpack
from swarmtrain.control.views import format
from swarmtrain.errors import ChannelError, ClusterError, RequestError
from swarmtrain.protocol.ask import ask
from swarmtrain.protocol.replies import FileHeader, NodeReply
from swarmtrain.protocol.requests import FetchRequest

if TYPE_CHECKING:
    from swarmtrain.launchers.base import Launcher, Run
    from swarmtrain.wire.link import Link

T = TypeVar("T")

_REACH_SECONDS = 60.0  # for a helper on another node to serve that node's files


@dataclass(frozen=True)
class Fetched:
    """What arrived."""

    path: Path  # where it is now
    node: str  # where it came from; several, with commas between, where it came from several
    bytes: int  # what was transferred
    directory: bool = field(default=False, kw_only=True)
    left_out: tuple[str, ...] = ()  # of a directory, with the reasons
    silent: Mapping[str, str] = field(default_factory=dict)  # nodes that could not be asked, and why


class OutOfReach(ClusterError):
    """The node's agent has ended; the node's files must be made reachable first."""

    def __init__(self, node: str) -> None:
        super().__init__(f"the agent on {node} has ended")
        self.node = node


def reaching(launcher: Launcher, run: Run, node: str | None, ask: Callable[[Link, str | None], T]) -> T:
    """What ``ask`` returns, once the node that it asks is within reach.

    Args:
        node: the node; None leaves the choice to the coordinator, once.

    Raises:
        OutOfReach: it is not within a minute.
    """
    end = time.monotonic() + _REACH_SECONDS
    while True:
        with launcher.connect(run) as link:
            try:
                return ask(link, node)
            except OutOfReach as error:
                if time.monotonic() >= end:
                    raise
                node = error.node
        launcher.reach(run, node)
        time.sleep(0.2)


def fetch(
    link: Link, path: str, to: Path | None, node: str | None, *, overwrite: bool = False, name: str = ""
) -> Fetched:
    """Ask for ``path`` and put it at ``to`` once all of it is here and its checksum is right.

    Args:
        to: the file or directory it becomes, or an existing directory it is put into; its own name in the current
            directory by default.
        overwrite: replace files that are there already; others in a directory that is there stay.
        name: what it is called here; as the node calls it by default.

    Raises:
        RequestError: nothing is named, there is nothing of that name there, or something of that name here; or it
            cannot be written here.
        OutOfReach: nobody on that node answers.
        ChannelError: what arrived is not what was sent.
    """
    header, replies = _asked(link, path, node)
    name = name or Path(header.name).name
    if name in ("", ".."):  # the node's word, which must not lead elsewhere
        name = "files"
    target = place_for(name, to)
    check_free(target, overwrite=overwrite)
    left_out: list[str] = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=target.parent, prefix=".fetch-")
        try:
            with open(handle, "wb") as file:
                size = receive(replies, file)
            if header.directory:
                left_out = unpack(Path(part), target)
            else:
                Path(part).chmod(0o666 & ~umask())
                Path(part).replace(target)
        finally:
            Path(part).unlink(missing_ok=True)
    except OSError as error:
        raise RequestError(f"{format.name(target)} cannot be written: {error.strerror or error}") from error
    return Fetched(target, header.node, size, directory=header.directory, left_out=tuple(left_out))


def bring(link: Link, path: str, node: str | None, place: Path) -> int:
    """Write what a node sends of a file, or a directory as a tar, into a file that nobody uses yet; return its size.

    Raises:
        RequestError, OutOfReach, ChannelError: as `fetch`. OSError: it cannot be written here.
    """
    _, replies = _asked(link, path, node)
    with place.open("wb") as file:
        return receive(replies, file)


def place_for(name: str, to: Path | None) -> Path:
    """What something of that name becomes here."""
    if to is None:
        return Path(name)
    return to / name if to.is_dir() else to


def check_free(target: Path, *, overwrite: bool) -> None:
    """Refuse to replace what nobody has asked to. Raises RequestError."""
    if os.path.lexists(target) and not overwrite:
        raise RequestError(
            f"{format.name(target)} exists already", "give another place with -o, or --force to replace it"
        )


def _asked(link: Link, path: str, node: str | None) -> tuple[FileHeader, Iterator[NodeReply]]:
    """What a node says that comes, and the replies that bring it."""
    replies = ask(link, FetchRequest(path, node or ""))
    first = next(replies)
    if first.reach:
        raise OutOfReach(first.reach)
    if first.file is None:
        raise ChannelError("the node sent no file", "try again")
    return first.file, replies


def receive(
    replies: Iterator[NodeReply], into: BinaryIO, progress: Callable[[int], None] = lambda size: None
) -> int:
    """The pieces of one file, whole and flushed to the disk; return its size.

    Args:
        progress: is told how many bytes have come so far.

    Raises:
        ChannelError: what arrived is not what was sent.
    """
    digest = hashlib.sha256()
    size = 0
    for reply in replies:
        if reply.data:
            data = base64.b64decode(reply.data)
            into.write(data)
            digest.update(data)
            size += len(data)
            progress(size)
        if reply.done is not None and reply.done.sha256 != digest.hexdigest():
            raise ChannelError("the file was damaged on its way", "try again")
    into.flush()
    os.fsync(into.fileno())
    return size


def umask() -> int:
    """What this process takes away from the modes of new files."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
