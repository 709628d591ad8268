"""The one entrance of everything that runs inside a container: ``python3 bundle.zip WHAT``.

On local the same words run as ``python -m swarmtrain.inside WHAT``. Standard library only; each part is imported
when it is asked for, so that the health check stays a matter of milliseconds.
"""

from __future__ import annotations

import importlib
import sys

_PARTS = {  # the module, whose main is run unless a function is named
    "agent": "swarmtrain.agent.main",
    "coordinator": "swarmtrain.coordinator.main",
    "connect": "swarmtrain.coordinator.clients.connect",
    "relay": "swarmtrain.coordinator.clients.connect:relay",
    "files": "swarmtrain.agent.services.files",
    "spawner": "swarmtrain.worker.spawner",
    "start": "swarmtrain.worker.start",
    "clean": "swarmtrain.agent.services.clean",
    "sabotage": "swarmtrain.agent.services.sabotage",
    "alive": "swarmtrain.wire.alive",
    "probe": "swarmtrain.probe.main",
    "alert": "swarmtrain.protocol.alerts.delivery",
}

_TALKING = ("coordinator", "connect", "relay", "files")  # as the agent does, once its spawner is on its way


def main() -> None:
    """Run the part that the first argument names with the arguments that follow."""
    if len(sys.argv) < 2 or sys.argv[1] not in _PARTS:
        sys.exit(f"usage: bundle.zip {'|'.join(_PARTS)} [ARGUMENTS]")
    if sys.argv[1] in _TALKING:
        from swarmtrain.wire.machine.asynchronous import import_asyncio

        import_asyncio()
    module, _, function = _PARTS[sys.argv[1]].partition(":")
    part = getattr(importlib.import_module(module), function or "main")
    sys.exit(part(sys.argv[2:]))


if __name__ == "__main__":
    main()
