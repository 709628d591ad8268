"""``bundle.zip files``: a short-lived stand-in for an agent that has ended, so that its node's files can be fetched."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from pathlib import Path

from swarmtrain.agent.services.requests import NodeServices
from swarmtrain.errors import ChannelError
from swarmtrain.protocol.codec import dump
from swarmtrain.protocol.from_agent import Beat, Join, Joiner
from swarmtrain.protocol.to_agent import TO_AGENT, Welcome
from swarmtrain.wire import names, sockets
from swarmtrain.wire.channel import Channel, initiate
from swarmtrain.wire.disk.storage import Storage
from swarmtrain.wire.run_spec import RunSecret

_IDLE_SECONDS = 60.0  # without a request, the helper goes
_BEAT_SECONDS = 5.0  # the coordinator gives up a connection that is silent for three of them
_JOIN_SECONDS = 60.0


def main(argv: list[str]) -> int:
    """Serve this node's files through the coordinator until nobody asks any more."""
    secret = RunSecret.load(Path(os.environ[names.ENV_SECRET_FILE]))
    return asyncio.run(_serve(secret, dict(os.environ)))


async def _serve(secret: RunSecret, env: dict[str, str]) -> int:
    now = asyncio.get_running_loop().time
    limit = now() + _JOIN_SECONDS
    while True:
        try:
            channel = Channel(*await sockets.dial(env[names.ENV_COORDINATOR]))
            break
        except OSError as error:
            if now() > limit:
                print(f"{env[names.ENV_COORDINATOR]}: {error}", file=sys.stderr, flush=True)
                return 0  # not to be started again: the client asks anew
            await asyncio.sleep(0.2)
    try:
        await initiate(channel, secret.token)
        node = env[names.ENV_NODE]
        await channel.send(dump(_join(node, env)))
        answer = await channel.receive()
        welcome = TO_AGENT.load(answer) if answer is not None else None
        if not isinstance(welcome, Welcome):
            raise ChannelError(f"the coordinator did not take this helper: {answer}")
        services = NodeServices(Storage(Path(env.get(names.ENV_STORAGE, names.STORAGE))), node, channel)
        services.lineage = welcome.lineage
        await _attend(channel, services)
    except (ChannelError, ConnectionError, asyncio.TimeoutError) as error:
        print(error, file=sys.stderr, flush=True)
    finally:
        channel.close()
    return 0


async def _attend(channel: Channel, services: NodeServices) -> None:
    """Answer until nobody has asked for a while. The coordinator's answers to the beats are no questions."""
    beating = asyncio.ensure_future(_beat(channel))
    receiving = asyncio.ensure_future(channel.receive())
    now = asyncio.get_running_loop().time
    asked = now()
    try:
        while now() - asked < _IDLE_SECONDS:
            done, _ = await asyncio.wait([receiving], timeout=_IDLE_SECONDS / 60)
            if done:
                message = receiving.result()
                if message is None:
                    return
                receiving = asyncio.ensure_future(channel.receive())
                if services.hear(TO_AGENT.load(message)):
                    asked = now()
            if services.busy:
                asked = now()
    finally:
        beating.cancel()
        receiving.cancel()


async def _beat(channel: Channel) -> None:
    """Keep the connection warm: by time alone, never in answer to anything."""
    while True:
        channel.post(dump(Beat(time.monotonic(), [])))
        await asyncio.sleep(_BEAT_SECONDS)


def _join(node: str, env: dict[str, str]) -> Join:
    joiner = Joiner(
        node=node,
        node_id=env.get(names.ENV_NODE_ID, node),
        incarnation=f"files-{secrets.token_hex(8)}",
        slot=0,
        workers=0,
        gpus=0,
        backend="gloo",
        address="",
        interface="",
        why="serves files",
        port=0,
        time=time.monotonic(),
        generation=0,
        states=[],
        idle=True,
        warm=False,
        leaving=True,
    )
    return Join("files", joiner)
