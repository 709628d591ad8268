"""The nodes' directories as one: which versions of each file there are, and who has them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from swarmtrain.protocol.replies import DirectoryEntry

_SAME_TIME = 1e-3  # seconds: a time that was copied is not the same to the last bit


@dataclass(frozen=True)
class FileVersion:
    """A file or a directory as some nodes have it; other contents under the same path are another version.

    Attributes:
        copies: where it is; at least one, the one to take first.
        newest: no other version of this path was changed later.
    """

    copies: tuple[DirectoryEntry, ...]
    newest: bool

    @property
    def path(self) -> str:
        """Its path in the working directory."""
        return self.copies[0].path

    @property
    def bytes(self) -> int:
        """Its size."""
        return self.copies[0].bytes

    @property
    def directory(self) -> bool:
        """Whether it is one."""
        return self.copies[0].directory

    @property
    def link(self) -> str:
        """Where it leads, if it is a link."""
        return self.copies[0].link

    @property
    def mtime(self) -> float:
        """When it was changed, as Unix time."""
        return max(each.mtime for each in self.copies)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes that have it in its place."""
        return tuple(sorted({each.node for each in self.copies if not each.at}))

    @property
    def kept(self) -> tuple[str, ...]:
        """The nodes that have a copy of it beside their working directory, and not in its place."""
        return tuple(sorted({each.node for each in self.copies if each.at} - set(self.nodes)))


def union(entries: Iterable[DirectoryEntry], first: str) -> list[FileVersion]:
    """All versions, by path, the newest first.

    Args:
        first: the node that is asked before others which have the same: that of rank 0.
    """
    by_path: dict[str, list[DirectoryEntry]] = {}
    for entry in sorted(entries, key=lambda each: (each.path, -each.mtime)):
        by_path.setdefault(entry.path, []).append(entry)
    found: list[FileVersion] = []
    for path in by_path.values():
        versions: list[list[DirectoryEntry]] = []
        for entry in path:
            mine = next((each for each in versions if _is_same(each, entry)), None)
            if mine is None:
                versions.append([entry])
            else:
                mine.append(entry)
        for index, version in enumerate(versions):
            version.sort(key=lambda each: (bool(each.at), each.node != first, each.node))
            found.append(FileVersion(tuple(version), newest=index == 0))
    return found


def holder(versions: Sequence[FileVersion], first: str) -> str:
    """The node that has the most of them in their places, by size and then by number."""
    most: dict[str, tuple[int, int]] = {}
    for version in versions:
        for node in version.nodes:
            size, count = most.get(node, (0, 0))
            most[node] = (size + version.bytes, count + 1)
    return max(most, key=lambda node: (*most[node], node == first), default="")


def _is_same(version: Sequence[DirectoryEntry], other: DirectoryEntry) -> bool:
    """Whether an entry has the content of a version: by the hashes where both are known, else by size and time."""
    return any(
        (each.directory, each.link) == (other.directory, other.link)
        and (each.directory or _is_same_content(each, other))
        for each in version
    )


def _is_same_content(one: DirectoryEntry, other: DirectoryEntry) -> bool:
    if one.sha256 and other.sha256:
        return one.sha256 == other.sha256
    return one.bytes == other.bytes and (bool(one.link) or abs(one.mtime - other.mtime) < _SAME_TIME)
