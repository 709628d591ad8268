"""An agent that has prepared its node, without a coordinator."""

from __future__ import annotations

import os
from pathlib import Path

from swarmtrain.agent import network
from swarmtrain.agent.agent import Agent
from swarmtrain.agent.choices import Settings, choose
from swarmtrain.agent.run_directories import RunDirectories
from swarmtrain.wire.disk.storage import Storage
from swarmtrain.wire.run_spec import RunSecret, RunSpec


def agent_in(path: Path, coordinator: str = "unix:/nowhere") -> Agent:
    """The agent of node a in the run t.1, whose storage is a directory; its token is ``token``."""
    settings = Settings(coordinator, "a", "a", 0, Storage(path), ())
    task = RunSpec("t", "script", "train.py", start="cold")
    agent = Agent(task, RunSecret("t.1", "token"), settings, choose(task, {}, dict(os.environ)))
    agent.group.directories = RunDirectories(Storage(path), "t.1", "t.1", "a")
    agent.group.delivery.past.set()
    agent.uplink.choice = network.Choice("lo", "127.0.0.1", "")
    return agent
