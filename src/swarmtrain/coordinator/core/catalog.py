"""What the nodes of a run hold of its shared files, and what follows: versions of sets, and who is to have them.

Pure: what agents report goes in, a `SetDecision` for each set comes out. A version is the newest one and what has
changed since then, of all nodes together; where a set may be half of what was to be written, it is the newest one that
is whole on some nodes. So a set arrives together or not at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from swarmtrain.coordinator.core.sharing.lost_parts import writers
from swarmtrain.protocol.shared_files import HeldVersion, SetReport, SetVersion, SharedFile

_APART = 1.0  # seconds by which what is known of another machine's clock may be wrong


@dataclass(frozen=True)
class NodeFiles:
    """What one node says of its files.

    Attributes:
        rank: the lowest of its ranks in the last generation; a large number where it had none.
        fence: of the last generation that it has begun.
        sets: by path.
        writing: some set there is not finished. What was deleted meanwhile is not, as long as somebody has it: scripts
            remove a checkpoint when they take the next one for whole, which it may not be.
        ahead: seconds by which its clock is ahead of the coordinator's, or less: a message takes its time.
    """

    rank: int
    fence: int
    sets: Mapping[str, SetReport]
    writing: bool = False
    ahead: float = 0.0


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
    """

    version: SetVersion
    is_new: bool = False
    conflicts: tuple[Conflict, ...] = ()
    unfinished: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


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


def plan(
    nodes: Mapping[str, NodeFiles], members: Iterable[str], lost: Mapping[str, int] = MappingProxyType({})
) -> SharingPlan:
    """What every member is to have before workers start; none runs now.

    Args:
        nodes: all that can be asked, also those that take no part.
        lost: nodes that took part in the last generation and cannot say what they wrote, with their lowest ranks.
    """
    sets = [each.sets for each in nodes.values()]
    decisions = {path: settle(path, nodes, writers(path, sets, lost)) for path in paths(nodes)}
    found = {path: decision for path, decision in decisions.items() if decision is not None}
    to_bring: dict[str, list[SetVersion]] = {}
    for node in members:
        wanted = [
            each.version for path, each in found.items() if not _has(nodes[node].sets.get(path), each.version)
        ]
        if wanted:
            to_bring[node] = wanted
    return SharingPlan(found, to_bring, holders(nodes))


def paths(nodes: Mapping[str, NodeFiles]) -> list[str]:
    """The paths of all sets."""
    return sorted({path for each in nodes.values() for path in each.sets})


def holders(nodes: Mapping[str, NodeFiles]) -> dict[str, list[str]]:
    """Which nodes have a content, by its hash."""
    found: dict[str, list[str]] = {}
    for node, each in nodes.items():
        for report in each.sets.values():
            for sha256 in _contents(report):
                if node not in (names := found.setdefault(sha256, [])):
                    names.append(node)
    return found


def settle(path: str, nodes: Mapping[str, NodeFiles], absent: Sequence[str] = ()) -> SetDecision | None:
    """What is to hold of a set of which nobody writes any more; None where there is nothing of it.

    Of what was being written when that ended, an earlier version holds. Where there has never been one, half of a
    directory is none; and what lies in the working directory itself is taken as it is, as it would be on a disk
    that all nodes share.

    Args:
        absent: nodes that may have written parts of it, and cannot be asked: what others have may be half of it.
    """
    versions, reports = _versions(path, nodes), _reports(path, nodes)
    base = versions[0] if versions else SetVersion(path, 0, 0, [])
    there = {sha256 for _, _, report in reports for sha256 in _contents(report)}
    changing = _changing(base, reports, there)
    if not versions and not changing:
        return None
    whole = next((v for v in versions if not v.lost and all(file.sha256 in there for file in v.files)), None)
    if base.lost and not changing:
        return _decide(base, _by_name(whole or base), (), (), lost=whole is None)
    files, conflicts = _merge(base, changing, there)
    in_part = _in_part(base, reports)
    unfinished = tuple(node for node, _, report in changing if report.writing or in_part & _names(report))
    missing = tuple(sorted(name for name, file in files.items() if file.sha256 not in there))
    fence = 0
    if path and changing and absent:
        unfinished, fence = (*unfinished, *absent), 1 + max(each.fence for each in nodes.values())
    if not unfinished and not missing:
        return _decide(base, files, changing, conflicts)
    if whole is not None:
        return _decide(base, _by_name(whole), changing, (), unfinished, missing, fence=fence)
    less = bool(missing or base.files or base.lost)
    if path:
        return _decide(base, {}, changing, (), unfinished, missing, lost=less, fence=fence)
    left = {name: file for name, file in files.items() if name not in missing and name not in in_part}
    return _decide(base, left, changing, conflicts, (), missing, lost=bool(missing))


def commit(path: str, nodes: Mapping[str, NodeFiles]) -> SetDecision | None:
    """A new version of a set while workers run; None where nothing has changed, or somebody still writes it.

    Args:
        nodes: those that take part, each of which was asked after the change.
    """
    versions, reports = _versions(path, nodes), _reports(path, nodes)
    base = versions[0] if versions else SetVersion(path, 0, 0, [])
    if any(report.writing for _, _, report in reports):
        return None
    there = {sha256 for _, _, report in reports for sha256 in _contents(report)}
    changing = _changing(base, reports, there)
    files, conflicts = _merge(base, changing, there)
    if _in_part(base, reports) or not changing or any(file.sha256 not in there for file in files.values()):
        return None
    decision = _decide(base, files, changing, conflicts)
    return decision if decision.is_new else None


def newest(path: str, nodes: Mapping[str, NodeFiles]) -> SetVersion | None:
    """The newest version of a set, where all of it is there."""
    there = {sha256 for _, _, report in _reports(path, nodes) for sha256 in _contents(report)}
    found = next(iter(_versions(path, nodes)), None)
    return found if found is not None and all(file.sha256 in there for file in found.files) else None


def copies(version: SetVersion, nodes: Mapping[str, NodeFiles], replicas: int) -> list[str]:
    """The nodes that are to have all of a version, so that as many copies are left when one is lost.

    Args:
        replicas: how many nodes besides one; less than none: all.
    """
    wanted = {file.sha256 for file in version.files}
    order = sorted(nodes, key=lambda node: (nodes[node].rank, node))
    have = [n for n in order if n in nodes and wanted <= _all_contents(nodes[n].sets.get(version.path))]
    if replicas < 0:
        return [node for node in order if node not in have]
    start = order.index(have[0]) + 1 if have else 0
    ring = [node for node in order[start:] + order[:start] if node not in have]
    return ring[: max(0, replicas + 1 - len(have))] if replicas else []


def _all_contents(report: SetReport | None) -> set[str]:
    return set(_contents(report)) if report is not None else set()


# ---- inside ----------------------------------------------------------------------------------------------------------

_Report = tuple[str, NodeFiles, SetReport]


def _reports(path: str, nodes: Mapping[str, NodeFiles]) -> list[_Report]:
    return [(node, each, each.sets[path]) for node, each in nodes.items() if path in each.sets]


def _versions(path: str, nodes: Mapping[str, NodeFiles]) -> list[SetVersion]:
    """All that are known of a set, the newest first."""
    found = {
        (held.version.fence, held.version.number): held.version
        for _, _, report in _reports(path, nodes)
        for held in report.known
    }
    return [found[key] for key in sorted(found, reverse=True)]


def _changing(base: SetVersion, reports: Iterable[_Report], there: Collection[str]) -> list[_Report]:
    """Those who have changed a set since its newest version: a node that missed it has nothing to say against it."""
    return [each for each in reports if each[1].fence >= base.fence and _news(base, each, there)]


def _news(base: SetVersion, each: _Report, there: Collection[str]) -> bool:
    content, report = _by_name(base), each[2]
    return bool(
        any(file.name not in content or content[file.name].sha256 != file.sha256 for file in report.changed)
        or _deleted(base, each, there)
        or (report.writing and not report.changed and not report.gone)
    )


def _in_part(base: SetVersion, reports: Iterable[_Report]) -> set[str]:
    """The names of what was written where more was written together with something of it, and has not come.

    Nor has it come where a part is younger than the index that names it: then it is one of the next ones.
    """
    wrote = [each for each in reports if each[1].fence >= base.fence and each[2].changed]
    there = {name for _, _, report in wrote for name in _names(report)}
    if all(there.issuperset(each[2].needs) and not _is_overtaken(each, wrote) for each in wrote):
        return set()
    known = {file.name: file.sha256 for file in base.files}
    parts = [file for _, _, report in wrote if report.needs for file in report.changed]
    is_new = any(known.get(file.name) != file.sha256 for file in parts)
    return {file.name for file in parts} if is_new else set()


def _is_overtaken(index: _Report, wrote: Iterable[_Report]) -> bool:
    """Whether a part that an index names was written after it."""
    owner, node, report = index
    when = next((file.mtime - node.ahead for file in report.changed if file.name == report.index), None)
    return when is not None and any(
        file.mtime - other.ahead > when + (0.0 if writer == owner else _APART)
        for writer, other, its in wrote
        for file in its.changed
        if file.name in report.needs and file.name != report.index
    )


def _names(report: SetReport) -> set[str]:
    return {file.name for file in report.changed}


def _deleted(base: SetVersion, each: _Report, there: Collection[str]) -> set[str]:
    """The files of the newest version that a node had in place, and that were deleted there for good."""
    _, node, report = each
    content = {file.name: file.sha256 for file in base.files if not (node.writing and file.sha256 in there)}
    knew = {file.name: file.sha256 for held in report.known for file in held.version.files}
    return {name for name in report.gone if name in content and knew.get(name) == content[name]}


def _merge(
    base: SetVersion, changing: Sequence[_Report], there: Collection[str]
) -> tuple[dict[str, SharedFile], tuple[Conflict, ...]]:
    """The files of a version and what has changed since, and who wins where nodes differ."""
    files = {file.name: file for file in base.files}
    before = dict(files)
    for each in changing:
        for name in _deleted(base, each, there):
            files.pop(name, None)
    wrote: dict[str, list[tuple[SharedFile, str]]] = {}
    for writer, node, report in changing:
        for file in report.changed:
            if file.name not in before or before[file.name].sha256 != file.sha256:
                its = file._replace(fence=node.fence, rank=node.rank)
                wrote.setdefault(file.name, []).append((its, writer))
    conflicts = []
    for name, rivals in wrote.items():
        rivals.sort(key=lambda rival: (-rival[0].fence, rival[0].rank, rival[1]))
        first, writer = rivals[0]
        known = before.get(name)
        if known is not None and known.fence == first.fence and known.rank < first.rank:
            first, writer = known, ""  # a lower rank has written it in the same generation
        files[name] = first
        others = tuple(r[1] for r in rivals if r[0].fence == first.fence and r[0].sha256 != first.sha256)
        if others:
            conflicts.append(Conflict(f"{base.path}/{name}" if base.path else name, writer, others))
    return files, tuple(conflicts)


def _decide(
    base: SetVersion,
    files: Mapping[str, SharedFile],
    changing: Sequence[_Report],
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


def _by_name(version: SetVersion) -> dict[str, SharedFile]:
    return {file.name: file for file in version.files}


def _contents(report: SetReport) -> Iterable[str]:
    """The hashes of what a node has of a set."""
    yield from (file.sha256 for file in report.changed)
    for held in report.known:
        for file, place in zip(held.version.files, held.places, strict=True):
            if place:
                yield file.sha256


def _has(report: SetReport | None, version: SetVersion) -> bool:
    """Whether a node has a version in place, and nothing else."""
    if report is None:
        return not version.files
    held: HeldVersion | None = report.known[0] if report.known else None
    if held is None or (held.version.fence, held.version.number) != (version.fence, version.number):
        return False
    others = report.changed or report.gone or report.extra
    return not others and all(place == "work" for place in held.places)
