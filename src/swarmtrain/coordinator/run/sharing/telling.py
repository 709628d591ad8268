"""What the journal says of shared files."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from swarmtrain.coordinator.core.sharing.decisions import SetDecision, SharingPlan
from swarmtrain.coordinator.store.journal import Journal
from swarmtrain.protocol.journal.remarks import FilesBrought, FilesShared, Warned
from swarmtrain.protocol.shared_files import MOST_OF_ONE, SharedBrought
from swarmtrain.wire.plural import counted

_SHOWN = 3  # paths that are named


class SharingRemarks:
    """Puts into words what becomes of the files of one run, and says of one path once what holds on."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._told: set[str] = set()  # paths of files on which nodes differ, and of sets that are too large

    def wait(self, nodes: Collection[str], why: str) -> None:
        """A generation waits for long: nobody is to take that for a hang."""
        text = f"the next generation waits until {', '.join(sorted(nodes))} {why}"
        self._journal.append(FilesShared(text=text))

    def large(self, paths: Iterable[str]) -> None:
        """Of these sets, the nodes have too many files together."""
        for path in set(paths) - self._told:
            self._told.add(path)
            text = f"what is in {_where(path)} stays where it is: the nodes have more than {MOST_OF_ONE} files there"
            self._journal.append(FilesShared(text=text))

    def failed(self, failed: Iterable[str]) -> None:
        """A generation begins without this."""
        for text in failed:
            self._journal.append(Warned(text=f"files could not be brought: {text}"))

    def brought(self, node: str, said: SharedBrought, plan: SharingPlan | None) -> None:
        """What was ordered is in place on a node."""
        if said.files:
            what = f"{counted(said.files, 'file')} ({size_of(said.size)})"
            text = f"brought {what}{_origin(plan, node)} to {node} in {said.seconds:.1f} s"
            self._journal.append(FilesBrought(text=text, node=node))
        if said.aside:
            text = f"{node}: set aside in {said.directory}, since other files hold: {shown(said.aside)}"
            self._journal.append(FilesShared(text=text, node=node))

    def decided(self, decision: SetDecision) -> None:
        """What a person should know of a decision."""
        where = _where(decision.version.path)
        for each in decision.conflicts:
            if each.path not in self._told:
                self._told.add(each.path)
                whose = f"that of {each.winner} holds" if each.winner else "that of the lowest rank holds"
                text = f"{each.path} has other contents on {', '.join(each.others)}: {whose}"
                self._journal.append(FilesShared(text=f"{text}; `per_node` keeps a file to its node"))
        if decision.unfinished:
            nodes = ", ".join(decision.unfinished)
            text = f"{where} was being written on {nodes} when its writers ended: what was whole before holds"
            self._journal.append(FilesShared(text=text))
        if decision.named:
            text = f"what is newest in {where} names {shown(decision.named)}, which is not there: what was before holds"
            self._journal.append(FilesShared(text=text))
        if decision.is_back:
            text = f"{where} is there again, though it was deleted: of what was newer, something is missing"
            self._journal.append(FilesShared(text=text))
        if decision.missing:
            text = f"{', '.join(decision.missing[:_SHOWN])} of {where} went with the node that had written it"
            if decision.version.files and not decision.version.lost:
                text = f"the newest {text}: what was whole before holds"
            self._journal.append(Warned(text=text))


def shown(paths: Collection[str]) -> str:
    """The first of some paths, in words."""
    return ", ".join(list(paths)[:_SHOWN]) + (", ..." if len(paths) > _SHOWN else "")


def size_of(size: int) -> str:
    """Bytes, in words."""
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def _where(path: str) -> str:
    return path or "the working directory"


def _origin(plan: SharingPlan | None, node: str) -> str:
    if plan is None:
        return ""
    files = {file.sha256 for version in plan.to_bring[node] for file in version.files}
    peers = {each for sha256 in files for each in plan.sources.get(sha256, [])[:1] if each != node}
    return f" from {', '.join(sorted(peers))}" if peers else ""
