"""Runs as containers on one engine."""

from swarmtrain.launchers.docker.launcher import DockerLauncher

__all__ = ["DockerLauncher"]
