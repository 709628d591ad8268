"""All tables of checks, for `--list` and for docs/doctor.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from swarmtrain.doctor.check import Check
from swarmtrain.doctor.cluster import collectives, nodes, ways
from swarmtrain.doctor.cluster.examine import MANAGERS_SAY
from swarmtrain.doctor.compose.examine import CHECKS as COMPOSE
from swarmtrain.doctor.machine.examine import CHECKS as MACHINE
from swarmtrain.doctor.run.checks import CHECKS as RUN


@dataclass(frozen=True)
class CheckTable:
    """One table: its name, what stands above it, its rows."""

    name: str
    title: str
    checks: Sequence[Check[Any]]


TABLES = (
    CheckTable("swarm", "a Swarm, by what its managers say", MANAGERS_SAY),
    CheckTable("nodes", "its nodes, in a container on each (--image)", nodes.CHECKS),
    CheckTable("ways", "the ways between them, by real traffic (--image)", ways.CHECKS),
    CheckTable("collectives", "what torch makes of them (--collectives)", collectives.CHECKS),
    CheckTable("run", "a run, beside its workers (NAME)", RUN),
    CheckTable("machine", "this machine (--on local)", MACHINE),
    CheckTable("compose", "a stack file (--compose)", COMPOSE),
)
