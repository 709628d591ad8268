"""Who follows a run that says nothing, and goes, has gone for the coordinator too."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from run_fakes import Theatre

from swarmtrain.coordinator.clients import actions
from swarmtrain.coordinator.clients.requests import ClientRequests
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.wire.channel import Channel


class Follower:
    """A client, and the coordinator's side of its connection."""

    def __init__(self, client: Channel, serving: asyncio.Future[None]) -> None:
        self.client, self.serving = client, serving

    @classmethod
    async def of(cls, clients: ClientRequests, request: dict[str, Any]) -> Follower:
        ours, theirs = socket.socketpair()
        client = Channel(*await asyncio.open_unix_connection(sock=ours))
        serving = asyncio.ensure_future(clients.serve(*await asyncio.open_unix_connection(sock=theirs)))
        await client.send(request)
        return cls(client, serving)


async def looks(run: RunController, times: int) -> None:
    """Whoever follows has looked so often whether there is anything new."""
    for _ in range(times):
        run.notifier.ring()
        await asyncio.sleep(0.04)


@pytest.mark.parametrize(
    "request_",
    [
        {"op": "logs", "follow": True, "ranks": [7]},
        {"op": "logs", "follow": True, "tail": 3},
        {"op": "events", "follow": True},
        {"op": "metrics", "follow": True},
        {"op": "watch"},
    ],
)
def test_who_follows_in_silence_and_hangs_up_stays_no_client_until_the_run_ends(
    stage: Theatre, request_: dict[str, Any]
) -> None:
    run = stage.make()
    clients = ClientRequests(run)

    async def act() -> None:
        follower = await Follower.of(clients, request_)
        await looks(run, 3)
        assert clients.connected == 1
        follower.client.close()
        for _ in range(50):
            await looks(run, 0 if follower.serving.done() else 1)
        assert clients.connected == 0
        await follower.serving

    asyncio.run(act())


def test_who_follows_and_stays_is_told_what_comes(stage: Theatre) -> None:
    run = stage.make()
    clients = ClientRequests(run)

    async def act() -> dict[str, Any]:
        request = {"op": "events", "follow": True, "after": len(run.journal.events)}
        follower = await Follower.of(clients, request)
        await looks(run, 5)
        actions.stop(run)
        told = await asyncio.wait_for(follower.client.receive(), 10)
        follower.client.close()
        await asyncio.wait_for(follower.serving, 10)
        return told or {}

    assert asyncio.run(act())["event"]["text"] == "asked to stop"


def test_whose_answer_takes_long_is_asking_all_the_while(stage: Theatre) -> None:
    """A coordinator that is let go some time after the last question does not go in the middle of an answer."""
    run = stage.make()
    clients = ClientRequests(run)

    async def act() -> None:
        follower = await Follower.of(
            clients, {"op": "events", "follow": True, "after": len(run.journal.events)}
        )
        await looks(run, 3)
        stage.clock.turn(3600.0)
        assert clients.asked.time == run.journal.clock.monotonic()
        follower.client.close()
        while not follower.serving.done():
            await looks(run, 1)
        stage.clock.turn(3600.0)
        assert clients.asked.time == run.journal.clock.monotonic() - 3600.0

    asyncio.run(act())
