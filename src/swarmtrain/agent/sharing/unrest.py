"""For which files and sets it would be in vain to wait until they are quiet, by how looks have found them.

A `state.json` that is written every second holds up nothing that lies beside it. Looks are counted, and no seconds:
between two that are far apart, as while the coordinator is away, a set may have been quiet for long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import NamedTuple

from swarmtrain.agent.sharing.leftovers import QUIET
from swarmtrain.agent.sharing.sets import Stamps

# Looks that find a file written anew, and never at rest between: it is taken as it is between two of its changes.
RESTLESS = 3
# Looks since the working directory itself was at rest, or open: its files are taken alone.
UNREST = 6
# The same of another directory: what it has may be what was written together, and half of the next.
ENDLESS = 60


class SeenSet(NamedTuple):
    """A set that is not as its newest version, by a look.

    Attributes:
        changed: the names of what has changed or gone since the look before.
        resting: those of the files that have been left alone for a moment.
    """

    changed: Collection[str]
    resting: Collection[str]

    @staticmethod
    def of(before: Stamps, here: Stamps, now: float) -> SeenSet:
        """A set as it was at the look before and as it is, at a Unix time."""
        changed = {name for name in {*before, *here} if before.get(name) != here.get(name)}
        return SeenSet(changed, [name for name in here if is_at_rest(name, before, here, now)])


def is_at_rest(name: str, before: Stamps, here: Stamps, now: float) -> bool:
    """Whether a file is, or has gone, as at the look before, and was not written a moment ago, by Unix time."""
    is_new = name in here and abs(now - here[name].changed / 1e9) < QUIET
    return not is_new and before.get(name) == here.get(name)


class Unrest:
    """Of the sets of one node, by their paths."""

    def __init__(self) -> None:
        self._turns: Counter[str] = Counter()  # looks in a row that found a set changed
        self._looks: Counter[str] = Counter()  # since a set was at rest, or open
        # looks that found a file changed since it was at rest, by set
        self._anew: dict[str, Counter[str]] = {}
        self._were: dict[str, set[str]] = {}  # files that were restless once, by set

    def see(self, found: Mapping[str, SeenSet]) -> None:
        """A look has found these sets, and no others."""
        self._turns = Counter({path: self._turns[path] + 1 for path, its in found.items() if its.changed})
        self._looks = Counter({path: self._looks[path] + 1 for path in found})
        self._anew = {
            path: self._anew.get(path, Counter()) + Counter(its.changed) for path, its in found.items()
        }
        for path, its in found.items():
            for name in its.resting:
                del self._anew[path][name]
            if restless := {name for name in self._anew[path] if self.is_restless(path, name)}:
                self._were.setdefault(path, set()).update(restless)

    def opened(self, path: str) -> None:
        """Something of a set is open."""
        del self._turns[path], self._looks[path]

    def rested(self, path: str) -> None:
        """A set is at rest, but for files that never are, or there is a version of it."""
        del self._looks[path]

    def forget(self, path: str) -> None:
        """A set has gone for good, or is as it was put in place."""
        del self._turns[path], self._looks[path]
        self._anew.pop(path, None)
        self._were.pop(path, None)

    def remembered(self) -> set[str]:
        """The sets of which something was counted."""
        return {*self._turns, *self._looks, *self._anew, *self._were}

    def is_changing(self, path: str, name: str) -> bool:
        """Whether a file, or some file of its set, is written anew about as often as that is looked at."""
        return self._turns[path] > 1 or self.is_restless(path, name)

    def is_restless(self, path: str, name: str) -> bool:
        """Whether it would be in vain to wait until a file of a set is quiet."""
        return path in self._anew and self._anew[path][name] >= RESTLESS

    def was_restless(self, path: str, name: str) -> bool:
        """The same of a file at any time, as in a checkpoint that is left alone since the next one was begun."""
        return name in self._were.get(path, ())

    def is_endless(self, path: str) -> bool:
        """Whether it would be in vain to wait until a set is quiet."""
        if path:
            return self._looks[path] >= ENDLESS
        return self._turns[path] >= RESTLESS or self._looks[path] >= UNREST
