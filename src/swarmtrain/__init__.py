"""torchrun for Docker Swarm.

    from swarmtrain import Client, Job

    result = Client().run(Job(script="train.py", nodes=3)).wait()

Nothing is imported before it is used, since this file is also in the bundle that containers run. Type checkers read
`__init__.pyi`.
"""

_HOMES = {
    "Client": "swarmtrain.control.client",
    "Job": "swarmtrain.job",
    "RunHandle": "swarmtrain.control.handle",
    "RunResult": "swarmtrain.control.result",
    "Event": "swarmtrain.protocol.event",
    "Member": "swarmtrain.protocol.status",
    "Snapshot": "swarmtrain.protocol.snapshots",
    "Status": "swarmtrain.protocol.status",
    "Worker": "swarmtrain.protocol.status",
    "ChannelError": "swarmtrain.errors",
    "ClusterError": "swarmtrain.errors",
    "RequestError": "swarmtrain.errors",
    "Stopped": "swarmtrain.errors",
    "SwarmtrainError": "swarmtrain.errors",
    "TrainingError": "swarmtrain.errors",
}


def __getattr__(name: str) -> object:
    """Import a public name now (PEP 562)."""
    import importlib

    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("swarmtrain")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'swarmtrain' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, "__version__"])
