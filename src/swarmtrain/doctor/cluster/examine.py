"""All checks of a Swarm: what its managers say, then what containers on its nodes find."""

from __future__ import annotations

from collections.abc import Sequence

from swarmtrain.docker.command import Docker
from swarmtrain.doctor.check import ORDER, CheckFinding, Severity, run
from swarmtrain.doctor.cluster import collectives, engines, nodes, standing, trial, ways
from swarmtrain.doctor.cluster.gather import gather
from swarmtrain.doctor.cluster.trial import Say, TrialOptions

MANAGERS_SAY = (*standing.CHECKS, *engines.CHECKS)


def examine(docker: Docker, options: TrialOptions, say: Say) -> list[CheckFinding]:
    """What is wrong with the Swarm whose manager is spoken to, the worst first.

    Raises:
        ClusterError: Docker does not answer, is not a manager of a Swarm, or something that was started stays.
    """
    found: list[CheckFinding] = []
    if left := trial.remove_leftovers(docker):
        found.append(_removed(left))
    swarm = gather(docker)
    found += run(MANAGERS_SAY, swarm)
    if options.image and swarm.ready:
        tried = trial.try_out(docker, swarm, options, say)
        found += run(nodes.CHECKS, tried) + run(ways.CHECKS, tried)
        if options.collectives:
            found += run(collectives.CHECKS, tried)
    elif not options.image:
        found.append(_not_tried())
    return sorted(found, key=lambda finding: ORDER.index(finding.severity))


def _removed(stacks: Sequence[str]) -> CheckFinding:
    sentence = f"an earlier doctor was killed and left {', '.join(stacks)}: it is removed"
    return CheckFinding("leftovers", Severity.NOTE, "", sentence)


def _not_tried() -> CheckFinding:
    return CheckFinding(
        "not-tried",
        Severity.NOTE,
        "",
        "disks, clocks, names, ports, packet sizes and speed between the nodes were not tried",
        mend="swarmtrain doctor --image IMAGE, of an image with Python that the nodes hold or can pull",
    )
