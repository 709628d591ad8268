"""A launcher whose coordinators are functions: for tests of what the client does when things go wrong.

The frames are real and travel over a socket pair; only the processes behind them are missing.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, BinaryIO, cast

from swarmtrain.errors import ChannelError, ClusterError
from swarmtrain.job import LoadedJob
from swarmtrain.launchers.base import Act, Checked, Machines, Notice, Run, no_stack
from swarmtrain.payload.code import Code
from swarmtrain.protocol.codec import load
from swarmtrain.protocol.requests import KILLED
from swarmtrain.protocol.status import Status
from swarmtrain.swarm.obstacles import Obstacle
from swarmtrain.swarm.plan import Plan
from swarmtrain.wire import frames
from swarmtrain.wire.link import Link
from swarmtrain.wire.names import PROTOCOL_VERSION
from swarmtrain.wire.run_spec import Resumption

Message = dict[str, Any]  # as it is on the wire
Receive = Callable[[], Message | None]
Answer = Callable[[Message, Receive], Iterator[Message]]


def status(run: str = "digits.1", state: str = "running", **more: Any) -> dict[str, Any]:
    """A status document, as it comes over the wire."""
    document = {
        "run": run,
        "job": run.partition(".")[0],
        "state": state,
        "reason": "",
        "created": 1000.0,
        "started": 1001.0,
        "ended": None if state in ("starting", "running") else 1010.0,
        "generation": 1,
        "world_size": 2,
        "step": None,
        "epoch": None,
        "loss": None,
        "eval": None,
        "snapshot": None,
        "weights": None,
        "cause": None,
        "members": [
            {
                "node": "lab-1",
                "state": "running",
                "ranks": [0],
                "address": "10.0.0.2",
                "interface": "eth0",
                "gpus": 0,
            },
            {
                "node": "lab-2",
                "state": "running",
                "ranks": [1],
                "address": "10.0.0.3",
                "interface": "eth0",
                "gpus": 0,
            },
        ],
        "workers": [
            {
                "rank": 0,
                "local_rank": 0,
                "node": "lab-1",
                "state": "running",
                "pid": 10,
                "exit": "",
                "step": None,
            },
            {
                "rank": 1,
                "local_rank": 0,
                "node": "lab-2",
                "state": "running",
                "pid": 11,
                "exit": "",
                "step": None,
            },
        ],
        "directories": {"lab-1": {"work": "/s/data/digits.1/lab-1/work"}},
        **more,
    }
    cause = document["cause"]
    if cause is not None:
        others = [failure(**each) for each in cause.get("others", ())]
        document["cause"] = failure(**{**cause, "others": others})
    return document


def failure(**more: Any) -> dict[str, Any]:
    """A failure in a status document or an event."""
    return {"kind": "exception", "time": 1009.0, **more}


def seen(run: str = "digits.1", state: str = "running", **more: Any) -> Status:
    """A status document, as it is read."""
    return load(Status, status(run, state, **more))


def earlier(request: Message, receive: Receive) -> Iterator[Message]:
    """What a coordinator says to what it has never heard of."""
    if request["op"] == "events":
        yield {"done": {}}
    else:
        yield {"error": f"a request that this version does not know: op {request['op']!r}", "exit": 3}


class Coordinator:
    """Answers requests by operation; an answer of None hangs up in the middle."""

    def __init__(self, **answers: Answer) -> None:
        self.answers = answers
        self.requests: list[Message] = []

    def link(self) -> Link:
        ours, theirs = socket.socketpair()
        threading.Thread(target=self._serve, args=(theirs,), daemon=True).start()

        source, sink = ours.makefile("rb"), cast(BinaryIO, ours.makefile("wb"))

        def hang_up() -> None:
            ends: tuple[Callable[[], object], ...] = (
                partial(ours.shutdown, socket.SHUT_RDWR),
                source.close,
                sink.close,
                ours.close,
            )
            for end in ends:
                try:
                    end()
                except OSError:
                    pass  # the other side went first

        return Link(source, sink, hang_up)

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as source:

            def receive() -> Message | None:
                try:
                    header = source.read(4)
                    return frames.unpack(source.read(frames.length(header))) if len(header) == 4 else None
                except (OSError, ChannelError):
                    return None  # the client has hung up, maybe in the middle of a message

            while (request := receive()) is not None:
                if "op" not in request:
                    continue  # input for a command that has ended
                assert request.pop("swarmtrain") == PROTOCOL_VERSION
                self.requests.append(request)
                for reply in self.answers.get(request["op"], earlier)(request, receive):
                    try:
                        connection.sendall(frames.pack(reply))
                    except OSError:
                        return
                    if "hang up" in reply:
                        return


def told(*replies: Message) -> Answer:
    """The same replies to every request."""
    return lambda request, receive: iter(replies)


def fixed(document: dict[str, Any], **answers: Answer) -> Coordinator:
    """A coordinator whose status does not change."""
    return Coordinator(
        **{
            "status": told({"status": document, "done": {}}),
            "watch": told({"status": document}, {"status": document, "done": {}}),
            "stop": told({"done": {}}),
            **answers,
        }
    )


class FakeMachines:
    """Nodes to which nothing can be done from outside."""

    kinds: Mapping[str, Act] = {}
    mix = ("kill-worker", "freeze")
    hint = "try it on a lab"

    def nodes(self, kind: str, nodes: Sequence[str]) -> Sequence[str]:
        return nodes

    def check(self, kind: str, node: str) -> None:
        pass


class FakeLauncher:
    """Runs that exist only here; it writes down what is asked of it."""

    def __init__(self, name: str = "local", **coordinators: Coordinator) -> None:
        self.name = name
        self.say: Callable[[str], None] = lambda text: None
        self.coordinators = {key.replace("_", "."): value for key, value in coordinators.items()}
        self.kept = [
            Run(job, int(number), name, created=float(index + 1))
            for index, (job, _, number) in enumerate(key.partition(".") for key in self.coordinators)
        ]
        self.calls: list[tuple[Any, ...]] = []
        self.jobs: list[LoadedJob] = []  # those of the submissions
        self.troubles = ""
        self.silent = False  # whether nodes were never heard
        self.passes = 0.0  # seconds that they may take to pass
        self.signs: list[bool] = []  # what there is to see of a coordinator that starts, by looks
        self.documents: dict[str, dict[str, Any]] = {}  # of runs that rest
        self.next: Coordinator | None = None  # of the run that is submitted next

    def check(self, job: LoadedJob) -> Checked:
        return Checked(job, (Notice("2 nodes, as there are"),), Code())

    def plan(self, job: LoadedJob, *, is_plain: bool = False) -> Plan:
        raise no_stack(self.name)

    def submit(self, checked: Checked, run: Run, resume: Resumption | None = None) -> None:
        self.calls.append(("submit", run.id, resume))
        self.jobs.append(checked.job)
        self.kept.append(run)
        if self.next is not None:
            self.coordinators[run.id] = self.next

    def runs(self) -> list[Run]:
        return self.kept

    def connect(self, run: Run) -> Link:
        if run.id not in self.coordinators:
            raise ClusterError(f"the coordinator of {run.id} does not answer yet")
        return self.coordinators[run.id].link()

    def may_answer(self, run: Run) -> bool:
        return self.signs.pop(0) if self.signs else True

    def left(self, run: Run) -> Status | None:
        self.calls.append(("left", run.id))
        document = self.documents.get(run.id)
        return None if document is None else load(Status, document)

    def trouble(self, run: Run) -> Obstacle:
        return Obstacle(self.troubles, self.passes)

    def unheard(self, run: Run, heard: Collection[str]) -> str:
        return f"never heard but for {', '.join(heard)}" if self.silent else ""

    def reach(self, run: Run, node: str) -> None:
        self.calls.append(("reach", run.id, node))

    def program(self, run: Run) -> list[str]:
        return ["python3", "bundle.zip"]

    def machines(self, run: Run) -> Machines:
        return FakeMachines()

    def resize(self, run: Run, nodes: int, busy: Collection[str]) -> None:
        self.calls.append(("resize", run.id, nodes, sorted(busy)))

    def kill(self, run: Run, reason: str = KILLED) -> None:
        self.calls.append(("kill", run.id, reason))

    def recover(self, run: Run, node: str) -> None:
        self.calls.append(("recover", run.id, node))

    def refuse(self, run: Run, reason: str) -> None:
        self.calls.append(("refuse", run.id, reason))

    def remove(self, run: Run) -> None:
        self.calls.append(("remove", run.id))
