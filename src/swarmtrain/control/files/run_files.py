"""The files of a run, on all of its nodes as if they were one: what there is, and some of it here.

Nodes share no disk, so what a script has written may be on one node alone, or as one version here and another there.
Of each file the newest is taken, from whichever node has it.
"""

from __future__ import annotations

import os
import posixpath
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from swarmtrain.control.files.everywhere import everywhere
from swarmtrain.control.files.transfer import Fetched, bring, check_free, fetch, place_for, reaching
from swarmtrain.control.files.union import FileVersion, holder, union
from swarmtrain.control.files.unpack import put, unpack
from swarmtrain.control.views import format
from swarmtrain.errors import ChannelError, ClusterError, RequestError, SwarmtrainError, in_short
from swarmtrain.protocol.replies import DirectoryEntry
from swarmtrain.protocol.requests import ListRequest

_MOST_LINKS = 8  # that are followed to a file

if TYPE_CHECKING:
    from swarmtrain.control.handle import RunHandle
    from swarmtrain.wire.link import Link


@dataclass(frozen=True)
class Listing:
    """What the nodes have.

    Attributes:
        versions: by path, the newest of each first; what was asked for itself is not among what lies in it.
        directory: whether what was asked for is one.
        silent: nodes that could not be asked, and why.
    """

    versions: list[FileVersion] = field(default_factory=list)
    directory: bool = True
    silent: dict[str, str] = field(default_factory=dict)


class Unlisted(ClusterError):
    """The run's coordinator is of a version that lists no files of several nodes."""


class RunFiles:
    """The files of one run."""

    def __init__(self, handle: RunHandle) -> None:
        self._handle = handle

    def listing(self, path: str = ".", *, recursive: bool = False) -> Listing:
        """What lies in a directory, on all nodes; of a file, its versions.

        Args:
            path: relative to the workers' working directory, or ``snapshots/...``.
            recursive: also what lies in the directories in it.

        Raises:
            RequestError: no node has it. ClusterError: none can be asked.
        """
        answered, silent = everywhere(self._handle, ListRequest(path, recursive=recursive))
        words = {node: in_short(error) for node, error in silent.items()}
        if not answered:
            raise self._nowhere(path, silent)
        itself, inside = list[DirectoryEntry](), list[DirectoryEntry]()
        for replies in answered.values():
            found = [each for reply in replies for each in reply.entries or ()]
            if not found or found[0].path != ".":
                raise Unlisted(
                    f"{self._handle.id} is of an earlier version, which does not list its files",
                    f"`swarmtrain exec {self._handle.id} NODE -- ls -R` does, while it is live",
                )
            itself += [replace(each, path=path) for each in found if each.path == "."]
            prefix = "" if posixpath.normpath(path) == "." else f"{posixpath.normpath(path)}/"
            inside += [replace(each, path=prefix + _checked(each.path)) for each in found if each.path != "."]
        # A node that has a link in its place tells of what it leads to, which others keep as a link.
        itself = [each for each in itself if not each.link] or itself
        is_directory = union(itself, "")[0].directory
        lacking = {node: why for node, why in words.items() if not isinstance(silent[node], RequestError)}
        return Listing(union(inside if is_directory else itself, self._first()), is_directory, lacking)

    def fetch(
        self,
        path: str,
        to: Path | None = None,
        *,
        node: str | None = None,
        name: str = "",
        overwrite: bool = False,
    ) -> Fetched:
        """Bring the newest of a file, or of each file in a directory, from whichever nodes have it.

        Args:
            to: the file or directory it becomes, or an existing directory it is put into.
            node: as this one has it.
            name: what it is called where `to` does not say; its own name by default.

        Raises:
            RequestError: no node has it, or there is something of that name here. ClusterError: it does not arrive.
        """
        if not path.strip():
            raise RequestError("an empty path names no file", "`.` is the whole working directory")
        if node is not None:
            return self._on(node, path, name, to, overwrite=overwrite)
        try:
            leads, listing = self._followed(path)
        except Unlisted:  # then it is of the node that its coordinator takes, that of rank 0
            return self._on(None, path, name, to, overwrite=overwrite)
        newest = [each for each in listing.versions if each.newest]
        name = name or posixpath.basename(posixpath.normpath(path)).strip(".") or "work"
        if not listing.directory:
            return replace(self._file(newest[0], name, to, overwrite=overwrite), silent=listing.silent)
        most = holder(newest, self._first())
        if most and all(most in each.nodes for each in newest):
            found = self._on(most, leads, name, to, overwrite=overwrite)
        else:
            found = self._gathered(leads, newest, most, place_for(name, to), overwrite=overwrite)
        return replace(found, silent=listing.silent)

    def _followed(self, path: str) -> tuple[str, Listing]:
        """What is there; of a link whose copies alone are left, what it leads to, and where that is.

        Raises as `listing`.
        """
        leads = path
        for _ in range(_MOST_LINKS):
            try:
                listing = self.listing(leads, recursive=True)
            except Unlisted:
                raise
            except SwarmtrainError:
                leads = self._through_a_link(leads)
                if not leads:
                    raise
                continue
            if listing.directory or not (link := listing.versions[0].link):
                return leads, listing
            leads = _led(leads, link)
        raise RequestError(f"{format.name(path)} leads through more than {_MOST_LINKS} links")

    def _through_a_link(self, path: str) -> str:
        """Where a path leads which goes through a link that nodes keep as a copy; empty where it does not."""
        below, (above, _, name) = "", posixpath.normpath(path).rpartition("/")
        while above:
            below = posixpath.join(name, below) if below else name
            try:
                found = self.listing(above)
            except SwarmtrainError:
                above, _, name = above.rpartition("/")
                continue
            link = "" if found.directory else found.versions[0].link
            return posixpath.join(_led(above, link), below) if link else ""
        return ""

    def _file(self, version: FileVersion, name: str, to: Path | None, *, overwrite: bool) -> Fetched:
        """A file from the first of the nodes that sends it whole."""
        failed: list[str] = []
        for copy in version.copies:
            try:
                return self._on(copy.node, copy.at or copy.path, name, to, overwrite=overwrite)
            except RequestError:
                raise
            except SwarmtrainError as error:
                failed.append(f"{format.name(copy.node)}: {in_short(error)}")
        raise ClusterError(
            f"{format.name(version.path)} does not arrive from {'; '.join(failed)}", "try again"
        )

    def _on(self, node: str | None, path: str, name: str, to: Path | None, *, overwrite: bool) -> Fetched:
        def ask(link: Link, where: str | None) -> Fetched:
            return fetch(link, path, to, where, overwrite=overwrite, name=name)

        return reaching(self._handle.launcher, self._handle.run, node, ask)

    def _gathered(
        self, path: str, newest: Sequence[FileVersion], most: str, target: Path, *, overwrite: bool
    ) -> Fetched:
        """A directory whose files are on several nodes: one's, and of the others what that does not have."""
        check_free(target, overwrite=overwrite)
        lacking = [each for each in newest if most not in each.nodes]
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            # on the same disk, so that moving copies nothing
            base = target if target.is_dir() else target.parent
            with tempfile.TemporaryDirectory(dir=base, prefix=".fetch-") as directory:
                aside = Path(directory) / "new"
                packed = Path(directory) / "packed"
                size, left_out = self._packed(most, path, packed, aside) if most else (0, [])
                aside.mkdir(exist_ok=True)
                wanted = _wanted(lacking, path, aside)
                for node, each in wanted.items():
                    size += self._each(node, each)
                put(aside, target)
        except OSError as error:
            raise RequestError(
                f"{format.name(target)} cannot be written: {error.strerror or error}"
            ) from error
        left_out += [
            f"{format.name(os.path.relpath(each.path, path))}, a link to {format.name(each.link)}"
            for each in lacking
            if each.link
        ]
        nodes = ", ".join(sorted({*wanted, most} - {""}))
        return Fetched(target, nodes, size, directory=True, left_out=tuple(left_out))

    def _packed(self, node: str, path: str, part: Path, aside: Path) -> tuple[int, list[str]]:
        """One node's directory, unpacked; how many bytes came, and what was left out."""

        def ask(link: Link, where: str | None) -> int:
            return bring(link, path, where, part)

        size = reaching(self._handle.launcher, self._handle.run, node, ask)
        left_out = unpack(part, aside)
        part.unlink()
        return size, left_out

    def _each(self, node: str, wanted: Sequence[tuple[DirectoryEntry, Path]]) -> int:
        """Some files of one node; how many bytes came."""

        def ask(link: Link, where: str | None) -> int:
            size = 0
            for copy, place in wanted:
                size += bring(link, copy.at or copy.path, where, place)
                os.utime(place, (copy.mtime, copy.mtime))
            return size

        return reaching(self._handle.launcher, self._handle.run, node, ask)

    def _first(self) -> str:
        """The node of rank 0; empty where there is none yet."""
        workers = self._handle.status().workers
        return workers[0].node if workers else ""

    def _nowhere(self, path: str, silent: dict[str, SwarmtrainError]) -> SwarmtrainError:
        """Why nobody has it."""
        if not silent:
            return ClusterError("no node of this run has started yet, so there is nothing there")
        for error in silent.values():
            if not isinstance(error, RequestError):
                told = "; ".join(f"{node}: {in_short(each)}" for node, each in silent.items())
                return ClusterError(f"{format.name(path)} was not found: {told}", error.hint)
            if not error.message.startswith(f"there is no {path} on "):
                return error
        return RequestError(
            f"there is no {format.name(path)} on {' or '.join(silent)}",
            f"`swarmtrain ls -R {self._handle.id}` lists what there is; paths are relative to the working directory",
        )


def _led(path: str, link: str) -> str:
    """Where a link leads that lies at a path."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link))


def _wanted(
    versions: Sequence[FileVersion], path: str, aside: Path
) -> dict[str, list[tuple[DirectoryEntry, Path]]]:
    """By node, the files that come from it and where they go; the directories among them are made at once."""
    wanted: dict[str, list[tuple[DirectoryEntry, Path]]] = {}
    for version in versions:
        place, copy = aside / os.path.relpath(version.path, path), version.copies[0]
        if version.directory:
            place.mkdir(parents=True, exist_ok=True)
        elif not version.link:
            place.parent.mkdir(parents=True, exist_ok=True)
            wanted.setdefault(copy.node, []).append((copy, place))
    return wanted


def _checked(path: str) -> str:
    """A path below a directory, as a node names it: it must not lead elsewhere. Raises ChannelError."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\0" in path or not pure.parts:
        raise ChannelError(f"{path!r} leads out of the directory")
    return path
