"""What nodes say of one set, read: the versions that are known of it, and what has changed since the newest. Pure.

Used by catalog.py, which decides what follows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from swarmtrain.coordinator.core.sharing.decisions import Conflict, LostNode, NodeFiles
from swarmtrain.files.siblings import lacks
from swarmtrain.protocol.shared_files import SetReport, SetVersion, SharedFile

_APART = 1.0  # seconds by which what is known of another machine's clock may be wrong

Report = tuple[str, NodeFiles, SetReport]  # a node, all that it says, and what it says of one set


def reports(path: str, nodes: Mapping[str, NodeFiles]) -> list[Report]:
    """What nodes say of one set.

    What was left half written where no later generation has run, as on a node that is left out, holds up nothing that
    one of them writes elsewhere: it is as if it had not been begun.
    """
    found = [(node, each, each.sets[path]) for node, each in nodes.items() if path in each.sets]
    newest = max((each.fence for _, each, report in found if report.changed), default=0)
    return [
        (node, each, _as_before(report) if report.writing and each.fence < newest else report)
        for node, each, report in found
    ]


def _as_before(report: SetReport) -> SetReport:
    return SetReport(report.path, report.known, [], [], report.extra, writing=False)


def versions(path: str, nodes: Mapping[str, NodeFiles]) -> list[SetVersion]:
    """All that are known of a set, the newest first."""
    found = {
        (held.version.fence, held.version.number): held.version
        for _, _, report in reports(path, nodes)
        for held in report.known
    }
    return [found[key] for key in sorted(found, reverse=True)]


def contents_of(report: SetReport) -> Iterable[str]:
    """The hashes of what a node has of a set."""
    yield from (file.sha256 for file in report.changed)
    for held in report.known:
        for file, place in zip(held.version.files, held.places, strict=True):
            if place:
                yield file.sha256


def contents_there(path: str, nodes: Mapping[str, NodeFiles]) -> set[str]:
    """The hashes of what any node has of a set."""
    return {sha256 for _, _, report in reports(path, nodes) for sha256 in contents_of(report)}


def names_of(path: str, nodes: Mapping[str, NodeFiles]) -> dict[tuple[int, int] | None, set[str]]:
    """The checkpoints that versions of a set name, by fence and number, and by None those of what has changed."""
    found: dict[tuple[int, int] | None, set[str]] = {None: set()}
    for _, _, report in reports(path, nodes):
        found[None].update(report.names)
        for held in report.known:
            found.setdefault((held.version.fence, held.version.number), set()).update(held.names)
    return found


def by_name(version: SetVersion) -> dict[str, SharedFile]:
    """The files of a version."""
    return {file.name: file for file in version.files}


def names(report: SetReport) -> set[str]:
    """Those of what a node has changed."""
    return {file.name for file in report.changed}


def changing(base: SetVersion, reports: Iterable[Report], there: Collection[str]) -> list[Report]:
    """Those who have changed a set since its newest version: a node that missed it has nothing to say against it."""
    return [each for each in reports if each[1].fence >= base.fence and _news(base, each, there)]


def lost(changing: Iterable[Report]) -> list[tuple[str, LostNode]]:
    """Who may have written something together with these, and cannot say so; a node several times if they differ."""
    return sorted({pair for _, each, _ in changing for pair in each.lost.items()})


def in_part(base: SetVersion, reports: Iterable[Report]) -> set[str]:
    """The names of what was written where more was written together with something of it, and has not come.

    Nor has it come where a part is younger than the index that names it: then it is one of the next ones.
    """
    wrote = [each for each in reports if each[1].fence >= base.fence and each[2].changed]
    there = {name for _, _, report in wrote for name in names(report)}
    if all(there.issuperset(each[2].needs) and not _is_overtaken(each, wrote) for each in wrote):
        return set()
    known = {file.name: file.sha256 for file in base.files}
    parts = [file for _, _, report in wrote if report.needs for file in report.changed]
    is_new = any(known.get(file.name) != file.sha256 for file in parts)
    return {file.name for file in parts} if is_new else set()


def lacking(changing: Iterable[Report], files: Collection[str]) -> list[str]:
    """The nodes by which a set may be half, since it has less than a sibling before it, or than itself before.

    Args:
        files: the names of those of all nodes.
    """
    return [
        node
        for node, _, report in changing
        if (elder := report.elder) is not None and (elder.path == report.path or lacks(files, elder.files))
    ]


def elders(path: str, nodes: Mapping[str, NodeFiles]) -> set[str]:
    """The paths of the sets which nodes wait for a set to be like: itself, as it was before, or siblings."""
    return {report.elder.path for _, _, report in reports(path, nodes) if report.elder is not None}


def merge(
    base: SetVersion, changing: Sequence[Report], there: Collection[str]
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


def _news(base: SetVersion, each: Report, there: Collection[str]) -> bool:
    content, report = by_name(base), each[2]
    return bool(
        any(file.name not in content or content[file.name].sha256 != file.sha256 for file in report.changed)
        or _deleted(base, each, there)
        or (report.writing and not report.changed and not report.gone)
    )


def _is_overtaken(index: Report, wrote: Iterable[Report]) -> bool:
    """Whether a part that an index names was written after it."""
    owner, node, report = index
    when = next((file.mtime - node.ahead for file in report.changed if file.name == report.index), None)
    return when is not None and any(
        file.mtime - other.ahead > when + (0.0 if writer == owner else _APART)
        for writer, other, its in wrote
        for file in its.changed
        if file.name in report.needs and file.name != report.index
    )


def _deleted(base: SetVersion, each: Report, there: Collection[str]) -> set[str]:
    """The files of the newest version that a node had in place, and that were deleted there for good."""
    _, node, report = each
    content = {file.name: file.sha256 for file in base.files if not (node.writing and file.sha256 in there)}
    knew = {file.name: file.sha256 for held in report.known for file in held.version.files}
    return {name for name in report.gone if name in content and knew.get(name) == content[name]}
