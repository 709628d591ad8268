"""Contents beside a working directory, and how they are put in place: all files of a set at once, or none.

data/LINEAGE/NODE/shared/contents/   by their hashes; what an agent pulls is there before anything in place is touched
data/LINEAGE/NODE/shared/intent.json what is about to be done to the working directory, while it is done
data/LINEAGE/NODE/aside/             what was in the way, and is in no version: it is nobody's to delete

An agent that dies among the renames leaves the intent, and the next one completes it before workers start.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from swarmtrain.agent.sharing.walk import read_content, stays_inside, text_of
from swarmtrain.errors import ChannelError
from swarmtrain.files import copies
from swarmtrain.files.record import path_of
from swarmtrain.protocol.codec import dump, load
from swarmtrain.protocol.shared_files import LINK, SetVersion, SharedFile, link_text
from swarmtrain.wire.disk import in_place
from swarmtrain.wire.disk.storage import write_whole

_PIECE = 1 << 20
MOST_ASIDE = 8  # times that something was set aside; of more, the oldest goes
_COPY = ".copy"  # of a content that is being copied
_HASH = re.compile(r"[0-9a-f]{64}")
_COPY_BYTES = 256 << 20  # of a file that is copied, should it be written anew before a peer has it


@dataclass
class Move:
    """A content that goes to its place; None: the file that is there goes.

    Attributes:
        source: the name of a copy in the store, where the content goes to several places; empty: it goes itself.
    """

    path: str
    file: SharedFile | None
    source: str = ""


@dataclass
class Intent:
    """What is to be done to the working directory.

    Attributes:
        aside: where what is in the way goes, below the directory of such; empty where nothing does.
        kept: the paths of that.
    """

    moves: list[Move] = field(default_factory=list)
    aside: str = ""
    kept: list[str] = field(default_factory=list)


class Store:
    """The contents of one node.

    Args:
        directory: beside the working directory.
    """

    def __init__(self, directory: Path, work: Path) -> None:
        self._contents, self._intent = directory / copies.CONTENTS, directory / "intent.json"
        self._work, self.aside = work, work.parent / "aside"

    def path(self, sha256: str) -> Path:
        """Where a content is, or would be. Raises OSError for what is no hash: a peer may say anything."""
        if _HASH.fullmatch(sha256) is None:
            raise OSError(f"{sha256[:80]!r} is no SHA-256")
        return self._contents / sha256

    def has(self, sha256: str) -> bool:
        """Whether a content is there."""
        return _HASH.fullmatch(sha256) is not None and self.path(sha256).is_file()

    def copy(self, path: Path, file: SharedFile) -> None:
        """Keep a copy of a file that is about to be written anew, unless it is large or was already. Raises OSError."""
        target = self.path(file.sha256)
        if target.exists() or file.size > min(_COPY_BYTES, self.room()):
            return
        part, digest = target.with_suffix(_COPY), hashlib.sha256()
        with read_content(path) as source, part.open("wb") as copied:
            while piece := source.read(_PIECE):
                digest.update(piece)
                copied.write(piece)
        if digest.hexdigest() == file.sha256:
            part.replace(target)
        else:
            part.unlink()

    def keep(self, needed: Collection[str]) -> None:
        """Remove the contents that no version needs, and what an agent that was killed had copied of one."""
        with contextlib.suppress(OSError):
            for each in self._contents.iterdir():
                if each.suffix == _COPY or each.name.partition(".")[0] not in needed:
                    each.unlink(missing_ok=True)

    def room(self) -> int:
        """Bytes that may be added: a tenth of the disk stays free."""
        self._make()
        disk = os.statvfs(self._contents)
        return max(0, disk.f_frsize * (disk.f_bavail - disk.f_blocks // 10))

    def place(self, moves: Iterable[Move], kept: Iterable[str], aside: str) -> list[str]:
        """Do all of it, or have the next agent do it; the paths that were set aside.

        Args:
            moves: to paths below the working directory; their contents are in the store.
            kept: paths of files in the way that are not to be lost.
            aside: the name of the directory where these go.

        Raises:
            OSError: nothing was done, since something is in the way.
        """
        intent = Intent(list(moves), aside, list(kept))
        for move in intent.moves:
            self._check(move, intent.kept)
        for sha256 in {move.file.sha256 for move in intent.moves if move.file is not None}:
            if not self.has(sha256):
                raise FileNotFoundError(f"{sha256} is not in the store")
        self._make_copies(intent.moves)
        if intent.moves or intent.kept:
            self._make()
            write_whole(self._intent, json.dumps(dump(intent)).encode(), mode=0o600)
            self.complete()
        return intent.kept

    def _make_copies(self, moves: Iterable[Move]) -> None:
        """A content that goes to several places is there as often, before any of them is touched. Raises OSError."""
        seen = set[str]()
        for number, move in enumerate(moves):
            if move.file is not None and move.file.sha256 in seen:
                move.source = f"{move.file.sha256}.{number}"
                shutil.copyfile(self.path(move.file.sha256), self._contents / move.source)
                _sync(self._contents / move.source)
            elif move.file is not None:
                seen.add(move.file.sha256)

    def complete(self) -> bool:
        """Do what is left of what was intended; whether anything was. Raises OSError."""
        try:
            intent = load(Intent, json.loads(self._intent.read_bytes()))
        except FileNotFoundError:
            return False
        except (ValueError, ChannelError) as error:
            raise OSError(f"{self._intent}: {error}") from error
        for path in intent.kept:
            target = self.aside / intent.aside / path
            if not os.path.lexists(target) and os.path.lexists(self._work / path):
                target.parent.mkdir(parents=True, exist_ok=True)
                (self._work / path).rename(target)
        for move in intent.moves:
            if move.file is None:
                if move.path not in intent.kept:
                    (self._work / move.path).unlink(missing_ok=True)
                continue
            self._put(move.path, move.file, self._contents / (move.source or move.file.sha256))
        for directory in {os.path.dirname(move.path) for move in intent.moves if move.file is None}:  # noqa: PTH120
            self._remove_empty(directory)
        self._forget_the_oldest()
        _sync(self._work)
        self._intent.unlink()
        return True

    def _make(self) -> None:
        """Nobody else looks in: what only its owner may read may be there."""
        self._contents.parent.mkdir(0o700, parents=True, exist_ok=True)
        self._contents.mkdir(exist_ok=True)

    def _put(self, path: str, file: SharedFile, source: Path) -> None:
        """A content goes to its place."""
        target = self._work / path
        if not source.exists():
            return  # an agent before this one has done it
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.mode == LINK:
            in_place.link(target, link_text(source.read_bytes()))
            os.utime(target, (file.mtime, file.mtime), follow_symlinks=False)
            source.unlink()
            return
        os.utime(source, (file.mtime, file.mtime))
        source.chmod(file.mode & 0o777)
        source.replace(target)

    def _check(self, move: Move, kept: Collection[str]) -> None:
        """Refuse a path that leads out of the working directory, through what is no directory, or where it cannot go.

        And a link that leads there. Raises OSError.
        """
        path = move.path
        if move.file is not None and move.file.mode == LINK:
            text = link_text(self.path(move.file.sha256).read_bytes())
            if not stays_inside(path, text):
                raise OSError(f"{path!r} would lead out of the working directory, to {text!r}")
        parts = path.split("/")
        if path.startswith("/") or "\0" in path or any(part in ("", ".", "..") for part in parts):
            raise OSError(f"{path!r} leads out of the working directory")
        for length in range(1, len(parts) + 1):
            parent, each = self._work.joinpath(*parts[: length - 1]), self._work.joinpath(*parts[:length])
            mode: int | None = None
            with contextlib.suppress(FileNotFoundError):
                mode = each.lstat().st_mode
            if (mode is None or length == len(parts)) and not os.access(parent, os.W_OK | os.X_OK):
                raise PermissionError(f"{'/'.join(parts[: length - 1]) or self._work} may not be written")
            if mode is None:
                return
            is_last = length == len(parts)
            if is_last and stat.S_ISDIR(mode) and path in kept:
                continue
            if is_last and stat.S_ISLNK(mode) and self._may_go(each, path):
                continue
            if not (stat.S_ISREG(mode) if is_last else stat.S_ISDIR(mode)):
                raise OSError(f"{'/'.join(parts[:length])} is in the way")

    def _may_go(self, link: Path, path: str) -> bool:
        """Whether workers made a link, or one elsewhere has made the large file that it leads to its own."""
        return stays_inside(path, text_of(link)) or str(link.readlink()) in in_place.links(self._work)

    def _remove_empty(self, directory: str) -> None:
        while directory:
            with contextlib.suppress(OSError):
                (self._work / directory).rmdir()
            if (self._work / directory).exists():
                return
            directory = directory.rpartition("/")[0]

    def _forget_the_oldest(self) -> None:
        try:
            found = sorted(self.aside.iterdir(), key=lambda each: each.stat().st_mtime)
        except OSError:
            return
        for each in found[:-MOST_ASIDE]:
            shutil.rmtree(each, ignore_errors=True)


def moves_to(
    version: SetVersion, here: Collection[str], at_place: Collection[str], removable: Collection[str]
) -> list[Move]:
    """What is to be done so that a set is what a version has.

    Args:
        here: names of the files that are there.
        at_place: those that are as the version has them.
        removable: those that may go where the version does not have them.
    """
    wanted = {file.name for file in version.files}
    puts = [
        Move(path_of(version.path, file.name), file) for file in version.files if file.name not in at_place
    ]
    return puts + [
        Move(path_of(version.path, name), None) for name in here if name in removable and name not in wanted
    ]


def _sync(path: Path) -> None:
    """Have a file, or what was renamed in a directory, last, also when the power goes."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
