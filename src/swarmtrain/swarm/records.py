"""What is kept of a run that was refused: one config in the Swarm, with its reason, until ``swarmtrain rm``.

Everything else of such a run is removed, so that nothing of it is tried again or in anybody's way.
"""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from swarmtrain.docker.command import Docker
from swarmtrain.job.origin import Origin
from swarmtrain.swarm.cluster import SECONDS, inspect

LABEL = "swarmtrain.record"  # on configs: the run that it tells of
_FILTER = ("--filter", f"label={LABEL}")


@dataclass(frozen=True)
class RefusedRun:
    """A run that did not begin.

    Args:
        reason: why, in a sentence.
        created: when it was submitted, as Unix time.
    """

    job: str
    number: int
    reason: str
    created: float
    origin: Origin | None = None

    def dump(self) -> bytes:
        """The content of its config."""
        origin = self.origin.dump() if self.origin else ""
        return json.dumps({**vars(self), "origin": origin}).encode()

    @staticmethod
    def load(data: bytes) -> RefusedRun:
        """What `dump` gave, also that of a version that says more.

        Raises:
            KeyError, TypeError, ValueError: it is no such record.
        """
        known: dict[str, Any] = json.loads(data)
        job, number, reason, created = (known[key] for key in ("job", "number", "reason", "created"))
        return RefusedRun(str(job), int(number), str(reason), float(created), Origin.load(known["origin"]))


def write(docker: Docker, stack: str, record: RefusedRun) -> None:
    """Keep the record of a run, named after its stack but no part of it. Raises ClusterError."""
    label = f"{LABEL}={record.job}.{record.number}"
    docker.run(
        *("config", "create", "--label", label, _name(stack), "-"), input=record.dump(), timeout=SECONDS
    )


def read(docker: Docker) -> list[RefusedRun]:
    """Every record that is kept. Raises ClusterError."""
    ids = docker.run("config", "ls", "--quiet", *_FILTER, timeout=SECONDS).split()
    records = []
    for each in inspect(docker, "config", ids):
        with suppress(KeyError, TypeError, ValueError):  # a config of somebody else's with our label
            records.append(RefusedRun.load(base64.b64decode(each["Spec"]["Data"])))
    return records


def remove(docker: Docker, stack: str) -> bool:
    """Remove the record of a run; whether there was one. Raises ClusterError when Docker does not answer."""
    return docker.completed("config", "rm", _name(stack), timeout=SECONDS).returncode == 0


def _name(stack: str) -> str:
    return f"{stack}_record"
