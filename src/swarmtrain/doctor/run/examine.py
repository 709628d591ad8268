"""All checks of a run: what its coordinator says, its nodes, the ways between them, and its Swarm's managers."""

from __future__ import annotations

from dataclasses import replace

from swarmtrain.doctor.check import ORDER, CheckFinding, run
from swarmtrain.doctor.cluster import nodes, ways
from swarmtrain.doctor.cluster.examine import MANAGERS_SAY
from swarmtrain.doctor.cluster.facts import SwarmFacts
from swarmtrain.doctor.cluster.gather import gather
from swarmtrain.doctor.cluster.tried import TrialReports
from swarmtrain.doctor.machine.examine import examine as examine_machine
from swarmtrain.doctor.run.checks import CHECKS
from swarmtrain.doctor.run.facts import CoordinatorSays, RunFacts, present
from swarmtrain.doctor.run.visits import Say, visit
from swarmtrain.launchers.base import Launcher, Run
from swarmtrain.launchers.swarm.launcher import SwarmLauncher
from swarmtrain.launchers.swarm.stacks import Stack
from swarmtrain.protocol.status import Status

# What of a Swarm's nodes also holds beside workers, which keep a machine busy and hold its GPUs.
OF_NODES = tuple(
    each for each in nodes.CHECKS if each.code not in ("image-missing", "node-silent", "busy", "gpu-assigned")
)


def examine(launcher: Launcher, its: Run, said: CoordinatorSays, say: Say) -> list[CheckFinding]:
    """What is wrong with a run and what it runs on, the worst first.

    Raises:
        ClusterError: Docker does not answer.
    """
    members = present(said.status)
    coordinator, swarm = "", None
    if isinstance(launcher, SwarmLauncher):
        coordinator = Stack(launcher.docker, its.stack).coordinator().address
        swarm = _of_run(gather(launcher.docker), said.status)
    tried = visit(launcher, its, members, coordinator, say) if members else TrialReports(())
    found = run(CHECKS, RunFacts(said, tried, coordinator))
    if its.on == "local":
        found += examine_machine()
    elif members:
        found += run(OF_NODES, tried) + run(ways.CHECKS, replace(tried, ports=[]))
    if swarm is not None:
        found += run(MANAGERS_SAY, swarm)
    return sorted(found, key=lambda finding: ORDER.index(finding.severity))


def _of_run(swarm: SwarmFacts, status: Status) -> SwarmFacts:
    """The same Swarm without nodes that have no part in the run."""
    members = {each.node for each in status.members}
    kept = tuple(node for node in swarm.nodes if node.hostname in members or node.is_manager)
    return replace(swarm, cluster=replace(swarm.cluster, nodes=kept))
