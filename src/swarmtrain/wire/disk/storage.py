"""Where everything of a run lies under a node's storage root; the same layout on every launcher.

runs/digits.3/lineage            the name of the directory under data/ that this run works in, and whose that is
runs/digits.3/coordinator/       journal, output, metrics, socket (on the coordinator's node)
runs/digits.3/NODE/output/       per-rank output, metrics and error files
data/digits.2/NODE/work/         the workers' working directory, with the user's code unpacked into it
data/digits.2/NODE/snapshots/

Beside the root, in memory: /dev/shm/swarmtrain-UID-ROOT/digits.3/NODE/, with the pulses of workers and short-lived
snapshots. It is gone when the machine or the container is. Where that name has been taken by somebody else, or where
there is no such place, it is memory/ below the root.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from swarmtrain.structs import Struct
from swarmtrain.wire.disk import private, segments
from swarmtrain.wire.disk.trees import remove_tree

_SHARED = Path("/dev/shm")


class Storage(Struct):
    """The storage root of one node."""

    root: Path

    def run(self, directory: str) -> Path:
        """The directory of a run, which goes with the run."""
        return self.root / "runs" / directory

    def coordinator(self, directory: str) -> Path:
        """The coordinator's part of a run's directory."""
        return self.run(directory) / "coordinator"

    def left(self, directory: str) -> Path:
        """The last status document of a run, which its coordinator leaves as it goes after the end."""
        return self.coordinator(directory) / "status.json"

    def output(self, directory: str, node: str) -> Path:
        """Per-rank files of one node."""
        return self.run(directory) / node / "output"

    def work(self, lineage: str, node: str) -> Path:
        """The working directory of one node's workers."""
        return self.root / "data" / lineage / node / "work"

    def snapshots(self, lineage: str, node: str) -> Path:
        """The snapshots that one node holds."""
        return self.root / "data" / lineage / node / "snapshots"

    def memory(self, directory: str, node: str) -> Path:
        """Where a node keeps what may go when its machine goes."""
        return self._memory() / directory / node

    def clear_memory(self, directory: str) -> None:
        """Remove what nodes of a run have left in memory: those that were killed could not."""
        for base in {self._memory(), self.root / "memory"}:
            for node in base.glob(f"{directory}/*"):
                segments.remove(segments.noted(node))
            _remove_quietly(base / directory)
            try:
                base.rmdir()
            except OSError:
                pass  # other runs are there, or nothing ever was

    def lineage(self, directory: str) -> str:
        """The data directory a run works in; a run nobody wrote one down for works in its own."""
        return self._lineage(directory)[0] or directory

    def lineage_owner(self, directory: str) -> str:
        """What tells the run that started this lineage from one that had its id before it; empty if nobody said."""
        return self._lineage(directory)[1]

    def _lineage(self, directory: str) -> tuple[str, str]:
        try:
            name, owner, *_ = [*(self.run(directory) / "lineage").read_text().split("\n"), "", ""]
        except OSError:
            return "", ""
        return name.strip(), owner.strip()

    def claim(self, directory: str, lineage: str, owner: str = "") -> None:
        """Write down which data directory a run works in, and whose that is. Raises OSError."""
        self.run(directory).mkdir(parents=True, exist_ok=True)
        write_whole(self.run(directory) / "lineage", f"{lineage}\n{owner}\n".encode())

    def adopt(self, directory: str, lineage: str, node: str, owner: str, lineage_owner: str = "") -> None:
        """Make a run's directories on a node its own; those of a lineage are the run's that started fresh.

        Numbers of runs begin again after `rm`, and a node that was down at that time still holds an older run's
        files under the same name: they must not be taken for this run's snapshots or output. Raises OSError.

        Args:
            owner: tells one submission from another; the same whenever its container starts again.
            lineage_owner: the same of the submission that started the lineage; empty where that is not known.
        """
        output, data = self.output(directory, node), self.root / "data" / lineage / node
        _own(output.parent, owner, (output,))
        if lineage == directory:
            _own(data, owner, (data,))
        elif lineage_owner and _owner(data):
            _own(data, lineage_owner, (data,))

    def owner(self, directory: str, node: str) -> str:
        """Who has adopted a run's directory on a node; empty where nobody has."""
        return _owner(self.run(directory) / node)

    def runs(self) -> list[str]:
        """The directories of all runs kept on this node."""
        try:
            found = [entry for entry in (self.root / "runs").iterdir() if entry.is_dir()]
        except OSError:
            return []
        return sorted(entry.name for entry in found if not entry.name.startswith("."))  # no halves of runs

    def remove(self, run: str) -> None:
        """Remove a run, and its data unless another run kept on this node works there too. Raises OSError.

        Whenever it is killed, the run can still be found, to be removed again, or its id is free.
        """
        mine = [name for name in self.runs() if name == run or name.startswith(f"{run}~")]
        needed = {self.lineage(name) for name in self.runs() if name not in mine}
        for lineage in {run, *map(self.lineage, mine)} - needed:
            data = self.root / "data" / lineage
            if data.is_dir():
                remove_tree(data)
        for name in sorted(mine, key=lambda name: name == run):
            self.clear_memory(name)
            aside = self.run(f".{name}.gone")
            _remove_quietly(aside)  # of one that was killed
            self.run(name).rename(aside)
            _remove_with_others(aside)

    def _memory(self) -> Path:
        """One directory a user and a root: names of runs repeat under another root."""
        import hashlib  # OpenSSL, for which what starts an agent's spawner need not wait

        mark = hashlib.sha256(os.fsencode(self.root.absolute())).hexdigest()[:8]
        memory = _SHARED / f"swarmtrain-{os.getuid()}-{mark}"
        try:
            is_ours = not private.trouble(memory)
        except FileNotFoundError:
            is_ours = os.access(_SHARED, os.W_OK)
        except OSError:
            is_ours = False
        return memory if is_ours else self.root / "memory"


def _remove_quietly(directory: Path) -> None:
    """Remove what of a directory can be removed."""
    import shutil  # and what it unpacks with, for which what starts an agent's spawner need not wait

    shutil.rmtree(directory, ignore_errors=True)


def _remove_with_others(directory: Path) -> None:
    """Remove it, while whoever submits another run may sweep away what looks left behind. Raises OSError."""
    while directory.exists():
        with contextlib.suppress(FileNotFoundError):  # they were quicker with a file of it
            remove_tree(directory)


def _own(place: Path, owner: str, stale: Iterable[Path]) -> None:
    """Mark a directory as an owner's; what is ``stale`` in another's goes."""
    if _owner(place) == owner:
        return
    for each in stale:
        if each.exists():
            remove_tree(each)
    place.mkdir(parents=True, exist_ok=True)
    write_whole(place / ".owner", owner.encode())


def _owner(place: Path) -> str:
    """Whose a directory is; empty where nobody has said."""
    try:
        return (place / ".owner").read_text()
    except FileNotFoundError:
        return ""


def write_whole(path: Path, data: bytes, mode: int = 0o644, *, sync: bool = True) -> None:
    """Write a file that is there whole or as it was before; with ``sync``, also after a power cut. Raises OSError."""
    if path.exists() and path.read_bytes() == data:
        path.chmod(mode)
        if sync:  # whoever wrote it may not have waited
            with path.open("rb") as file:
                os.fsync(file.fileno())
        return
    aside = path.with_name(f".{path.name}.swarmtrain-new")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        aside.chmod(mode)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
