"""What workers have written in the working directory: which sets have changed, and which of these are finished.

A set is finished when nobody has a file of it open for writing and it has been quiet for a moment. What lies there
when its writers have been killed is finished if it was so before, if all writers ended well, or if the only file that
has changed since is whole by its own format. A stream, such as a log, holds up no set.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from swarmtrain.agent.sharing.formats import whole
from swarmtrain.agent.sharing.record import InPlace, Record, path_of
from swarmtrain.agent.sharing.walk import FileStamp, Rules, open_for_writing, walk
from swarmtrain.protocol.shared_files import HeldVersion, Place, SetReport, SharedFile

QUIET = 2.0  # seconds
# Looks in a row that find a set changed and nothing of it open: it is taken as it is between two of its changes.
RESTLESS = 3
_STREAM_SECONDS = 60.0  # for which a small file is open until it counts as one
_STREAM_BYTES = 64 << 20
_AGAIN = 5  # looks after which what nobody has taken up is told again
_TRIES = 5  # for a file that changes while it is read
_PIECE = 1 << 20

Stamps = dict[str, FileStamp]  # of a set's files, by name


class Unsteady(Exception):
    """A file has changed while it was read.

    Outside of the tree: the tracker looks closer, or says that its set is being written.
    """


class Tracker:
    """Looks at one working directory. Its methods read the disk: they are called in a thread, one at a time.

    Args:
        has: whether a content lies beside the working directory, by its hash.

    Attributes:
        left_out: directories that are not shared, and why.
        is_writing: by the last report, some set is not finished.
        spent: seconds of a processor that the last look took, less what it read of files.
    """

    def __init__(self, work: Path, record: Record, rules: Rules, has: Callable[[str], bool]) -> None:
        self.work, self.record, self._rules, self._has = work, record, rules, has
        self.left_out: dict[str, str] = {}
        self.is_writing = False
        self.spent = 0.0
        self._sets: dict[str, Stamps] = {}  # as they were at the last look
        self._hashes: dict[str, tuple[FileStamp, str]] = {}
        self._turns: Counter[str] = Counter()  # looks in a row that found a set changed
        self._waits: Counter[str] = Counter()  # looks since a set was told of
        self._opened: dict[str, float] = {}  # for writing, at the last look; since when
        self._told: dict[str, tuple[list[SharedFile], list[str]]] = {}
        self._sent = _sent_code(work)

    # ---- looks -----------------------------------------------------------------------------------------------

    def look(self, writers: Callable[[], Sequence[int]]) -> list[SetReport]:
        """A look while workers run: the sets that are finished, and have changed since that was told.

        Args:
            writers: the processes that may write, by their pids; asked for where something has changed.
        """
        began = time.thread_time()
        before = self._walk()
        suspects = [path for path in self._known() if self._moved(path)]
        pids = writers() if suspects else []
        self._note_open(pids)
        self.spent = time.thread_time() - began
        found = []
        for path in suspects:
            self._turns[path] = self._turns[path] + 1 if before.get(path) != self._sets.get(path) else 0
            if (told := self._finished(path, before.get(path, {}), pids)) is not None:
                state = (told.changed, told.gone)
                self._waits[path] = self._waits[path] + 1 if self._told.get(path) == state else 0
                if (told.changed or told.gone) and self._waits[path] % _AGAIN == 0:
                    found.append(told)
                self._told[path] = state
        return found

    def report(self, paths: Iterable[str] | None, writers: Callable[[], Sequence[int]]) -> list[SetReport]:
        """How sets stand while workers run; by default all of them.

        Args:
            writers: as in `look`.
        """
        before, pids = self._walk(), writers()
        self._note_open(pids)
        found = []
        for path in self._known() if paths is None else [each for each in paths if self._is_watched(each)]:
            told = self._finished(path, before.get(path, {}), pids)
            if told is not None:
                self._told[path] = (told.changed, told.gone)
            found.append(told if told is not None else self._told_of(path, [], [], writing=True))
        self.is_writing = any(self._is_unsettled(path) for path in self._known())
        return found

    def settle(self, *, ended_well: bool) -> None:
        """The workers have gone: remember which sets are finished.

        Args:
            ended_well: each of them by itself, with all that it wanted to write.
        """
        ended = time.time()
        self._walk()
        for path in self._known():
            if self._moved(path) and (ended_well or self._is_finished(path, ended)):
                self._finish(path)

    def rest(self) -> list[SetReport]:
        """How all sets stand while no worker runs."""
        self._walk()
        found = []
        for path in self._known():
            writing = not (self.record.fresh or self._is_finished(path))
            try:
                changed, gone = self._changes(path)
            except (Unsteady, OSError):
                continue  # somebody else writes there: it is not ours to judge
            told = self._told_of(path, changed, gone, writing=writing and bool(changed or gone))
            if told.known or changed or gone:
                found.append(told)
        self.is_writing = any(each.writing for each in found)
        return found

    # ---- what is asked of it ---------------------------------------------------------------------------------

    def find(self, sha256: str) -> Path | None:
        """A file in place that has a content, by its hash."""
        for path, stamp in self._with(sha256):
            if _stamp(self.work / path) == stamp:
                return self.work / path
        return None

    def _with(self, sha256: str) -> list[tuple[str, FileStamp]]:
        found = [(path, stamp) for path, (stamp, digest) in list(self._hashes.items()) if digest == sha256]
        for directory, known in list(self.record.sets.items()):
            found += [
                (path_of(directory, name), each.stamp)
                for name, each in list(known.in_place.items())
                if each.sha256 == sha256
            ]
        return found

    def told(self) -> set[str]:
        """The hashes of what was told last of each set."""
        return {file.sha256 for changed, _ in self._told.values() for file in changed}

    def in_place(self, directory: str) -> dict[str, tuple[FileStamp, str]]:
        """The files of a set as they are now, with their hashes. Raises OSError, Unsteady."""
        return {
            name: (stamp, self._hash(path_of(directory, name), stamp))
            for name, stamp in self._sets.get(directory, {}).items()
        }

    def look_again(self) -> None:
        """See what is in place now, where no worker runs."""
        self._walk()

    def why_not(self, directory: str) -> str:
        """Why a set is not shared here; empty where it is."""
        above = _above(directory)
        return next((self.left_out[each] for each in above if each in self.left_out), "")

    def is_stream(self, path: str) -> bool:
        """Whether a file is written on and on."""
        return path in self.record.streams

    def was_sent(self, path: str, sha256: str) -> bool:
        """Whether a file is as it was sent with the code."""
        return self._sent.get(path) == sha256

    def noted(self, directory: str) -> None:
        """A version of a set was noted: what lies there now is no change any more. Raises OSError, Unsteady."""
        found = {}
        for name, (stamp, digest) in self.in_place(directory).items():
            if not self.was_sent(path_of(directory, name), digest):
                found[name] = InPlace(*stamp, digest)
        self.record.of(directory).in_place = found
        self.record.finished.pop(directory, None)

    def placed(self, directory: str) -> None:
        """Files of a set were put in place or removed. Raises OSError, Unsteady."""
        self._walk()
        self.noted(directory)

    def noted_as_told(self, directory: str) -> bool:
        """The same while workers run: what was told of a set is no change any more, and what came since is one."""
        known = self.record.of(directory)
        told, gone = self._told.get(directory, ([], []))
        for name in gone:
            known.in_place.pop(name, None)
        for file in told:
            path = path_of(directory, file.name)
            stamp, digest = self._hashes.get(path, (None, ""))
            if stamp is not None and digest == file.sha256:
                known.in_place[file.name] = InPlace(*stamp, digest)
        return bool(told or gone)

    # ---- inside ----------------------------------------------------------------------------------------------

    def _walk(self) -> dict[str, Stamps]:
        """Look anew; what was seen before."""
        before, self._sets = self._sets, {}
        contents = walk(self.work, self._rules, self.left_out)
        self.left_out |= contents.left_out
        for path, stamp in contents.files.items():
            directory, _, name = path.rpartition("/")
            if self._is_watched(directory):
                self._sets.setdefault(directory, {})[name] = stamp
        return before

    def _known(self) -> list[str]:
        return [path for path in sorted({*self._sets, *self.record.sets}) if self._is_watched(path)]

    def _is_watched(self, directory: str) -> bool:
        """Whether a set and all that it lies in could be read: what is not seen has not gone for that."""
        return not any(each in self.left_out for each in _above(directory))

    def _moved(self, path: str) -> list[str]:
        """The names of what may have changed since the newest version was noted, streams among them, or has gone."""
        known, here = (
            self.record.of(path).in_place if path in self.record.sets else {},
            self._sets.get(path, {}),
        )
        moved = []
        for name, stamp in here.items():
            full = path_of(path, name)
            if name in known and known[name].stamp == stamp:
                continue
            cached = self._hashes.get(full)
            if full in self._sent and name not in known:
                if cached is None or cached[0] != stamp:
                    try:
                        self._hash(full, stamp)
                    except (Unsteady, OSError):
                        moved.append(name)
                        continue
                if self._hashes[full][1] == self._sent[full]:
                    continue
            moved.append(name)
        return moved + [name for name in known if name not in here]

    def _note_open(self, pids: Sequence[int]) -> None:
        """What processes write now, since when, and which of it are streams."""
        now, before = time.monotonic(), self._opened
        self._opened = {}
        for each in open_for_writing(self.work, pids):
            since = self._opened[each.path] = before.get(each.path, now)
            is_old = now - since > _STREAM_SECONDS and self._size(each.path) < _STREAM_BYTES
            if (each.appends or is_old) and not self.is_stream(each.path):
                self.record.streams.append(each.path)

    def _size(self, path: str) -> int:
        directory, _, name = path.rpartition("/")
        stamp = self._sets.get(directory, {}).get(name)
        return stamp.size if stamp is not None else 0

    def _finished(self, path: str, before: Stamps, pids: Sequence[int]) -> SetReport | None:
        """How a set stands that is finished, with its workers alive; None of one that is not."""
        for _ in range(_TRIES):
            try:
                return self._finished_now(path, before)
            except OSError:
                return None
            except Unsteady:  # it is written again and again: look closer
                here = self._sets.get(path, {})
                stamps = {name: _stamp(self.work / path_of(path, name)) for name in here}
                self._sets[path] = {name: stamp for name, stamp in stamps.items() if stamp is not None}
                self._note_open(pids)
        return None

    def _finished_now(self, path: str, before: Stamps) -> SetReport | None:
        """The same. Raises Unsteady, OSError."""
        here, moved = self._sets.get(path, {}), self._moved(path)
        live = [name for name in moved if not self.is_stream(path_of(path, name))]
        if any(path_of(path, name) in self._opened for name in live):
            self._turns[path] = 0
            return None
        known = self.record.of(path).in_place if path in self.record.sets else {}
        if len(live) == 1 and live[0] in here and (live[0] in known or self._turns[path] >= RESTLESS):
            # One file that is written anew again and again: it is whole when it is closed.
            if whole(self.work / path_of(path, live[0])) is False:
                raise Unsteady(live[0])
        elif live and self._turns[path] < RESTLESS:
            now = time.time_ns()
            if any(name in here and abs(now - here[name].changed) < QUIET * 1e9 for name in live):
                return None
            if any(before.get(name) != here.get(name) for name in live):
                return None  # it has changed, or something has gone, since the last look
        changed, gone = self._changes(path)
        changed = [each for each in changed if not self.is_stream(path_of(path, each.name))]
        gone = [name for name in gone if not self.is_stream(path_of(path, name))]
        self._finish(path)
        return self._told_of(path, changed, gone, writing=False)

    def _is_unsettled(self, path: str) -> bool:
        """Whether files of a set were written since it was last found finished; that some have gone does not count."""
        good = self.record.finished.get(path, {})
        here = self._sets.get(path, {})
        return any(
            name in here and good.get(name) != list(here[name]) and not self.is_stream(path_of(path, name))
            for name in self._moved(path)
        )

    def _finish(self, path: str) -> None:
        self.record.finished[path] = {name: list(stamp) for name, stamp in self._sets.get(path, {}).items()}

    def _is_finished(self, path: str, ended: float | None = None) -> bool:
        """Whether a set is finished whose writers have gone, in whatever way.

        Args:
            ended: Unix time of their end; None where nobody knows it any more.
        """
        here, known = self._sets.get(path, {}), self.record.sets.get(path)
        good: Stamps = (
            {name: each.stamp for name, each in known.in_place.items()} if known is not None else {}
        )
        if path in self.record.finished:
            good = {name: FileStamp(*stamp) for name, stamp in self.record.finished[path].items()}
        moved = self._moved(path)
        differing = [name for name in {*moved, *good} if here.get(name) != good.get(name)]
        late = []
        for name in differing:
            full = path_of(path, name)
            if self.is_stream(full):
                if name in here and whole(self.work / full) is False:
                    return False
            elif name in good and name not in moved:
                pass  # it is as it was noted
            elif not self._is_old(path, name, ended):
                late.append(name)
        if len(late) == 1 and late[0] in here and (good or not path):
            return whole(self.work / path_of(path, late[0])) is True
        return not late or self._was_followed(path, late)

    def _was_followed(self, path: str, late: Sequence[str]) -> bool:
        """Whether files are whole by their formats, and their writer had gone on to a directory beside theirs."""
        here = self._sets.get(path, {})
        if not path or not all(name in here and whole(self.work / path_of(path, name)) for name in late):
            return False
        ended = max(stamp.changed for stamp in here.values())
        return any(
            min(stamp.changed for stamp in stamps.values()) > ended
            for other, stamps in self._sets.items()
            if other != path and stamps and other.rpartition("/")[0] == path.rpartition("/")[0] and other
        )

    def _is_old(self, path: str, name: str, ended: float | None) -> bool:
        """Whether a file was left alone for a moment before its writers' end, and is not known to be torn."""
        stamp, full = self._sets.get(path, {}).get(name), path_of(path, name)
        if stamp is None or ended is None or full in self._opened or stamp.changed / 1e9 > ended - QUIET:
            return False
        return whole(self.work / full) is not False

    def _changes(self, path: str) -> tuple[list[SharedFile], list[str]]:
        """What has changed and what has gone since the newest version was noted. Raises Unsteady, OSError."""
        known = self.record.sets[path].in_place if path in self.record.sets else {}
        here, changed = self._sets.get(path, {}), []
        for name in self._moved(path):
            if name not in here:
                continue
            digest = self._hash(path_of(path, name), here[name])
            if name in known and known[name].sha256 == digest:
                known[name] = InPlace(*here[name], digest)  # touched, or written again as it was
            else:
                changed.append(SharedFile(name, here[name].size, digest, here[name].changed / 1e9))
        return changed, [name for name in known if name not in here]

    def _told_of(self, path: str, changed: list[SharedFile], gone: list[str], *, writing: bool) -> SetReport:
        known = self.record.sets.get(path)
        held = [
            HeldVersion(version, [self._place(path, file) for file in version.files])
            for version in (known.known() if known is not None else [])
        ]
        wanted = {file.name for file in held[0].version.files} if held else set()
        noted = known.in_place if known is not None else {}
        extra = [name for name in noted if name not in wanted and name not in gone]
        return SetReport(path, held, changed, gone, extra, writing)

    def _place(self, path: str, file: SharedFile) -> Place:
        if self.is_at_place(path, file):
            return "work"
        return "store" if self._has(file.sha256) else ""

    def is_restless(self, path: str) -> bool:
        """Whether a set is written anew about as often as it is looked at."""
        return self._turns[path] > 1

    def is_at_place(self, directory: str, file: SharedFile) -> bool:
        """Whether a version's file lies in its place, as it was when that was noted."""
        known = self.record.sets.get(directory)
        each = known.in_place.get(file.name) if known is not None else None
        here = self._sets.get(directory, {}).get(file.name)
        return each is not None and each.sha256 == file.sha256 and each.stamp == here

    def is_here(self, directory: str, file: SharedFile) -> bool:
        """Whether a file of this content lay in its place at the last look, noted or not."""
        here = self._sets.get(directory, {}).get(file.name)
        cached = self._hashes.get(path_of(directory, file.name))
        return self.is_at_place(directory, file) or (cached is not None and cached == (here, file.sha256))

    def _hash(self, path: str, stamp: FileStamp) -> str:
        cached = self._hashes.get(path)
        if cached is not None and cached[0] == stamp:
            return cached[1]
        directory, _, name = path.rpartition("/")
        known = self.record.sets.get(directory)
        noted = known.in_place.get(name) if known is not None else None
        if noted is not None and noted.stamp == stamp:
            return noted.sha256
        digest = hashlib.sha256()
        with open(os.open(self.work / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
        if _stamp(self.work / path) != stamp:
            raise Unsteady(path)
        self._hashes[path] = (stamp, digest.hexdigest())
        return digest.hexdigest()


def _above(directory: str) -> list[str]:
    """A directory and all that it lies in."""
    parts = directory.split("/") if directory else []
    return ["", *("/".join(parts[:length]) for length in range(1, len(parts) + 1))]


def _stamp(path: Path) -> FileStamp | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return FileStamp(status.st_size, status.st_mtime_ns, status.st_ino)


def _sent_code(work: Path) -> dict[str, str]:
    """The hashes of what was sent with the code, by path; see agent/code.py."""
    try:
        sent: dict[str, str] = json.loads((work / ".swarmtrain-code.json").read_text())
    except (OSError, ValueError):
        return {}
    return sent
