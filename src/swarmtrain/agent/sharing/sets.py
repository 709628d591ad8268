"""The sets of a working directory: as they were at the last look, and against what was noted of them.

Whether a set that has changed is finished, tracker.py says.
"""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from swarmtrain.agent.sharing.formats import INDEX, Pointers, named, partners
from swarmtrain.agent.sharing.hashes import Hashes, Unsteady
from swarmtrain.agent.sharing.walk import NotShared, Rules, is_temporary, text_of, walk
from swarmtrain.files.record import FileStamp, InPlace, Record, above, path_of, stamp_of
from swarmtrain.protocol.shared_files import (
    LINK,
    HeldVersion,
    Place,
    SetReport,
    SetVersion,
    SharedFile,
    link_content,
)

Stamps = dict[str, FileStamp]  # of a set's files, by name


class Sets:
    """Those of one node. Its methods read the disk: they are called in a thread, one at a time.

    Args:
        stored: where a content lies beside the working directory, by its hash; None where it does not.

    Attributes:
        here: the files of each set at the last look.
        left_out: directories that are not shared.
        unreadable: paths of files that are not, since they may not be read.
    """

    def __init__(
        self, work: Path, record: Record, rules: Rules, stored: Callable[[str], Path | None]
    ) -> None:
        self.work, self.record, self._rules, self._stored = work, record, rules, stored
        self.hashes = Hashes(work, record)
        self.here: dict[str, Stamps] = {}
        self.left_out: dict[str, NotShared] = {}
        self.unreadable: set[str] = set()
        self._pointers = Pointers()
        self._sent = _sent_code(work)

    # ---- looks -----------------------------------------------------------------------------------------------

    def look(self) -> dict[str, Stamps]:
        """Look anew; what was here before."""
        before, self.here = self.here, {}
        contents = walk(self.work, self._rules, self.left_out)
        self.left_out = contents.left_out
        for path, stamp in contents.files.items():
            directory, _, name = path.rpartition("/")
            self.here.setdefault(directory, {})[name] = stamp
        return before

    def look_closer(self, path: str) -> None:
        """See how the files of one set are by now."""
        stamps = {name: stamp_of(self.work / path_of(path, name)) for name in self.files(path)}
        self.here[path] = {name: stamp for name, stamp in stamps.items() if stamp is not None}

    def files(self, path: str) -> Stamps:
        """The files of a set at the last look."""
        return self.here.get(path, {})

    def noted(self, path: str) -> dict[str, InPlace]:
        """The files of a set when a version of it was noted last."""
        known = self.record.sets.get(path)
        return known.in_place if known is not None else {}

    def knows(self, path: str) -> bool:
        """Whether a file is here, or was when a version of its set was noted."""
        directory, _, name = path.rpartition("/")
        return name in self.files(directory) or name in self.noted(directory)

    def paths(self) -> list[str]:
        """All sets, also those of which nothing is left."""
        return [path for path in sorted({*self.here, *self.record.sets}) if self.is_watched(path)]

    def is_watched(self, path: str) -> bool:
        """Whether a set and all that it lies in could be read: what is not seen has not gone for that."""
        return not self.why_not(path)

    def why_not(self, path: str) -> str:
        """Why a set is not shared here; empty where it is."""
        for each in above(path):
            left = self.left_out.get(each)
            if left is not None and (left.below or each == path):
                return left.why
        return ""

    # ---- what has changed ------------------------------------------------------------------------------------

    def moved(self, path: str) -> list[str]:
        """The names of what may have changed since the newest version was noted, streams among them, or has gone."""
        here = self.files(path)
        changed = [name for name, stamp in here.items() if not self._is_as_noted(path, name, stamp)]
        return changed + [name for name in self.noted(path) if name not in here]

    def _is_as_noted(self, path: str, name: str, stamp: FileStamp) -> bool:
        """Whether a file is as it was noted, or as it was sent where it is in no version."""
        noted = self.noted(path).get(name)
        if noted is not None:
            return noted.stamp == stamp
        full = path_of(path, name)
        try:
            return full in self._sent and self.was_sent(full, self.hashes.of(full, stamp))
        except (Unsteady, OSError):
            return False

    def changes(self, path: str) -> tuple[list[SharedFile], list[str]]:
        """What has changed and what has gone since the newest version was noted, but for temporary files.

        Raises Unsteady, OSError.
        """
        noted, here, changed = self.noted(path), self.files(path), []
        for name in self.moved(path):
            if name not in here or is_temporary(name):
                continue
            if (digest := self._readable(path_of(path, name), here[name])) is None:
                continue
            is_same = name in noted and noted[name].sha256 == digest
            if is_same and not partners(self.work / path_of(path, name)):
                noted[name] = InPlace(*here[name], digest)  # touched, or written again as it was
            else:
                changed.append(self._shared(path, name, digest))
        return changed, [name for name in noted if name not in here]

    def _shared(self, path: str, name: str, digest: str) -> SharedFile:
        """A file as it is told of. Raises OSError."""
        stamp, at = self.files(path)[name], self.work / path_of(path, name)
        size, mode = stamp.size, stat.S_IMODE(at.lstat().st_mode)
        if at.is_symlink():
            size, mode = len(link_content(text_of(at))), LINK
        return SharedFile(name, size, digest, stamp.changed / 1e9, mode=mode)

    def report(
        self,
        path: str,
        changed: list[SharedFile],
        gone: list[str],
        *,
        writing: bool,
        elder: SetVersion | None = None,
    ) -> SetReport:
        """How a set stands.

        Args:
            elder: as in `SetReport`.
        """
        known, noted = self.record.sets.get(path), self.noted(path)
        held = [
            HeldVersion(
                version,
                [self._place(path, file) for file in version.files],
                sorted(self.names(path, version.files)),
            )
            for version in (known.known() if known is not None else [])
        ]
        wanted = {file.name for file in held[0].version.files} if held else set()
        extra = [name for name in noted if name not in wanted and name not in gone]
        needs = {name for file in changed for name in partners(self.work / path_of(path, file.name))}
        index = INDEX if any(file.name == INDEX for file in changed) and needs else ""
        names = sorted(self.names(path, changed))
        return SetReport(path, held, changed, gone, extra, writing, sorted(needs), index, names, elder)

    def _place(self, path: str, file: SharedFile) -> Place:
        if self.is_at_place(path, file):
            return "work"
        return "store" if self._stored(file.sha256) is not None else ""

    def names(self, path: str, files: Iterable[SharedFile]) -> set[str]:
        """The checkpoints that files of a set name, by the paths of their sets; see formats.py."""
        found, others = set[str](), {*self.here, *self.record.sets} - {path}
        for file in files:
            at = self._stored(file.sha256)
            if at is None and self.is_here(path, file):
                at = self.work / path_of(path, file.name)
            found |= named(self._pointers.words(file.sha256, file.size, at), others)
        return found

    # ---- one file --------------------------------------------------------------------------------------------

    def is_stream(self, path: str) -> bool:
        """Whether a file is written on and on."""
        return path in self.record.streams

    def was_sent(self, path: str, sha256: str) -> bool:
        """Whether a file is as it was sent with the code."""
        return self._sent.get(path) == sha256

    def is_at_place(self, path: str, file: SharedFile) -> bool:
        """Whether a version's file lies in its place, as it was when that was noted."""
        each = self.noted(path).get(file.name)
        return (
            each is not None and each.sha256 == file.sha256 and each.stamp == self.files(path).get(file.name)
        )

    def is_here(self, path: str, file: SharedFile) -> bool:
        """Whether a file of this content lay in its place at the last look, noted or not."""
        stamp = self.files(path).get(file.name)
        read = self.hashes.read_last(path_of(path, file.name))
        return self.is_at_place(path, file) or read == (stamp, file.sha256)

    def was_written_over(self, path: str, file: SharedFile) -> bool:
        """Whether a file is another than when it was noted, and no other file has taken its place for that."""
        noted, here = self.noted(path).get(file.name), self.files(path).get(file.name)
        return noted is not None and here is not None and noted.inode == here.inode

    def touched(self, path: str, name: str) -> float:
        """When a set's file was written, renamed or given the times of another; Unix time."""
        try:
            status = (self.work / path_of(path, name)).lstat()
        except OSError:
            return time.time()
        return max(status.st_mtime_ns, status.st_ctime_ns) / 1e9

    # ---- versions --------------------------------------------------------------------------------------------

    def in_place(self, path: str) -> dict[str, str]:
        """The hashes of a set's files as they are now. Raises OSError, Unsteady."""
        found = {name: self._readable(path_of(path, name), stamp) for name, stamp in self.files(path).items()}
        return {name: digest for name, digest in found.items() if digest is not None}

    def _readable(self, path: str, stamp: FileStamp) -> str | None:
        """The hash of a file; None where it may not be read. Raises OSError, Unsteady."""
        try:
            digest = self.hashes.of(path, stamp)
        except PermissionError:
            self.unreadable.add(path)
            return None
        self.unreadable.discard(path)
        return digest

    def placed(self, path: str) -> None:
        """A version was put in place: what lies there now is no change any more. Raises OSError, Unsteady."""
        self.look()
        found = {}
        for name, digest in self.in_place(path).items():
            if not self.was_sent(path_of(path, name), digest):
                found[name] = InPlace(*self.files(path)[name], digest)
        self.record.of(path).in_place = found
        self.record.finished.pop(path, None)

    def note(self, path: str, told: list[SharedFile], gone: list[str]) -> None:
        """A version was made of what was told of a set: that is no change any more, and what came since is one."""
        noted = self.record.of(path).in_place
        for name in gone:
            noted.pop(name, None)
        for file in told:
            stamp, digest = self.hashes.read_last(path_of(path, file.name))
            if stamp is not None and digest == file.sha256:
                noted[file.name] = InPlace(*stamp, digest)


def _sent_code(work: Path) -> dict[str, str]:
    """The hashes of what was sent with the code, by path; see agent/code.py."""
    try:
        sent: dict[str, str] = json.loads((work / ".swarmtrain-code.json").read_text())
    except (OSError, ValueError):
        return {}
    return sent
