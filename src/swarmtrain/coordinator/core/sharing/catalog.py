"""What the nodes of a run hold of its shared files, and what follows: versions of sets, and who is to have them.

Pure: what agents report goes in, a `SetDecision` for each set comes out. A version is the newest one and what has
changed since then, of all nodes together; where a set may be half of what was to be written, it is the newest one that
is whole on some nodes. So a set arrives together or not at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from swarmtrain.coordinator.core.sharing import changes
from swarmtrain.coordinator.core.sharing.changes import Report
from swarmtrain.coordinator.core.sharing.decisions import Conflict, NodeFiles, SetDecision, SharingPlan
from swarmtrain.coordinator.core.sharing.lost_parts import writers
from swarmtrain.files.siblings import are_siblings
from swarmtrain.protocol.shared_files import HeldVersion, SetReport, SetVersion, SharedFile


def plan(nodes: Mapping[str, NodeFiles], members: Iterable[str]) -> SharingPlan:
    """What every member is to have before workers start; none runs now.

    Args:
        nodes: all that can be asked, also those that take no part.
    """
    decisions = {path: settle(path, nodes) for path in paths(nodes)}
    found = {path: decision for path, decision in decisions.items() if decision is not None}
    found |= _orphans(nodes, found)
    if any(each.missing for each in found.values()):
        found |= {path: back for path in found if (back := _back(path, nodes, found[path])) is not None}
    gone = {
        path for path, each in found.items() if (each.missing or each.unfinished) and not each.version.files
    }
    if gone:
        before = {path: _before(path, nodes, each, gone) for path, each in found.items() if path not in gone}
        found |= {path: each for path, each in before.items() if each is not None}
    to_bring: dict[str, list[SetVersion]] = {}
    for node in members:
        wanted = [
            each.version for path, each in found.items() if not _has(nodes[node].sets.get(path), each.version)
        ]
        if wanted:
            to_bring[node] = wanted
    return SharingPlan(found, to_bring, holders(nodes))


def _orphans(nodes: Mapping[str, NodeFiles], found: Mapping[str, SetDecision]) -> dict[str, SetDecision]:
    """The sets that have less in them than they had, or a sibling, and nothing like it is there: they are taken so."""
    holding = {path for path, each in found.items() if each.version.files}
    waiting = {path: elders for path in found.keys() - holding if (elders := changes.elders(path, nodes))}
    orphans = [
        path
        for path, elders in waiting.items()
        if elders == {path} or not any(are_siblings(each, path) for each in holding)
    ]
    again = {path: settle(path, nodes, is_orphan=True) for path in orphans}
    return {path: decision for path, decision in again.items() if decision is not None}


def _back(path: str, nodes: Mapping[str, NodeFiles], found: SetDecision) -> SetDecision | None:
    """The newest version of a set that was deleted, where all of that is still there; None else.

    A script deletes a checkpoint when it has the next one. Nodes that are to have a copy of that keep the deleted one
    until they have: where it went with its owner, the deletion does not hold.
    """
    if found.version.files or found.missing or found.unfinished:
        return None
    there = changes.contents_there(path, nodes)
    kept = next(
        (v for v in changes.versions(path, nodes) if v.files and all(f.sha256 in there for f in v.files)),
        None,
    )
    if kept is None:
        return None
    version = replace(found.version, number=found.version.number + 1, files=kept.files)
    return SetDecision(version, is_new=True, is_back=True)


def _before(
    path: str, nodes: Mapping[str, NodeFiles], found: SetDecision, gone: Collection[str]
) -> SetDecision | None:
    """An earlier version of a set whose newest names checkpoints that are not there; None where it need not hold.

    So `latest` does not lead to what went with its owner, or was not finished.
    """
    names = changes.names_of(path, nodes)
    newest = found.version
    named = names.get(None if found.is_new else (newest.fence, newest.number), set()) & set(gone)
    if not named:
        return None
    there = changes.contents_there(path, nodes)
    for each in changes.versions(path, nodes):
        if each.lost or not all(file.sha256 in there for file in each.files):
            continue
        if not names.get((each.fence, each.number), set()) & set(gone):
            version = replace(newest, number=newest.number + 1, files=each.files)
            return replace(found, version=version, is_new=True, named=tuple(sorted(named)))
    return None


def paths(nodes: Mapping[str, NodeFiles]) -> list[str]:
    """The paths of all sets."""
    return sorted({path for each in nodes.values() for path in each.sets})


def holders(nodes: Mapping[str, NodeFiles]) -> dict[str, list[str]]:
    """Which nodes have a content, by its hash."""
    found: dict[str, list[str]] = {}
    for node, each in nodes.items():
        for report in each.sets.values():
            for sha256 in changes.contents_of(report):
                if node not in (names := found.setdefault(sha256, [])):
                    names.append(node)
    return found


def settle(path: str, nodes: Mapping[str, NodeFiles], *, is_orphan: bool = False) -> SetDecision | None:
    """What is to hold of a set of which nobody writes any more; None where there is nothing of it.

    Of what was being written when that ended, an earlier version holds. Where there has never been one, half of a
    directory is none; and what lies in the working directory itself is taken as it is, as it would be on a disk
    that all nodes share. Half of a directory may be also what others have written together with a node that is lost,
    and what has less in it than a sibling before it.

    Args:
        is_orphan: there is no sibling any more that could hold in its place.
    """
    versions, reports = changes.versions(path, nodes), changes.reports(path, nodes)
    base = versions[0] if versions else SetVersion(path, 0, 0, [])
    there = changes.contents_there(path, nodes)
    changing = changes.changing(base, reports, there)
    if not versions and not changing:
        return None
    whole = next((v for v in versions if not v.lost and all(file.sha256 in there for file in v.files)), None)
    if base.lost and not changing:
        return _decide(base, changes.by_name(whole or base), (), (), lost=whole is None)
    files, conflicts = changes.merge(base, changing, there)
    in_part = changes.in_part(base, reports)
    unfinished = tuple(
        node for node, _, report in changing if report.writing or in_part & changes.names(report)
    )
    if not is_orphan:
        unfinished = tuple(dict.fromkeys([*unfinished, *changes.lacking(changing, files)]))
    missing = tuple(sorted(name for name, file in files.items() if file.sha256 not in there))
    fence = 0
    if path and (absent := _absent(path, nodes, changing)):
        unfinished, fence = (*unfinished, *absent), 1 + max(each.fence for each in nodes.values())
    if not unfinished and not missing:
        return _decide(base, files, changing, conflicts)
    if whole is not None:
        return _decide(base, changes.by_name(whole), changing, (), unfinished, missing, fence=fence)
    less = bool(missing or base.files or base.lost)
    if path:
        return _decide(base, {}, changing, (), unfinished, missing, lost=less, fence=fence)
    left = {name: file for name, file in files.items() if name not in missing and name not in in_part}
    return _decide(base, left, changing, conflicts, (), missing, lost=bool(missing))


def commit(path: str, nodes: Mapping[str, NodeFiles]) -> SetDecision | None:
    """A new version of a set while workers run; None where nothing has changed, or somebody still writes it.

    Args:
        nodes: those that take part, each of which was asked after the change, and others that are there.
    """
    versions, reports = changes.versions(path, nodes), changes.reports(path, nodes)
    base = versions[0] if versions else SetVersion(path, 0, 0, [])
    if any(report.writing for _, _, report in reports):
        return None
    there = changes.contents_there(path, nodes)
    changing = changes.changing(base, reports, there)
    files, conflicts = changes.merge(base, changing, there)
    if (
        not changing
        or changes.in_part(base, reports)
        or changes.lacking(changing, files)
        or (path and _absent(path, nodes, changing))
        or any(file.sha256 not in there for file in files.values())
    ):
        return None
    decision = _decide(base, files, changing, conflicts)
    return decision if decision.is_new else None


def _absent(path: str, nodes: Mapping[str, NodeFiles], changing: Iterable[Report]) -> list[str]:
    """The nodes that may have written parts of a set together with these, and cannot be asked."""
    return writers(path, [each.sets for each in nodes.values()], changes.lost(changing))


def newest(path: str, nodes: Mapping[str, NodeFiles]) -> SetVersion | None:
    """The newest version of a set, where all of it is there."""
    there = {
        sha256 for _, _, report in changes.reports(path, nodes) for sha256 in changes.contents_of(report)
    }
    found = next(iter(changes.versions(path, nodes)), None)
    return found if found is not None and all(file.sha256 in there for file in found.files) else None


def copies(version: SetVersion, nodes: Mapping[str, NodeFiles], replicas: int) -> list[str]:
    """The nodes that are to have all of a version, so that as many copies are left when one is lost.

    Args:
        replicas: how many nodes besides one; less than none: all.
    """
    wanted = {file.sha256 for file in version.files}
    order = sorted(nodes, key=lambda node: (nodes[node].rank, node))
    have = [n for n in order if n in nodes and wanted <= _contents(nodes[n].sets.get(version.path))]
    if replicas < 0:
        return [node for node in order if node not in have]
    start = order.index(have[0]) + 1 if have else 0
    ring = [node for node in order[start:] + order[:start] if node not in have]
    return ring[: max(0, replicas + 1 - len(have))] if replicas else []


def unaware(version: SetVersion, nodes: Mapping[str, NodeFiles]) -> list[str]:
    """The nodes that have all of a version and nothing newer, but do not know that it is one.

    As one that has written it, and had no part in what was decided since: it is to hold there when newer ones are lost.
    """
    wanted = {(file.name, file.sha256) for file in version.files}
    reports = ((node, each.sets[version.path]) for node, each in nodes.items() if version.path in each.sets)
    return [
        node
        for node, report in reports
        if wanted
        and {sha256 for _, sha256 in wanted} <= _contents(report)
        and {(file.name, file.sha256) for file in report.changed} <= wanted
        and not report.gone
        and not any(_is_newer_or_same(held.version, version) for held in report.known)
    ]


def _is_newer_or_same(one: SetVersion, other: SetVersion) -> bool:
    return (one.fence, one.number) >= (other.fence, other.number)


def _contents(report: SetReport | None) -> set[str]:
    return set(changes.contents_of(report)) if report is not None else set()


def _decide(
    base: SetVersion,
    files: Mapping[str, SharedFile],
    changing: Sequence[Report],
    conflicts: tuple[Conflict, ...],
    unfinished: tuple[str, ...] = (),
    missing: tuple[str, ...] = (),
    *,
    lost: bool = False,
    fence: int = 0,
) -> SetDecision:
    """The newest version where it holds again, and against what was written before a fence, else one after it."""
    same = {f.name: f.sha256 for f in base.files} == {name: f.sha256 for name, f in files.items()}
    if base.number and same and base.lost == lost and fence <= base.fence:
        return SetDecision(base, False, conflicts, unfinished, missing)
    fence = max([fence, base.fence, *(each.fence for _, each, _ in changing)])
    version = SetVersion(base.path, fence, base.number + 1, sorted(files.values()), lost)
    return SetDecision(version, True, conflicts, unfinished, missing)


def _has(report: SetReport | None, version: SetVersion) -> bool:
    """Whether a node has a version in place, and nothing else."""
    if report is None:
        return not version.files
    held: HeldVersion | None = report.known[0] if report.known else None
    if held is None or (held.version.fence, held.version.number) != (version.fence, version.number):
        return False
    others = report.changed or report.gone or report.extra or report.writing
    return not others and all(place == "work" for place in held.places)
