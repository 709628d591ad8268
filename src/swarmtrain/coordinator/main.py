"""The start of the coordinator: ``bundle.zip coordinator [--leave]``; and of the archive that it leaves behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

from swarmtrain.coordinator.agents import AgentDesk
from swarmtrain.coordinator.clients import ClientDesk
from swarmtrain.coordinator.place import place_of
from swarmtrain.coordinator.run import Run
from swarmtrain.coordinator.salvage import salvage
from swarmtrain.coordinator.terms import Phase
from swarmtrain.wire import names
from swarmtrain.wire.alive import beat
from swarmtrain.wire.keeper import KEPT, keep
from swarmtrain.wire.sockets import serve, serve_unix
from swarmtrain.wire.storage import Storage
from swarmtrain.wire.task import Task, Ticket

_LOOK_SECONDS = 0.5
_LEAVE_SECONDS = 10.0  # how long a coordinator that may leave waits for its agents to go first


def main(argv: list[str]) -> int:
    """Coordinate the run that the environment names.

    With ``--leave`` the process ends soon after the run: on this machine the archive needs no process. Nor is there
    anybody else on it who would start the coordinator again when it dies.
    """
    if "--leave" not in argv:
        return _lead(leave=False)
    return keep(partial(_lead, leave=True), again=True, note=KEPT)


def _lead(leave: bool) -> int:
    asyncio.run(_coordinate(leave))
    return 0


async def _coordinate(leave: bool) -> None:
    env = os.environ
    task = Task.load(Path(env[names.ENV_JOB_FILE]))
    ticket = Ticket.load(Path(env[names.ENV_SECRET_FILE]))
    storage = Storage(Path(env[names.ENV_STORAGE]))
    place = place_of(storage, ticket, env.get(names.ENV_NODE, ""), env.get(names.ENV_DEPLOYMENT, ""))
    if moved := int(env.get(names.ENV_MOVED) or 0):
        await salvage(
            env[names.ENV_COORDINATOR], ticket.token, place.path / "journal.jsonl", moved, place.node
        )
    run = Run(task, ticket, place, moved=moved)
    clients = ClientDesk(run)
    agents = AgentDesk(run, clients)
    servers = [
        await serve(env[names.ENV_COORDINATOR], agents.serve),
        await serve_unix(place.path / "socket", clients.serve),
    ]
    if not leave:
        Path(names.SOCKET).unlink(missing_ok=True)
        Path(names.SOCKET).symlink_to(place.path / "socket")
    print(f"coordinator of {ticket.run}: {place.path}", file=sys.stderr, flush=True)
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    tasks = [asyncio.ensure_future(_tick(run)), asyncio.ensure_future(over.wait())]
    if leave:
        tasks.append(asyncio.ensure_future(_until_left(run, clients)))
    run.settle()
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for each in done:
        each.result()  # a tick that failed is no reason to go on blind: the launcher starts the process again
    for server in servers:
        server.close()
    if leave:
        (place.path / "socket").unlink(missing_ok=True)
    for each in tasks:
        each.cancel()


async def _tick(run: Run) -> None:
    """Time passes: leases end, silence is noticed, the health check sees a living loop."""
    while True:
        beat()
        run.tick()
        await asyncio.sleep(1.0)


async def _until_left(run: Run, clients: ClientDesk) -> None:
    """Until the run is over, its agents have gone and nobody asks any more."""
    ended = 0.0
    while True:
        await asyncio.sleep(_LOOK_SECONDS)  # the bell rings for every line of output
        if run.phase is not Phase.ENDED:
            continue
        ended = ended or time.monotonic()
        agents = any(peer.channel is not None for peer in run.roll.peers.values())
        if not clients.connected and (not agents or time.monotonic() - ended > _LEAVE_SECONDS):
            return
