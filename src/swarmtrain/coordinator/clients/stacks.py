"""What all workers do now, for a person who asks: every agent is asked, and answers as it can."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from swarmtrain.coordinator.core.model import Phase
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.errors import ClusterError
from swarmtrain.protocol.evidence.seen import RankStacks, StackReport
from swarmtrain.protocol.replies import Done, RunReply
from swarmtrain.protocol.requests import StacksRequest
from swarmtrain.protocol.to_agent import AskStacks

_PATIENCE = 6.0  # seconds until every agent that can answer has: its workers have two, and what they forked three more


async def stacks(run: RunController, request: StacksRequest) -> AsyncIterator[RunReply]:
    """The ranks of a node, as its agent answers; at the end those of which nobody has told.

    Raises:
        ClusterError: no worker runs.
    """
    current = run.current
    nodes = {rank: worker.node for rank, worker in current.workers.items() if not worker.over}
    if run.phase is Phase.ENDED or not nodes:
        raise ClusterError(
            f"no worker of {run.secret.run} runs now", f"`swarmtrain status {run.secret.run}` says how it is"
        )
    heard: asyncio.Queue[Mapping[int, StackReport]] = asyncio.Queue()
    current.stall.listeners.append(heard.put_nowait)
    try:
        for node in set(nodes.values()):
            if (agent := run.members.connected.get(node)) is not None:
                agent.post(AskStacks(current.generation.number, request.children))
        until = run.journal.clock.monotonic() + _PATIENCE
        while nodes and (left := until - run.journal.clock.monotonic()) > 0:
            try:
                answers = await asyncio.wait_for(heard.get(), left)
            except (TimeoutError, asyncio.TimeoutError):
                break
            told = [
                RankStacks(rank, nodes.pop(rank), answers[rank]) for rank in sorted(answers) if rank in nodes
            ]
            if told:
                yield RunReply(stacks=told)
    finally:
        current.stall.listeners.remove(heard.put_nowait)
    yield RunReply(stacks=[RankStacks(rank, node) for rank, node in sorted(nodes.items())], done=Done())
