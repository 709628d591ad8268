"""What `--resume` goes on from, said before anything starts; another project's run is refused."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from swarmtrain.control.views import view
from swarmtrain.errors import ClusterError, RequestError, in_short
from swarmtrain.wire.plural import counted
from swarmtrain.wire.run_spec import Resumption

if TYPE_CHECKING:
    from swarmtrain.control.handle import RunHandle
    from swarmtrain.job import LoadedJob
    from swarmtrain.protocol.status import Status


def resumption(loaded: LoadedJob, earlier: RunHandle) -> tuple[Resumption, list[str]]:
    """What is gone on from, and the same in sentences.

    Raises:
        RequestError: the earlier run is of another script or project, and only their names' likeness says otherwise.
    """
    status: Status | None = None
    try:
        status = earlier.status()
        step = f" at step {status.step}" if status.step is not None else ""
        how = f"which {view.is_or_has(status)}{step}"
    except ClusterError as error:
        how = f"which does not answer: {in_short(error)}"
    notices = [f"goes on in the directories of {earlier}, {how}"]
    if strange := _strange(loaded, earlier, status):
        # A name that was given says which training is meant; one that was made of the script's name does not.
        if loaded.sources and "name" not in loaded.sources:
            name = loaded.job.name
            raise RequestError(
                f"{earlier} is of another training: {strange}",
                f"if this one goes on from it all the same, say so with --name {name}; else start it afresh, "
                "with a --name of its own and without --resume",
            )
        notices.append(f"{strange}; that it is the same training, its name says")
    nodes = len({worker.node for worker in status.workers}) if status is not None else 0
    if nodes and not loaded.job.nodes_min <= nodes <= loaded.job.nodes_max:
        now = loaded.job.nodes if isinstance(loaded.job.nodes, str) else loaded.job.nodes_max
        notices.append(f"{earlier.id} ran on {counted(nodes, 'node')}; this one on {now}")
    if status is None:
        return Resumption(earlier.id), notices
    return Resumption(earlier.id, status.lineage, status.lineage_owner), notices


def _strange(loaded: LoadedJob, earlier: RunHandle, status: Status | None) -> str:
    """How the earlier run differs from what this one is of; empty where nothing says that it does."""
    job, origin = loaded.job, earlier.run.origin
    ours = job.script or job.module or (job.command or [""])[0]
    theirs = (status.target if status is not None else "") or ours
    if origin is not None and origin.is_here:
        ours, theirs = posixpath.join(loaded.directory, ours), posixpath.join(origin.directory, theirs)
    return f"it ran {theirs}, and this one runs {ours}" if ours != theirs else ""
