"""The start of the agent, below its init: first the spawner, then what else the agent is made of.

The spawner imports torch, for which a run's start waits longest. So it is on its way before this process imports
asyncio and most of the agent.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from swarmtrain.agent.choices import Settings, choose
from swarmtrain.agent.worker_group.spawner_command import SpawnerCommand
from swarmtrain.errors import SwarmtrainError
from swarmtrain.wire import names
from swarmtrain.wire.machine.asynchronous import import_asyncio
from swarmtrain.wire.machine.init import CHILD_FILE, supervise
from swarmtrain.wire.run_spec import RunSecret, RunSpec


def main(argv: list[str]) -> int:
    """The agent below its init; with ``--again`` it is started again when it dies, as Docker does elsewhere."""
    again = "--again" in argv
    return supervise(_run, again=again, note=CHILD_FILE if again else None)


def _run() -> int:
    env = dict(os.environ)
    settings = Settings.of(env)
    try:
        task = RunSpec.load(Path(env[names.ENV_JOB_FILE]))
        secret = RunSecret.load(Path(env[names.ENV_SECRET_FILE]))
        storage = settings.storage.root
        storage.mkdir(parents=True, exist_ok=True)
        choices = choose(task, secret.env, env)
        spawner = SpawnerCommand.of(task, choices.env, storage).begin()
        import_asyncio()
        from swarmtrain.agent.agent import lead

        return lead(task, secret, settings, choices, spawner)
    except SwarmtrainError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
