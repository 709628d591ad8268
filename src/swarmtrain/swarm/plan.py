"""The plan: everything of a run that is known before it starts, as text and files.

`make` builds it from a job and a cluster; `swarmtrain plan` prints its text, and a run deploys the same text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from swarmtrain.errors import RequestError
from swarmtrain.job import LoadedJob
from swarmtrain.job.origin import Origin
from swarmtrain.payload import bundle, code
from swarmtrain.payload.code import Code
from swarmtrain.payload.run_spec import check_environment, spec_of
from swarmtrain.payload.tree import PLAN_MARKER
from swarmtrain.swarm import stack
from swarmtrain.swarm.cluster import Cluster
from swarmtrain.swarm.placement import Placement, place
from swarmtrain.wire import names
from swarmtrain.wire.run_spec import RunSecret

STACK_FILE = "stack.yml"


@dataclass(frozen=True)
class Plan:
    """A stack with the files that it names.

    Args:
        text: the stack, as it is printed and deployed.
        files: what becomes configs, by name; the secret is not among them.
        notices: what was chosen for the user, and why.
        sent: the code.
        name: what to deploy it under, ``digits-3``.
        secret: the secret part of one submission; None of a plain stack, which has none.
    """

    text: str
    files: Mapping[str, bytes]
    placement: Placement
    notices: tuple[str, ...]
    sent: Code
    name: str
    secret: RunSecret | None = field(default=None, repr=False)

    def write(self, directory: Path) -> Path:
        """Write it for ``docker stack deploy``, the secret readable by its owner alone; return the stack's path.

        Args:
            directory: empty, or with an earlier plan; made where it is not there.

        Raises:
            RequestError: it holds something else, or cannot be written.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True)
            return self._write(directory)
        except OSError as error:
            raise RequestError(f"{directory} cannot be written: {error.strerror or error}") from error

    def _write(self, directory: Path) -> Path:
        marker = directory / PLAN_MARKER
        if any(directory.iterdir()) and not marker.exists():
            raise RequestError(
                f"{directory} is not empty, and holds no earlier plan",
                "a plan gets a directory of its own: a secret is among its files",
            )
        marker.touch()  # so that it is never taken for a part of the code
        for name, data in self.files.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(data)
        if self.secret is not None:
            secret = directory / stack.SECRET
            secret.unlink(missing_ok=True)
            secret.touch(mode=0o600)
            secret.write_text(self.secret.dump())
        path = directory / STACK_FILE
        path.write_text(self.text, encoding="utf-8")
        return path


def make(job: LoadedJob, cluster: Cluster) -> Plan:
    """The plan of a job on a cluster.

    Raises:
        RequestError: the code or the variables are too large, a file is missing, the job names no image.
        ClusterError: the cluster has no place for it.
    """
    placement = place(job.job, cluster)
    check_environment(job)
    sent = code.of(job)
    task = spec_of(job, [each.name for each in placement.places])
    contents = {
        "bundle.zip": bundle.build().data,
        "job.json": task.dump().encode(),
        **{f"code-{index:02d}": part for index, part in enumerate(sent.parts())},
    }
    files = [_file(name, data) for name, data in contents.items()]
    document = stack.render(
        job.job, placement, stack.Files(files[0], files[1], tuple(files[2:])), Origin.of(job)
    )
    return Plan(
        stack.text_of(job.job, document),
        {file.name: data for file, data in zip(files, contents.values(), strict=True)},
        placement,
        (*placement.notices, *sent.notices),
        sent=sent,
        name=job.job.name,
    )


def _file(name: str, data: bytes) -> stack.File:
    """A file whose config is named by its content: a config that is in use never changes."""
    stem, digest = name.partition(".")[0], bundle.digest(data)
    target = {"bundle": names.BUNDLE, "job": names.JOB}.get(stem)
    return stack.File(name, f"{stem}-{digest}", target or names.CODE.format(index=int(stem[5:])))
