"""One question to every node of a run: to its agent while the run is live, to a helper after its end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from swarmtrain.control.files.transfer import OutOfReach, reaching
from swarmtrain.errors import ClusterError, SwarmtrainError
from swarmtrain.protocol.ask import ask
from swarmtrain.protocol.replies import NodeReply
from swarmtrain.protocol.requests import ListRequest, SnapshotsRequest

if TYPE_CHECKING:
    from swarmtrain.control.handle import RunHandle
    from swarmtrain.wire.link import Link

Q = TypeVar("Q", ListRequest, SnapshotsRequest)

_AT_ONCE = 8  # nodes asked at a time


def everywhere(
    handle: RunHandle, request: Q
) -> tuple[dict[str, list[NodeReply]], dict[str, SwarmtrainError]]:
    """What each node answers, and why each other one does not.

    Raises:
        ClusterError: the run does not say which nodes it has.
    """
    with handle.launcher.connect(handle.run) as link:
        (reply,) = ask(link, SnapshotsRequest("nodes"))
    live = not handle.status().has_ended
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = {
            node: pool.submit(on_node, handle, replace(request, node=node), live=live)
            for node in reply.nodes or ()
        }
    answered: dict[str, list[NodeReply]] = {}
    silent: dict[str, SwarmtrainError] = {}
    for node, answer in answers.items():
        try:
            answered[node] = answer.result()
        except SwarmtrainError as error:
            silent[node] = error
    return answered, silent


def on_node(handle: RunHandle, request: ListRequest | SnapshotsRequest, *, live: bool) -> list[NodeReply]:
    """What one node answers. Raises SwarmtrainError."""
    if live:  # its agent, or nobody: helpers serve files once the agents have gone
        try:
            with handle.launcher.connect(handle.run) as link:
                return _ask(link, request)
        except OutOfReach as error:
            raise ClusterError("its agent is not there") from error
    return reaching(handle.launcher, handle.run, request.node, lambda link, _: _ask(link, request))


def _ask(link: Link, request: ListRequest | SnapshotsRequest) -> list[NodeReply]:
    replies = list(ask(link, request))
    for reply in replies:
        if reply.reach:
            raise OutOfReach(reply.reach)
    return replies
