"""What workers have written in the working directory: which of the sets that have changed are finished.

A set is finished when nobody has a file of it open for writing and it has been quiet for a moment; of what lies there
when its writers have gone, leftovers.py says that. A stream, such as a log, holds up no set. Of a finished set that has
less than one before it (elders.py), only the coordinator knows whether other nodes have the rest.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from typing import Any

from swarmtrain.agent.sharing.elders import Elders
from swarmtrain.agent.sharing.formats import has_failed, whole
from swarmtrain.agent.sharing.hashes import Unsteady
from swarmtrain.agent.sharing.leftovers import QUIET, Leftovers
from swarmtrain.agent.sharing.sets import Sets, Stamps
from swarmtrain.agent.sharing.unrest import SeenSet, Unrest, is_at_rest
from swarmtrain.agent.sharing.walk import is_temporary, open_for_writing
from swarmtrain.files.record import directory_of, path_of
from swarmtrain.protocol.shared_files import SetReport, SharedFile
from swarmtrain.wire.clock import MACHINE, Clock

_Told = tuple[list[SharedFile], list[str]]  # what has changed in a set, and the names of what has gone

_OVER_AGAIN = 3  # looks, in a row or not, that find the only file of a set written anew: no other is to come
_STREAM_SECONDS = 60.0  # for which a small file is open until it counts as one
_STREAM_BYTES = 64 << 20
_AGAIN = 5  # looks after which what nobody has taken up is told again
_TRIES = 5  # for a file that changes while it is read
GRACE = 30.0  # seconds after a deletion in which what is begun may be what it was made for


class Tracker:
    """Looks at the sets of one node. Its methods read the disk: they are called in a thread, one at a time.

    Attributes:
        is_writing: by the last report, some set is not finished for which something was deleted.
        spent: seconds of a processor that the last look took, less what it read of files.
    """

    def __init__(self, sets: Sets, clock: Clock = MACHINE) -> None:
        self.sets, self._record, self._clock = sets, sets.record, clock
        self.is_writing = False
        self.spent = 0.0
        self._suspects: list[str] = []  # sets that have changed, by the last look
        self._unrest = Unrest()
        # times that the only file of a set was found written, until it was taken
        self._anew: Counter[str] = Counter()
        self._waits: Counter[str] = Counter()  # looks since a set was told of
        self._opened: dict[str, float] = {}  # for writing, at the last look; since when
        self._waiting: dict[str, float] = {}  # sets for the checkpoints that their files name; since when
        self._elders = Elders(sets, self._unrest, clock)
        self._deletions = _Deletions(clock)
        self._told: dict[str, _Told] = {}  # by looks
        self._answered: dict[str, _Told] = {}  # last, to whom it may make a version of it

    # ---- looks -----------------------------------------------------------------------------------------------

    def look(self, writers: Callable[[], Sequence[int]]) -> list[SetReport]:
        """A look while workers run: the sets that are finished, and have changed since that was told.

        Args:
            writers: the processes that may write, by their pids; asked for where something has changed.
        """
        began = time.thread_time()
        before = self.sets.look()
        suspects = self._suspects = [path for path in self.sets.paths() if self.sets.moved(path)]
        pids = writers() if suspects else []
        self._note_open(pids)
        self._deletions.see(self._gone(suspects))
        self.spent = time.thread_time() - began
        found = []
        now = self._clock.unix()
        self._unrest.see(
            {path: SeenSet.of(before.get(path, {}), self.sets.files(path), now) for path in suspects}
        )
        for path in suspects:
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
        before, pids = self.sets.look(), writers()
        self._note_open(pids)
        self._suspects = [path for path in self.sets.paths() if self.sets.moved(path)]
        self._deletions.see(self._gone(self._suspects))
        found = []
        asked = self.sets.paths() if paths is None else [each for each in paths if self.sets.is_watched(each)]
        for path in asked:
            told = self._finished(path, before.get(path, {}), pids)
            self._answered.pop(path, None)
            if told is not None:
                self._told[path] = self._answered[path] = (told.changed, told.gone)
            found.append(told if told is not None else self.sets.report(path, [], [], writing=True))
        self.is_writing = False  # deletions that may not hold are not told
        return found

    def settle(self, *, ended_well: bool) -> None:
        """The workers have gone: remember which sets are finished.

        Args:
            ended_well: each of them by itself, with all that it wanted to write.
        """
        self.sets.look()
        self._record.ended_well = ended_well
        left = Leftovers(self.sets, self._opened, self._clock.unix())
        for path in self.sets.paths():
            if self.sets.moved(path) and (ended_well or left.is_finished(path)):
                self._finish(path)

    def rest(self) -> list[SetReport]:
        """How all sets stand while no worker runs."""
        self.sets.look()
        left, found = Leftovers(self.sets, self._opened), []
        for path in self.sets.paths():
            writing = not (self._record.fresh or left.is_finished(path))
            try:
                changed, gone = self.sets.changes(path)
            except (Unsteady, OSError):
                continue  # somebody else writes there: it is not ours to judge
            elder = self._elders.waited_for(path, at_rest=True) if changed else None
            writing = writing and bool(changed or gone)
            if writing:
                changed = [each for each in changed if not self._is_torn(path_of(path, each.name))]
            told = self.sets.report(path, changed, gone, writing=writing, elder=elder)
            self._answered[path] = (changed, gone)
            if told.known or changed or gone or writing:
                found.append(told)
        self.is_writing = any(each.writing or each.elder is not None for each in found)
        return found

    def _is_torn(self, path: str) -> bool:
        """Whether what is left of a file is known to be half of one: that is nobody's news, not even as a first one."""
        return not self.sets.is_stream(path) and whole(self.sets.work / path) is False

    # ---- what is asked of it ---------------------------------------------------------------------------------

    def told(self) -> set[str]:
        """The hashes of what was told last of each set."""
        told = (*self._told.values(), *self._answered.values())
        return {file.sha256 for changed, _ in told for file in changed}

    def noted(self, path: str) -> None:
        """What was answered last of a set is a version; what looks have found since then is not."""
        self.sets.note(path, *self._answered.pop(path, ([], [])))
        del self._anew[path]
        self._waiting.pop(path, None)
        self._unrest.rested(path)
        self._elders.forget(path)

    def remembered(self) -> set[str]:
        """The sets of which something was told or counted."""
        return (self._elders.remembered() | self._unrest.remembered()).union(*self._by_set())

    def forget(self, path: str) -> None:
        """A set has gone for good, or is as it was put in place."""
        self._elders.forget(path)
        self._unrest.forget(path)
        for each in self._by_set():
            each.pop(path, None)

    def _by_set(self) -> Sequence[MutableMapping[str, Any]]:
        told = (self._told, self._answered, self._waits)
        return (*told, self._anew, self._waiting)

    def is_restless(self, path: str, name: str) -> bool:
        """Whether a file of a set is written anew about as often as it is looked at."""
        return self._unrest.is_changing(path, name)

    # ---- inside ----------------------------------------------------------------------------------------------

    def _note_open(self, pids: Sequence[int]) -> None:
        """What processes write now, since when, and which of it are streams."""
        now, before = self._clock.monotonic(), self._opened
        self._opened = {}
        for each in open_for_writing(self.sets.work, pids):
            since = self._opened[each.path] = before.get(each.path, now)
            is_old = now - since > _STREAM_SECONDS and self._size(each.path) < _STREAM_BYTES
            if (each.appends or is_old) and not self.sets.is_stream(each.path):
                self._record.streams.append(each.path)

    def _size(self, path: str) -> int:
        stamp = self.sets.files(directory_of(path)).get(path.rpartition("/")[2])
        return stamp.size if stamp is not None else 0

    def _finished(self, path: str, before: Stamps, pids: Sequence[int]) -> SetReport | None:
        """How a set stands that is finished, with its workers alive; None of one that is not.

        Of a set that is being written, what was deleted from it may be all that counts.
        """
        told = None
        for _ in range(_TRIES):
            try:
                told = self._finished_now(path, before)
            except OSError:
                break
            except Unsteady:  # it is written again and again: look closer
                self.sets.look_closer(path)
                self._note_open(pids)
            else:
                break
        since = self._writing_since() if told is None and self._gone([path]) else None
        gone = self._deleted(path, since) if since is not None else []
        return self.sets.report(path, [], gone, writing=False) if gone else told

    def _gone(self, paths: Iterable[str]) -> list[str]:
        """The paths of files of some sets that were noted and are not there any more."""
        return [
            path_of(path, name)
            for path in paths
            for name in self.sets.noted(path)
            if name not in self.sets.files(path)
        ]

    def _deleted(self, path: str, since: float | None) -> list[str]:
        """The names of files of a set of which the deletion counts.

        Args:
            since: as `_writing_since` gives it.
        """
        gone = [full for full in self._gone([path]) if not self.sets.is_stream(full)]
        return [full.rpartition("/")[2] for full in gone if self._deletions.count(full, since)]

    def _writing_since(self) -> float | None:
        """When the oldest of what is being written was begun; None where every set is finished."""
        unsettled = [path for path in self._suspects if self.sets.files(path) and self._is_unsettled(path)]
        if not unsettled:
            return None
        now, wall = self._clock.monotonic(), self._clock.unix()
        begun = [since for full, since in self._opened.items() if not self.sets.is_stream(full)]
        for path in unsettled:
            waits = self._elders.waited_for(path) is not None
            for name in set(self.sets.moved(path)) & self.sets.files(path).keys():
                age = max(0.0, wall - self.sets.files(path)[name].changed / 1e9)
                if (waits or age < QUIET) and path_of(path, name) not in self._opened:
                    begun.append(now - age)
        return min(begun, default=now)

    def _finished_now(self, path: str, before: Stamps) -> SetReport | None:
        """The same. Raises Unsteady, OSError."""
        here, moved = self.sets.files(path), self.sets.moved(path)
        live = [name for name in moved if not self.sets.is_stream(path_of(path, name))]
        lasting = [name for name in live if not is_temporary(name)]
        alone = lasting[0] if len(lasting) == 1 and lasting[0] in here else None
        if alone is not None and before.get(alone) != here[alone]:
            self._anew[path] += 1
        again = alone is not None and (alone in self.sets.noted(path) or self._anew[path] >= _OVER_AGAIN)
        if any(path_of(path, name) in self._opened for name in (lasting if again else live)):
            self._unrest.opened(path)
            return None
        if alone is not None and again:
            # One file that is written anew again and again: it is whole when it is closed.
            if whole(self.sets.work / path_of(path, alone)) is False:
                raise Unsteady(alone)
        elif live and not self._unrest.is_endless(path):
            now = self._clock.unix()
            waits = [name for name in live if not self._unrest.is_restless(path, name)]
            if not all(is_at_rest(name, before, here, now) for name in waits):
                return None
            self._unrest.rested(path)
        if any(has_failed(self.sets.work / path_of(path, name), self._clock.unix()) for name in lasting):
            return None
        changed, _ = self.sets.changes(path)
        changed = [each for each in changed if not self.sets.is_stream(path_of(path, each.name))]
        if self._waits_for_others(path, changed):
            return None
        self._finish(path)
        gone = self._deleted(path, self._writing_since()) if self._gone([path]) else []
        elder = self._elders.waited_for(path)
        if elder is not None and self._elders.is_over_again(path, changed):
            elder = None
        return self.sets.report(path, changed, gone, writing=False, elder=elder)

    def _waits_for_others(self, path: str, changed: list[SharedFile]) -> bool:
        """Whether a file names a checkpoint of which there is no version yet; not for ever, as it may be none."""
        others = [other for other in self.sets.names(path, changed) if self._is_news(other)]
        if not others or any(self._elders.waited_for(other) for other in others):
            self._waiting.pop(path, None)
            return bool(others)
        now = self._clock.monotonic()
        return now < self._waiting.setdefault(path, now) + GRACE

    def _is_news(self, path: str) -> bool:
        """Whether files of a set were written of which there is no version yet."""
        here = self.sets.files(path)
        return self.sets.is_watched(path) and any(
            name in here
            and not is_temporary(name)
            and not self.sets.is_stream(path_of(path, name))
            and not self._unrest.is_restless(path, name)
            for name in self.sets.moved(path)
        )

    def _is_unsettled(self, path: str) -> bool:
        """Whether files of a set were written since it was last found finished, or it may be half of what is to be.

        That some have gone does not count.
        """
        good = self._record.finished.get(path, {})
        here = self.sets.files(path)
        is_new = any(
            name in here
            and good.get(name) != list(here[name])
            and not self.sets.is_stream(path_of(path, name))
            for name in self.sets.moved(path)
        )
        return is_new or self._elders.waited_for(path) is not None

    def _finish(self, path: str) -> None:
        self._record.finished[path] = {name: list(stamp) for name, stamp in self.sets.files(path).items()}


class _Deletions:
    """What workers have deleted, and no version has taken up yet.

    Scripts remove a checkpoint when they take the next one for whole, which it may not be yet, or may never be. So a
    deletion counts when nothing is being written any more that had been begun before it, or in the moments after it. It
    need not wait until nothing at all is being written: somewhere, something may always be.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[str, float] = {}

    def see(self, gone: Iterable[str]) -> None:
        """A look has found that these files, and no others, have gone, by their paths."""
        now = self._clock.monotonic()
        self._seen = {path: self._seen.get(path, now) for path in gone}

    def count(self, path: str, writing_since: float | None) -> bool:
        """Whether the deletion of a file holds.

        Args:
            writing_since: when the oldest of what is being written was begun, by the monotonic clock; None where
                nothing is.
        """
        seen = self._seen.get(path, self._clock.monotonic())
        return writing_since is None or seen + GRACE < writing_since
