"""Where the coordinator keeps a run: found by its start (coordinator/main.py) and by whoever reads an archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from swarmtrain.wire.disk.storage import Storage, write_whole
from swarmtrain.wire.run_spec import RunSecret


@dataclass(frozen=True)
class RunPaths:
    """The directories of one run, as the coordinator on ``node`` sees them."""

    storage: Storage
    directory: str
    lineage: str
    node: str
    lineage_owner: str = ""  # what tells the run that started the lineage from one that had its id before it

    @property
    def path(self) -> Path:
        """The coordinator's own directory."""
        return self.storage.coordinator(self.directory)


def place_of(storage: Storage, secret: RunSecret, node: str, deployment: str) -> RunPaths:
    """The directories of a run, claimed for this deployment.

    The same stack may be deployed a second time by hand, with the same secret: that is another run, and must not
    find itself already over. The id of the deployment tells a restart from a second deployment.
    """
    attempt = 1
    while True:
        directory = secret.run if attempt == 1 else f"{secret.run}~{attempt}"
        mark = storage.coordinator(directory) / "deployment"
        if not mark.exists() or mark.read_text() == deployment:
            break
        attempt += 1
    lineage, owner = directory, secret.submission
    if (storage.run(directory) / "lineage").exists():
        lineage, owner = storage.lineage(directory), storage.lineage_owner(directory)
    elif secret.lineage:
        lineage, owner = secret.lineage, secret.lineage_owner
    elif secret.resume:
        lineage, owner = storage.lineage(secret.resume), storage.lineage_owner(secret.resume)
    storage.coordinator(directory).mkdir(parents=True, exist_ok=True)
    if not mark.exists():
        write_whole(mark, deployment.encode())
    storage.claim(directory, lineage, owner)
    return RunPaths(storage, directory, lineage, node, owner)
