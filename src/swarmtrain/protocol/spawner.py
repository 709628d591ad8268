"""What an agent asks of its spawner, and what it is told: JSON objects, one a line, over a socket between the two.

The spawner inherits its end of it. When the agent's end closes, the agent is gone: every worker is killed and the
spawner exits. Both are of one bundle, so there is no other version to understand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Literal, Union, get_args

from swarmtrain.protocol.codec import Family
from swarmtrain.protocol.schema import INLINE, OMITTED, Struct, WireKey, message

# ---- of the agent ------------------------------------------------------------------------------------------------


class Program(Struct):
    """What a worker runs.

    Attributes:
        target: the script's path, the module's name, or the command's first word.
        path: directories that come before PYTHONPATH's.
    """

    kind: Literal["script", "module", "command"]
    target: str
    args: tuple[str, ...] = ()
    cwd: str = "."
    path: tuple[str, ...] = ()


@message("spawn", nested=True)
class SpawnWorker(Struct):
    """Start a worker. It waits until the spawner is ready.

    Attributes:
        key: names it: ``g1-r0``.
        output: the file that standard output and standard error are appended to.
        env: what it has beyond the spawner's environment.
    """

    key: str
    program: Annotated[Program, INLINE]
    output: str
    env: Mapping[str, str] = field(default_factory=dict)
    start: Literal["warm", "cold"] = "warm"


@message("stop", nested=True)
class StopWorker(Struct):
    """SIGTERM to a worker, which may save first; to the rest of its tree when it has gone or the grace is nearly over.

    Attributes:
        grace: seconds until what is left is killed.
    """

    key: str
    grace: float


@message("signal", nested=True)
class SignalWorker(Struct):
    """A signal to the worker's whole process tree, at once."""

    key: str
    number: Annotated[int, WireKey("signal")]


@message("ping", nested=True)
class Ping(Struct):
    """Whether it is there."""


ToSpawner = Union[SpawnWorker, StopWorker, SignalWorker, Ping]  # noqa: UP007 - an argument of types
TO_SPAWNER: Family[ToSpawner] = Family("an order of the agent", *get_args(ToSpawner))

# ---- of the spawner ----------------------------------------------------------------------------------------------


@message("ready", nested=True)
class SpawnerReady(Struct):
    """The imports are done.

    Attributes:
        torch: its version; null if workers start cold.
        seconds: that the imports took.
        error: what of it could not be imported, or why workers start cold.
        nccl: the version of torch's NCCL; empty where it has none.
    """

    torch: str | None
    seconds: float
    error: str | None
    nccl: Annotated[str, OMITTED] = ""


@message("started", nested=True)
class Spawned(Struct):
    """A worker runs; said again of a warm one that starts anew (worker/warm/trial.py).

    Attributes:
        why: the reason if it starts cold though warm was asked for.
    """

    key: str
    pid: int
    start: Literal["warm", "cold"]
    why: str | None


@message("failed", nested=True)
class SpawnFailed(Struct):
    """A worker could not be started, and why."""

    key: str
    error: str


@message("exited", nested=True)
class WorkerExited(Struct):
    """A worker has ended, and nothing of its tree is left.

    Attributes:
        code, signal: one of the two is null.
    """

    key: str
    pid: int
    code: int | None
    signal: int | None


@message("pong", nested=True)
class Pong(Struct):
    """It is there."""


FromSpawner = Union[SpawnerReady, Spawned, SpawnFailed, WorkerExited, Pong]  # noqa: UP007 - an argument of types
FROM_SPAWNER: Family[FromSpawner] = Family("a word of the spawner", *get_args(FromSpawner))
