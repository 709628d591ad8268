"""What the agent asks the spawner for: one worker to start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ENV_SPAWNER_FD = "SWARMTRAIN_SPAWNER_FD"  # the spawner's end of the socket to its agent; never a worker's
ENV_WORKER = "SWARMTRAIN_WORKER"  # the worker's key: how processes that left its session are told apart


@dataclass(frozen=True)
class Program:
    """What a worker runs."""

    kind: Literal["script", "module", "command"]
    target: str  # the script's path, the module's name, or the command's first word
    args: tuple[str, ...] = ()
    cwd: str = "."
    path: tuple[str, ...] = ()  # directories that come before PYTHONPATH's


@dataclass(frozen=True)
class StartRequest:
    """One worker to start."""

    key: str  # "g1-r0"
    program: Program
    output: str  # the file that standard output and standard error are appended to
    # what this worker has beyond the spawner's environment
    env: Mapping[str, str] = field(default_factory=dict)
    start: Literal["warm", "cold"] = "warm"

    @staticmethod
    def load(fields: Mapping[str, Any]) -> StartRequest:
        """Read the object of a ``spawn`` message."""
        return StartRequest(
            key=fields["key"],
            program=Program(
                kind=fields["kind"],
                target=fields["target"],
                args=tuple(fields.get("args", ())),
                cwd=fields["cwd"],
                path=tuple(fields.get("path", ())),
            ),
            output=fields["output"],
            env=dict(fields.get("env", {})),
            start=fields.get("start", "warm"),
        )

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """All variables of this worker, given the spawner's."""
        environment = {**inherited, **self.env, ENV_WORKER: self.key}
        environment.pop(ENV_SPAWNER_FD, None)
        python_path = [*self.program.path, environment.get("PYTHONPATH", "")]
        if joined := ":".join(entry for entry in python_path if entry):
            environment["PYTHONPATH"] = joined
        return environment
