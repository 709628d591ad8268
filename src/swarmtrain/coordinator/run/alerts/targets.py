"""Whom a run tells, and one attempt to tell one of them. Also asked by clients that try it (clients/alerts.py)."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from swarmtrain.errors import ChannelError
from swarmtrain.protocol import codec
from swarmtrain.protocol.alerts.alert import AlertMessage, AlertOrder, AlertTarget
from swarmtrain.protocol.alerts.answer import AlertAnswer
from swarmtrain.protocol.alerts.kinds import ALERT_KINDS, AlertKind
from swarmtrain.wire import names
from swarmtrain.wire.machine import processes
from swarmtrain.wire.run_spec import RunSecret, RunSpec

_ROOT = Path(__file__).parents[4]  # the bundle, or where the package lies
_SECONDS = 60.0  # an attempt is over by itself after 45
_OURS = (names.ENV_SECRET_FILE, names.ENV_JOB_FILE)


def targets_of(spec: RunSpec, secret: RunSecret) -> list[AlertTarget]:
    """Everybody whom a run tells."""
    found = [AlertTarget.webhook(name, address) for name, address in secret.webhooks.items()]
    return [*found, AlertTarget.command(spec.alert_command)] if spec.alert_command else found


def kinds_of(spec: RunSpec) -> frozenset[AlertKind]:
    """Of which events it tells them."""
    return frozenset(kind for kind in ALERT_KINDS if not spec.alert_on or kind in spec.alert_on)


async def tell(target: AlertTarget, message: AlertMessage, secret: RunSecret) -> AlertAnswer:
    """One attempt, in a process of its own: it can be ended, whatever it waits for."""
    environment = secret.env if target.kind == "command" else {}
    order = json.dumps(codec.dump(AlertOrder(target, message, environment))).encode()
    entrance = [str(_ROOT)] if _ROOT.is_file() else ["-m", "swarmtrain.inside"]
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *entrance,
            "alert",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if name not in _OURS},
            start_new_session=True,
        )
    except OSError as error:
        return AlertAnswer(target=target.name, delivered=False, said=f"cannot be told: {error.strerror}")
    try:
        told, _ = await asyncio.wait_for(process.communicate(order), _SECONDS)
        return codec.load(AlertAnswer, json.loads(told))
    except (TimeoutError, asyncio.TimeoutError):
        return AlertAnswer(target=target.name, delivered=False, said=f"took longer than {_SECONDS:.0f} s")
    except (ChannelError, ValueError):
        return AlertAnswer(
            target=target.name,
            delivered=False,
            said=f"the process that tells it failed ({process.returncode})",
        )
    finally:
        if process.returncode is None:  # a command is in a session of its own, so no group has all of them
            processes.kill_all([*processes.descendants(process.pid), process.pid])
