"""torchrun for Docker Swarm.

    from swarmtrain import Client, Job

    result = Client().run(Job(script="train.py", nodes=3)).wait()

The public names are imported when they are used: this file is also in the bundle that containers run.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swarmtrain.control.client import Client as Client
    from swarmtrain.control.handle import RunHandle as RunHandle
    from swarmtrain.control.result import RunResult as RunResult
    from swarmtrain.errors import ChannelError as ChannelError
    from swarmtrain.errors import ClusterError as ClusterError
    from swarmtrain.errors import RequestError as RequestError
    from swarmtrain.errors import Stopped as Stopped
    from swarmtrain.errors import SwarmtrainError as SwarmtrainError
    from swarmtrain.errors import TrainingError as TrainingError
    from swarmtrain.job import Job as Job

    __version__: str

_ERRORS = ("ChannelError", "ClusterError", "RequestError", "Stopped", "SwarmtrainError", "TrainingError")
_HOMES = {
    "Client": "swarmtrain.control.client",
    "Job": "swarmtrain.job",
    "RunHandle": "swarmtrain.control.handle",
    "RunResult": "swarmtrain.control.result",
    **dict.fromkeys(_ERRORS, "swarmtrain.errors"),
}


def __getattr__(name: str) -> Any:
    """Import a public name now (PEP 562)."""
    if name == "__version__":
        from importlib import metadata

        return metadata.version("swarmtrain")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'swarmtrain' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, "__version__"])
