"""Runs as stacks on a Swarm."""

from swarmtrain.launchers.swarm.launcher import SwarmLauncher

__all__ = ["SwarmLauncher"]
