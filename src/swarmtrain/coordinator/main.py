"""The start of the coordinator: ``bundle.zip coordinator [--leave]``; and of the archive that it leaves behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from swarmtrain.coordinator.agents.connections import AgentConnections
from swarmtrain.coordinator.clients.actions import conclude
from swarmtrain.coordinator.clients.requests import ClientRequests
from swarmtrain.coordinator.clients.status import leave as leave_status
from swarmtrain.coordinator.core.model import Phase
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.coordinator.store.journal import NewerJournal
from swarmtrain.coordinator.store.run_paths import place_of
from swarmtrain.protocol.facts import Outcome
from swarmtrain.wire import names
from swarmtrain.wire.alive import beat
from swarmtrain.wire.disk.storage import Storage
from swarmtrain.wire.disk.submission import SubmissionMark
from swarmtrain.wire.machine.init import CHILD_FILE, supervise
from swarmtrain.wire.run_spec import RunSecret, RunSpec, UnreadableRun
from swarmtrain.wire.sockets import serve, serve_unix

if TYPE_CHECKING:
    from swarmtrain.coordinator.run.alerts.alerts import Alerts
    from swarmtrain.protocol.evidence.diagnosis import Diagnosis

_LOOK_SECONDS = 0.5
_LEAVE_SECONDS = 10.0  # how long a coordinator on local waits for its agents to go first
_ASKED_SECONDS = 300.0  # for which a coordinator that was asked after the end waits for another question
_STOPPED = 143  # told to end, not let go: to be started again where its container is
_LAST_SECONDS, _LAST_LOOKS = 0.1, 50  # for clients that came as it was about to leave


def main(argv: list[str]) -> int:
    """Coordinate the run that the environment names, below an init that wakes the coordinator where it was stopped.

    With ``--leave`` the process ends soon after the run: on this machine the archive needs no process. Nor is there
    anybody else on it who would start the coordinator again when it dies, so its init does. Elsewhere Docker or Swarm
    do; it stays for some time after the end, and then exits with 0, so that Docker lets it rest until somebody starts
    it to ask. So it does where a newer version has written the journal or the run spec, which another life would not
    change.
    """
    leave = "--leave" in argv
    return supervise(partial(_lead, leave), again=leave, note=CHILD_FILE if leave else None)


def _lead(leave: bool) -> int:
    try:
        return asyncio.run(_coordinate(leave))
    except (NewerJournal, UnreadableRun) as error:
        print(error, file=sys.stderr, flush=True)
        return 0


async def _coordinate(leave: bool) -> int:
    env = os.environ
    spec = RunSpec.load(Path(env[names.ENV_JOB_FILE]))
    secret = RunSecret.load(Path(env[names.ENV_SECRET_FILE]))
    storage = Storage(Path(env[names.ENV_STORAGE]))
    place = place_of(storage, secret, env.get(names.ENV_NODE, ""), env.get(names.ENV_DEPLOYMENT, ""))
    if moved := int(env.get(names.ENV_MOVED) or 0):
        from swarmtrain.coordinator.agents.journal_recovery import recover_journal  # which hardly any needs

        await recover_journal(
            env[names.ENV_COORDINATOR], secret.token, place.path / "journal.jsonl", moved, place.node
        )
    killed = "" if leave else _killed()
    submitted = SubmissionMark(env.get(names.ENV_SUBMITTED, ""))
    run = RunController(spec, secret, place, archive=bool(killed), moved=moved, submission=submitted)
    if killed:
        conclude(run, Outcome.STOPPED, killed)
    clients = ClientRequests(run)
    agents = AgentConnections(run, clients.attend)
    alerts = _alerts(run)
    servers = [
        await serve(env[names.ENV_COORDINATOR], agents.serve),
        await serve_unix(place.path / "socket", clients.serve),
    ]
    if run.spec.metrics_port:
        from swarmtrain.coordinator.clients.endpoint import open_endpoint

        if (endpoint := await open_endpoint(run, env[names.ENV_COORDINATOR])) is not None:
            servers.append(endpoint)
    if not leave:
        Path(names.SOCKET).unlink(missing_ok=True)
        Path(names.SOCKET).symlink_to(place.path / "socket")
    print(f"coordinator of {secret.run}: {place.path}", file=sys.stderr, flush=True)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    until = _until_left(run, clients, alerts) if leave else _until_let_go(run, clients, alerts)
    telling = [asyncio.ensure_future(alerts.serve())] if alerts is not None else []
    tasks = [asyncio.ensure_future(each) for each in (_tick(run), until, stopped.wait())]
    run.settle()
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for each in done:
        each.result()  # a tick that failed is no reason to go on blind: the launcher starts the process again
    if tasks[1] in done:
        leave_status(run, [storage.left(place.directory), *([] if leave else [Path(names.LEFT)])])
        await _vanish(place.path / "socket", clients)
    for server in servers:
        server.close()
    run.progress.series.close()  # sealed, they are read at once
    (place.path / "socket").unlink(missing_ok=True)
    for each in (*tasks, *telling):
        each.cancel()
    return 0 if tasks[1] in done else _STOPPED


def _alerts(run: RunController) -> Alerts | None:
    """What tells people of the run; None where its job names nobody."""
    if not run.secret.webhooks and not run.spec.alert_command:
        return None
    # Imported here: most runs have none, and all wait for their coordinator.
    from swarmtrain.coordinator.run.alerts.alerts import Alerts

    return Alerts(run, _diagnosed)


async def _diagnosed(run: RunController) -> Diagnosis:
    """What is wrong with a run."""
    # Imported here: most runs are never asked.
    from swarmtrain.coordinator.clients.explain import explain

    return await explain(run)


def _killed() -> str:
    """Why the run is over, where a client has killed it since its coordinator stayed silent; else empty."""
    if reason := os.environ.get(names.ENV_KILLED):
        return reason
    file = Path(names.KILLED)
    return file.read_text() if file.exists() else ""


async def _tick(run: RunController) -> None:
    """Time passes: leases end, silence is noticed. After the end of the run it changes nothing, and costs nothing."""
    while run.phase is not Phase.ENDED:
        beat()
        run.tick()
        await asyncio.sleep(1.0)
    await asyncio.Event().wait()


async def _until_ended(run: RunController) -> float:
    """Until the run is over; the monotonic time of its end."""
    while run.phase is not Phase.ENDED:
        await asyncio.sleep(_LOOK_SECONDS)  # the notifier rings for every line of output
    ended = run.state.ended
    assert ended is not None, "a run that has ended says so in its journal"
    return run.journal.clock.moment(ended)


async def _until_told(alerts: Alerts | None) -> None:
    """Until nobody is to be told of anything any more."""
    while alerts is not None and alerts.pending():
        await asyncio.sleep(_LOOK_SECONDS)


async def _until_let_go(run: RunController, clients: ClientRequests, alerts: Alerts | None) -> None:
    """Until the run has been over for long enough, everybody was told, and nobody has asked of late."""
    now = run.journal.clock.monotonic
    began, linger = now(), run.spec.linger
    ended = await _until_ended(run)
    await _until_told(alerts)
    while True:
        due = max(ended + linger, max(began, clients.asked.time) + min(linger, _ASKED_SECONDS))
        if now() >= due:
            return
        await asyncio.sleep(due - now())


async def _vanish(socket: Path, clients: ClientRequests) -> None:
    """Nobody finds this coordinator any more, but looks into its archive; whoever had just found it is answered."""
    socket.unlink(missing_ok=True)
    for _ in range(_LAST_LOOKS):
        await asyncio.sleep(_LAST_SECONDS)
        if not clients.connected:
            return


async def _until_left(run: RunController, clients: ClientRequests, alerts: Alerts | None) -> None:
    """Until the run is over, everybody was told, its agents have gone and nobody asks.

    Who only stands there is not waited for long.
    """
    await _until_ended(run)
    await _until_told(alerts)
    now = run.journal.clock.monotonic
    limit = now() + _LEAVE_SECONDS
    while now() < max(limit, clients.asked.time + run.spec.linger):
        agents = any(agent.channel is not None for agent in run.members.connected.values())
        late = now() > limit
        if not clients.connected and (late or not agents):
            return
        await asyncio.sleep(5.0 if late else 0.2)
