"""What clients ask of nodes whose agents come and go."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import virtual_time
from run_fakes import Theatre, join

from swarmtrain.coordinator.clients import actions
from swarmtrain.coordinator.clients.node_requests import NodeRequests
from swarmtrain.protocol.replies import Done, NodeReply
from swarmtrain.protocol.requests import ListRequest


@pytest.mark.parametrize("is_here", [True, False])
@pytest.mark.parametrize("goes", ["before it is asked", "when it is asked", "in the middle of its answer"])
def test_an_agent_that_goes_without_a_word_is_not_waited_for_nor_blamed(
    stage: Theatre, tmp_path: Path, goes: str, is_here: bool
) -> None:
    """Agents go when their run has ended, while clients ask what it has left."""
    run = stage.make(nodes=1)
    work = run.place.storage.work("t.1", "a")
    (work if is_here else tmp_path / "elsewhere").mkdir(parents=True)
    (work if is_here else tmp_path / "elsewhere").joinpath("result").write_text("0.5")
    replies: list[NodeReply] = []

    async def act() -> None:
        peer, ear = stage.agent("a")
        join(run, peer)
        if goes == "before it is asked":
            peer.hang_up()

        async def ask() -> None:
            async for reply in NodeRequests(run).list(ListRequest(node="a")):
                replies.append(reply)

        asking = asyncio.ensure_future(ask())
        await asyncio.sleep(0)
        if goes == "in the middle of its answer":
            peer.replies[ear.all("id")[-1]].put_nowait(NodeReply(entries=[]))
            await asyncio.sleep(0.01)
        peer.hang_up()
        await asyncio.wait_for(asking, 5)

    asyncio.run(act())
    if goes == "in the middle of its answer":
        assert replies[-1].error is not None and replies[-1].error.error == "the agent on a went away"
    elif is_here:
        assert "result" in str(replies) and replies[-1].done == Done()
    else:
        assert replies == [NodeReply(reach="a", done=Done())]


def test_a_helper_that_was_stopped_is_not_waited_for_for_ever(stage: Theatre) -> None:
    """The run has ended, so nobody else notices its silence."""
    run = stage.make(nodes=1)
    replies: list[NodeReply] = []

    async def act() -> None:
        peer, ear = stage.agent("a")
        join(run, peer)
        actions.stop(run)
        closed = asyncio.get_running_loop().call_soon
        ear.abort = lambda: closed(peer.hang_up)  # type: ignore[method-assign,assignment]

        async def ask() -> None:
            async for reply in NodeRequests(run).list(ListRequest(node="a")):
                replies.append(reply)

        asking = asyncio.ensure_future(ask())
        await asyncio.sleep(100.0)
        assert not asking.done()  # slow, but its beats come
        stage.clock.turn(16.0)
        await asyncio.sleep(16.0)
        assert asking.done()

    virtual_time.run(act())
    assert replies == [NodeReply(reach="a", done=Done())]
