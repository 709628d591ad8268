"""What travels to the nodes: the run spec, which `plan` shows, and the run secret.

The client makes both out of the job; coordinator and agents read them from files (a config and a secret of the
Swarm, files of mode 0600 elsewhere). The spec is the same for every submission of a job; the secret is not.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, cast

from swarmtrain.errors import ChannelError
from swarmtrain.structs import Struct


class UnreadableRun(ChannelError):
    """What a run is made of is not of this version, or of none: to begin once more would not change it."""


class RunSpec(Struct):
    """A job as the coordinator and the agents need it. Durations in seconds."""

    name: str
    kind: Literal["script", "module", "command"]
    target: str  # the script's path relative to the code, the module's name, or the command's first word
    args: tuple[str, ...] = ()
    nodes_min: int = 1
    nodes_max: int = 1
    node_names: tuple[str, ...] = ()  # in the order of their ranks; empty for a count
    workers: int = 0  # per node; 0: as many as it has of what workers_by says, or one where there is none
    workers_by: Literal["gpu", "cpu"] = "gpu"
    backend: Literal["auto", "nccl", "gloo"] = "auto"
    timeout: float | None = None  # of the process group; None is torch's own default
    start: Literal["warm", "cold"] = "warm"
    join_deadline: float = 300.0
    stop_grace: float = 60.0
    linger: float = 3600.0  # for how long the coordinator stays after the end
    debug: bool = False
    restart: bool = True  # failures are healed
    max_restarts: int = 10  # failures within the window that are
    restart_window: float = 3600.0
    node_timeout: float = 900.0  # for how long a run that has begun waits for enough nodes
    # for how long no step may be made; None: by the usual step, 0: for ever
    hang_timeout: float | None = None
    cpus: float | None = None  # this node's share of processors, where it is limited
    # which files that workers write every node has: all, none, or those of these patterns; see docs/files.md
    share: Literal["auto", "off"] | tuple[str, ...] = "off"
    per_node: tuple[str, ...] = ()  # patterns of files that stay on their node
    replicas: int = 1  # how many other nodes have a copy while it trains; less than none: all
    share_rate: float = 0.1  # the share of a link's time that such copies may take
    # of which events people are told (protocol/alerts/kinds.py); empty: of all
    alert_on: tuple[str, ...] = ()
    alert_command: tuple[str, ...] = ()  # that is told, beside the secret's webhooks
    alerts_per_hour: int = 20
    metrics_port: int = 0  # of the endpoint for Prometheus in the run's network; 0: there is none

    def dump(self) -> str:
        """As JSON, the same text for the same spec."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True)

    @staticmethod
    def load(path: Path) -> RunSpec:
        """Read a spec that :meth:`dump` wrote.

        Raises:
            UnreadableRun: it is none, or has keys that this version does not know.
        """
        return cast(RunSpec, _load(RunSpec, "run spec", path))


GENERATIONS = 10_000  # more than any run has


class Resumption(Struct):
    """What a run goes on from: an earlier one, and the directories that it works in, as `Storage.lineage` has them.

    The coordinator of the next run may be on another machine, whose disk knows nothing of the earlier one.
    """

    run: str
    lineage: str = ""
    lineage_owner: str = ""


class RunSecret(Struct):
    """What one submission adds to the spec, and what nobody else may read."""

    run: str  # "digits.3"
    token: str = field(repr=False)  # proves membership of the run
    # The user's variables, which often hold keys.
    env: dict[str, str] = field(default_factory=dict, repr=False)
    resume: str = ""  # the run whose directories this one goes on in, "digits.2"; empty: a fresh start
    lineage: str = ""  # where that run works, as its coordinator says; empty where nobody could ask it
    lineage_owner: str = ""  # the submission that began there
    # Addresses of those who are told of alerts, by names that may be shown: "slack SLACK_URL".
    webhooks: dict[str, str] = field(default_factory=dict, repr=False)

    def fence(self, generation: int) -> int:
        """The least fence of a generation: above the run's earlier ones, also on a node that has seen none of them.

        The fence itself is claimed above all that the nodes hold when the generation starts (trainer.snapshots.fence).
        Numbers of runs are used again after `rm`, so they alone order nothing.
        """
        number = self.run.rpartition(".")[2] if self.resume else ""
        return GENERATIONS * int(number if number.isdecimal() else 0) + generation

    @property
    def submission(self) -> str:
        """Tells this run from all others, also from one of the same id; unlike the token, it is no secret."""
        import hashlib  # OpenSSL; the agent reads its secret on the way to its spawner, which need not wait for that

        return hashlib.sha256(self.token.encode()).hexdigest()[:16]

    def dump(self) -> str:
        """As JSON."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @staticmethod
    def load(path: Path) -> RunSecret:
        """Read a secret that :meth:`dump` wrote. Raises UnreadableRun, as :meth:`RunSpec.load`."""
        return cast(RunSecret, _load(RunSecret, "run secret", path))


def new_token() -> str:
    """A secret for one run: 256 bits."""
    return os.urandom(32).hex()


def _load(kind: type[Any], what: str, path: Path) -> Any:
    try:
        fields: dict[str, Any] = json.loads(path.read_text())
        known = {each.name for each in dataclasses.fields(kind)}
        # A key may say how a run is to train: to leave out what is not understood would train something else.
        if unknown := sorted(fields.keys() - known):
            raise UnreadableRun(
                f"{path} holds a {what} of a newer version of swarmtrain: this one knows no {', '.join(unknown)}",
                "start and read it with the version that submitted it",
            )
        return kind(
            **{key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
        )
    except (AttributeError, OSError, ValueError, TypeError) as error:
        raise UnreadableRun(f"{path} holds no {what} that this version can read: {error}") from error
