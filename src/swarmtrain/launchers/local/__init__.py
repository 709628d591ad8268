"""Runs as processes on this machine."""

from swarmtrain.launchers.local.launcher import LocalLauncher

__all__ = ["LocalLauncher"]
