"""The versions that a node holds: what is missing of one, how one comes to its place, and what is kept for them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from swarmtrain.agent.sharing.sets import Sets
from swarmtrain.agent.sharing.store import Store, moves_to
from swarmtrain.agent.sharing.succession import put_in_order
from swarmtrain.agent.sharing.tracker import Tracker
from swarmtrain.agent.sharing.walk import MOST_DIRECTORIES, Rules, remove_hollow
from swarmtrain.files import copies
from swarmtrain.files.record import Record, order, path_of
from swarmtrain.protocol.shared_files import LINK, SetReport, SetVersion, SharedFile
from swarmtrain.wire.clock import MACHINE, Clock

# For so long, a version may still be made of what was told of sets and files that have gone.
UNUSED_SECONDS = 600.0


class Holdings:
    """Those of one node, which are in its working directory and beside it.

    Its methods use the disk: they are called in a thread, one at a time, but for `locate` and `missing`.

    Args:
        directory: beside the working directory.

    Raises:
        OSError: what an agent before this one has begun to put in place cannot be completed.
    """

    def __init__(self, work: Path, directory: Path, rules: Rules, clock: Clock = MACHINE) -> None:
        self._record_path, self._rules = directory / copies.RECORD, rules
        self.record = Record.read(self._record_path)
        self.store = Store(directory, work)
        self.sets = Sets(work, self.record, rules, lambda sha256: self._stored(sha256))
        self.tracker = Tracker(self.sets, clock)
        self._sets_gone, self._files_gone = Forgetting(), Forgetting()
        self._finished = dict(self.record.finished)  # as it was written down
        self.store.complete()

    def look(self, writers: Callable[[], Sequence[int]]) -> list[SetReport]:
        """What has come to rest while workers run; what they are about to write over is copied. Raises OSError.

        A set that is looked at about as often as it is written, or a file that was written over before: what it has is
        on a peer else, and nowhere where that is lost while it is written again.

        Args:
            writers: as in `Tracker.look`.
        """
        found = self.tracker.look(writers)
        for report in found:
            for file in report.changed:
                is_restless = self.tracker.is_restless(report.path, file.name)
                if is_restless or self.sets.was_written_over(report.path, file):
                    with contextlib.suppress(OSError):  # it has gone meanwhile, or cannot be kept
                        self.store.copy(self.sets.work / path_of(report.path, file.name), file)
        self._forget()
        return found

    def _forget(self) -> None:
        """What was known of sets and files that are neither here nor in what was noted."""
        sets, finished, hashes = self.sets, self.record.finished, self.sets.hashes
        known = self.tracker.remembered() | finished.keys()
        for path in self._sets_gone.overdue(p for p in known if not sets.files(p) and not sets.noted(p)):
            self.tracker.forget(path)
            finished.pop(path, None)
        files = hashes.remembered() | set(self.record.streams)
        for path in self._files_gone.overdue(file for file in files if not sets.knows(file)):
            hashes.forget(path)
            if path in self.record.streams:
                self.record.streams.remove(path)

    def remove_hollow(self) -> list[str]:
        """The workers were killed just now: remove directories in which they had written nothing yet; which."""
        return [] if self.record.fresh else remove_hollow(self.sets.work, self._rules, time.time())

    def note(self, versions: Sequence[SetVersion], *, behind: bool = False) -> None:
        """Versions hold from now on.

        Args:
            behind: copies are on their way here. What was deleted meanwhile, since one of them is newer, is kept here
                until they have come: their only owner may be lost first.
        """
        if not behind:
            self.catch_up()
        for version in versions:
            known = self.record.of(version.path)
            if order(known.newest) > order(version):
                continue
            if order(known.newest) < order(version):
                self.tracker.noted(version.path)
            known.newest = version
            is_kept = behind and not version.files and known.whole is not None
            if not is_kept and all(self.sets.is_at_place(version.path, file) for file in version.files):
                known.whole = version
        self.record.forget_the_oldest()

    def catch_up(self) -> None:
        """All copies that were ordered have come: what was deleted is not needed any more."""
        for known in self.record.sets.values():
            if known.newest is not None and not known.newest.files:
                known.whole = known.newest

    def is_overtaken(self, version: SetVersion) -> bool:
        """Whether there is a newer one, and so nothing is lost if this one does not come."""
        known = self.record.sets.get(version.path)
        return known is not None and order(known.newest) > order(version)

    def missing(self, version: SetVersion) -> dict[str, SharedFile]:
        """What of a version is neither in place here nor in the store, by its hash."""
        return {
            file.sha256: file
            for file in version.files
            if not self.sets.is_here(version.path, file) and not self.store.has(file.sha256)
        }

    def place(self, version: SetVersion, aside: str) -> list[str]:
        """Put a version in place, of which nothing is missing; what was set aside for it. Raises OSError, Unsteady.

        Args:
            aside: the name of the directory where that goes.
        """
        if why := self.sets.why_not(version.path):
            raise OSError(f"it is not shared here: {why}")
        here = self.sets.in_place(version.path)
        paths = {name: path_of(version.path, name) for name in here}
        known = self.record.of(version.path)
        # What others have gone on without, or what was lost in part, is nowhere else.
        follows = version.fence <= self.record.fence and not version.lost
        committed = {
            file.sha256 for each in (*(known.known() if follows else ()), version) for file in each.files
        }
        streams = {name for name in here if self.sets.is_stream(paths[name])}
        sent = {name for name, sha256 in here.items() if self.sets.was_sent(paths[name], sha256)}
        at_place = {file.name for file in version.files if here.get(file.name) == file.sha256}
        wanted = {file.name for file in version.files}
        if hidden := sorted(wanted & (self.sets.files(version.path).keys() - here.keys())):
            raise OSError(f"{hidden[0]} is in the way, and may not be read")
        moves = moves_to(version, list(here), at_place | (streams & wanted), here.keys() - streams - sent)
        lost = [
            paths[name]
            for move in moves
            if (name := move.path.rpartition("/")[2]) in here
            if here[name] not in committed and name not in sent
        ]
        if moves:  # what an agent that dies at it leaves is to be that version, and no half of something
            known.newest = version
            self.record.write(self._record_path)
        kept = self.store.place(moves, [*lost, *self._directories_in_the_way(version)], aside)
        known.newest = known.whole = version
        self.sets.placed(version.path)
        self.tracker.forget(version.path)
        return kept

    def put_in_order(self, placed: Collection[str]) -> None:
        """Have the newest of what was put in place, by its paths, be the newest by all times; see succession.py."""
        put_in_order(self.sets.work, self.record, placed)

    def _directories_in_the_way(self, version: SetVersion) -> list[str]:
        """Directories that lie here where a version has links, as of a script that makes one where it can.

        The link holds: what names the newest checkpoint for one node is to name it for all. Not one in which something
        is that stays on its node.
        """
        links = [path_of(version.path, file.name) for file in version.files if file.mode == LINK]
        found = [path for path in links if _is_directory(self.sets.work / path)]
        return [path for path in found if not _stays(self.sets.work, path, self._rules)]

    def _stored(self, sha256: str) -> Path | None:
        return self.store.path(sha256) if self.store.has(sha256) else None

    def waits_for(self, version: SetVersion, coming: Collection[str]) -> str:
        """A checkpoint that a version names, of which a copy is to be here first; empty where there is none.

        Args:
            coming: the paths of the sets of which copies are to come here.
        """
        return next(
            (path for path in sorted(self.sets.names(version.path, version.files)) if path in coming), ""
        )

    def locate(self, sha256: str) -> Path | None:
        """The file that has a content, by its hash; None where there is none."""
        return self.store.path(sha256) if self.store.has(sha256) else self.sets.hashes.find(sha256)

    def has_news(self) -> bool:
        """Whether sets were found finished of which that was not written down."""
        return self.record.finished != self._finished

    def keep(self, pending: Collection[SetVersion], *, sync: bool = True) -> None:
        """Keep the record, and of the contents what it speaks of, or what is wanted for versions. Raises OSError.

        Args:
            pending: versions of which the contents are on their way.
        """
        self.record.write(self._record_path, sync=sync)
        self._finished = dict(self.record.finished)
        versions = [version for each in self.record.sets.values() for version in each.known()]
        needed = {file.sha256 for version in (*versions, *pending) for file in version.files}
        self.store.keep(needed | self.tracker.told())


def making_way(versions: Sequence[SetVersion]) -> list[SetVersion]:
    """The same versions: directories that were deleted first, where a link has taken the place of one since."""
    links = {path_of(each.path, file.name) for each in versions for file in each.files if file.mode == LINK}

    def waits(version: SetVersion) -> bool:
        return bool(version.files) or not any(f"{version.path}/".startswith(f"{link}/") for link in links)

    return sorted(versions, key=waits)


def _is_directory(path: Path) -> bool:
    return not path.is_symlink() and path.is_dir()


def _stays(work: Path, directory: str, rules: Rules) -> bool:
    """Whether something in a directory is not shared, or there is more than is looked at to see that."""
    for looked, (where, _, files) in enumerate(os.walk(work / directory)):
        base = os.path.relpath(where, work)
        if looked >= MOST_DIRECTORIES or any(not rules.takes(f"{base}/{name}") for name in files):
            return True
    return False


class Forgetting:
    """Names that something is remembered by, as long as they are of use, and for a while after.

    A run may write any number of them.
    """

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def overdue(self, unused: Iterable[str]) -> list[str]:
        """Those that have been of no use for a while.

        Args:
            unused: all that are of no use now; one that is not among them once is of use again.
        """
        now = time.monotonic()
        self._since = {name: self._since.get(name, now) for name in unused}
        return [name for name, since in self._since.items() if now - since > UNUSED_SECONDS]
