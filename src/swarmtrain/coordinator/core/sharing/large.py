"""Sets that have become too large on several nodes together, though each of them has few enough files."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from swarmtrain.coordinator.core.sharing.lost_parts import newest
from swarmtrain.protocol.shared_files import MOST_OF_ONE, SetReport


def too_large(nodes: Iterable[Collection[SetReport]]) -> list[str]:
    """The paths of sets that have more files than one may have, on all nodes together.

    Args:
        nodes: what each of them says of its sets.
    """
    reports: dict[str, list[SetReport]] = {}
    for each in nodes:
        for report in each:
            reports.setdefault(report.path, []).append(report)
    return sorted(path for path, said in reports.items() if len(_names(said)) > MOST_OF_ONE)


def _names(reports: Sequence[SetReport]) -> set[str]:
    """The names of all files that are in a set, or would come to it."""
    version = newest(reports)
    gone = {name for each in reports for name in each.gone}
    kept = {file.name for file in version.files} - gone if version is not None else set()
    return kept | {file.name for each in reports for file in each.changed}
