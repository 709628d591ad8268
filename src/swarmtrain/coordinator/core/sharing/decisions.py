"""What is decided of the files that nodes share, and of what: the words of catalog.py, for its callers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from swarmtrain.protocol.shared_files import SetReport, SetVersion


class LostNode(NamedTuple):
    """A node that took part in a generation, and cannot say what it wrote.

    Attributes:
        rank: its lowest.
        since: the fence of the first generation of a row up to that in which a node had this rank.
    """

    rank: int
    since: int


@dataclass(frozen=True)
class NodeFiles:
    """What one node says of its files.

    Attributes:
        rank: the lowest of its ranks in the last generation that it has begun; a large number where nobody knows.
        fence: of that generation.
        sets: by path.
        writing: some set there is not finished. What was deleted meanwhile is not, as long as somebody has it: scripts
            remove a checkpoint when they take the next one for whole, which it may not be.
        ahead: seconds by which its clock is ahead of the coordinator's, or less: a message takes its time.
        lost: who took part in that generation, and cannot say what it wrote, by name.
    """

    rank: int
    fence: int
    sets: Mapping[str, SetReport]
    writing: bool = False
    ahead: float = 0.0
    lost: Mapping[str, LostNode] = field(default_factory=dict)


@dataclass(frozen=True)
class Conflict:
    """Several nodes wrote different contents to one path in one generation.

    Attributes:
        winner: the node of the lowest rank; empty where it has written it before the others.
    """

    path: str
    winner: str
    others: tuple[str, ...]


@dataclass(frozen=True)
class SetDecision:
    """What is to hold of one set.

    Attributes:
        version: the newest from now on.
        is_new: nobody knows it yet.
        conflicts: that were decided for it.
        unfinished: the nodes on which it was being written when that ended, so that an earlier one holds.
        missing: names of files that were in it and that no node has any more.
        is_back: it was deleted, for one of which something is missing now.
        named: the checkpoints that a newer version of it names, and that are not there: so an earlier one holds.
    """

    version: SetVersion
    is_new: bool = False
    conflicts: tuple[Conflict, ...] = ()
    unfinished: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    is_back: bool = False
    named: tuple[str, ...] = ()


@dataclass(frozen=True)
class SharingPlan:
    """What is to be done before workers start.

    Attributes:
        decisions: by the sets' paths.
        to_bring: to which nodes which of these are brought.
        sources: which nodes have a content, by its hash.
    """

    decisions: Mapping[str, SetDecision] = field(default_factory=dict)
    to_bring: Mapping[str, Sequence[SetVersion]] = field(default_factory=dict)
    sources: Mapping[str, Sequence[str]] = field(default_factory=dict)
