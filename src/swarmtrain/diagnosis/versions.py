"""Which torch, NCCL and Python each node trains with, and where they differ. Pure.

Each agent says it in the journal once its spawner has imported torch (agent/worker_group/spawner.py). Of nodes whose
workers start cold nothing is known.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from swarmtrain.diagnosis.case import Case
from swarmtrain.protocol.evidence.diagnosis import Observation
from swarmtrain.protocol.journal.remarks import StartsWarm
from swarmtrain.protocol.schema import Struct
from swarmtrain.wire.plural import plural

_SAID = re.compile(
    r"\btorch (?P<torch>\S+?)(?:, NCCL (?P<NCCL>\S+))? is imported(?: in Python (?P<Python>[\d.]+))?;"
)
PACKAGES = ("torch", "NCCL", "Python")


class Difference(Struct):
    """Of one package, nodes do not have the same version.

    Attributes:
        versions: by node; of all nodes of the generation that have said one.
        odd: the nodes whose version is not that of most; empty where no version is that of most.
    """

    package: str
    versions: Mapping[str, str]
    odd: frozenset[str]

    def observations(self) -> list[Observation]:
        """Who has which, the odd ones first."""
        by_version: dict[str, list[str]] = {}
        for node in sorted(self.versions, key=lambda each: (each not in self.odd, each)):
            by_version.setdefault(self.versions[node], []).append(node)
        return [
            Observation(f"{', '.join(nodes)} {plural(len(nodes), 'has', 'have')} {self.package} {version}")
            for version, nodes in by_version.items()
        ]


def versions_in(text: str) -> dict[str, str]:
    """By package, what an agent has said; empty where it said something else."""
    match = _SAID.search(text)
    return {package: match[package] for package in PACKAGES if match[package]} if match is not None else {}


def differences(case: Case) -> list[Difference]:
    """What is not the same on all nodes of the generation, torch first."""
    members = {worker.node for worker in case.status.workers}
    said = {
        event.node: versions
        for event in case.of_kind(StartsWarm)
        if event.node in members and (versions := versions_in(event.text))
    }
    found: list[Difference] = []
    for package in PACKAGES:
        versions = {node: each[package] for node, each in said.items() if package in each}
        if len(counts := Counter(versions.values())) > 1:
            (usual, most), (_, next_most) = counts.most_common(2)
            odd = (
                {node for node, version in versions.items() if version != usual}
                if most > next_most
                else set()
            )
            found.append(Difference(package, versions, frozenset(odd)))
    return found
