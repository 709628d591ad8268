"""Which of the nodes that were lost may have written parts of a set of files, by what they wrote before. Pure.

catalog.py asks: what the other nodes have of such a set may be half of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from swarmtrain.coordinator.core.sharing.decisions import LostNode
from swarmtrain.protocol.shared_files import SetReport, SetVersion

Reports = Mapping[str, SetReport]  # of one node, by the sets' paths


def writers(path: str, nodes: Sequence[Reports], lost: Iterable[tuple[str, LostNode]]) -> list[str]:
    """Those of the lost nodes that may have written parts of a set.

    None has whose rank wrote nothing of its newest version; where it has none, of those of the directories beside it,
    as `checkpoint-8/` tells of `checkpoint-16/`. What was written when nobody had that rank yet tells nothing of it.

    Args:
        nodes: those that are there.
        lost: by name.
    """
    beside = {other for each in nodes for other in each if other and _parent(other) == _parent(path)}
    found = set[str]()
    for node, (rank, since) in lost:
        wrote = _ranks([path], nodes, since) or _ranks(beside, nodes, since)
        if rank in wrote or not wrote:
            found.add(node)
    return sorted(found)


def _ranks(paths: Iterable[str], nodes: Sequence[Reports], since: int) -> set[int]:
    """Those that wrote what is in the newest versions of sets, from a fence on; each the lowest of its node."""
    versions = (newest(each[path] for each in nodes if path in each) for path in paths)
    files = (file for version in versions if version is not None for file in version.files)
    return {file.rank for file in files if file.fence >= since}


def newest(reports: Iterable[SetReport]) -> SetVersion | None:
    """The newest version that is known of one set, by what nodes say of it."""
    known = [held.version for each in reports for held in each.known]
    return max(known, key=lambda version: (version.fence, version.number), default=None)


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
