"""The keys of a job that hold keys, `Resources` and `Restart`; `job.spec` has the others."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from swarmtrain.job import fields
from swarmtrain.job.fields import Strict
from swarmtrain.job.keys import Flag, Key


class Resources(Strict):
    """What each node sets aside for the run, and the most it may use."""

    cpus: Annotated[
        Annotated[float, Field(ge=0.01)] | None,
        Key("Processors to reserve on each node.", example="4", default="none"),
    ] = None
    memory: Annotated[
        fields.Memory | None,
        Key("Memory to reserve on each node, at least `6m`.", example="16g", default="none"),
    ] = None
    gpus: Annotated[
        Annotated[int, Field(ge=0)] | None,
        Key(
            "GPUs to reserve on each node, of those that the nodes declare as a generic resource. Without a number "
            "none is reserved, and workers use those that they see. `0`: none is used, whatever there is.",
            example="1",
            default="what the node's Docker shows",
        ),
    ] = None
    gpu_kind: Annotated[
        fields.Kind, Key("What the nodes call a GPU in node-generic-resources.", example="NVIDIA-GPU")
    ] = "gpu"


class Restart(Strict):
    """How a run goes on after a failure. In a job, the word ``auto`` stands for all defaults, ``never`` for max 0."""

    max: Annotated[
        Annotated[int, Field(ge=0)],
        Key(
            "Failures within the window that are healed. `0` is `never`; none that comes again at the same step is "
            "healed once more.",
            example="3",
            flags=(Flag("--max-restarts"),),
        ),
    ] = 10
    window: Annotated[
        fields.Duration,
        Key("For how long a failure counts.", example="1d", flags=(Flag("--restart-window"),)),
    ] = 3600.0
    node_timeout: Annotated[
        fields.Duration,
        Key("How long a run that has begun waits for enough nodes before it fails.", example="2h"),
    ] = 900.0
    hang_timeout: Annotated[
        fields.HangTimeout,
        Key(
            "How long no step may be made, outside of phases that are known. A duration counts steps alone, whatever "
            "else moves. `auto` is 20 times the usual step, and at least 60 seconds with the Trainer, else 5 minutes, "
            "without a step or any other sign of life; a script without snapshots is not begun anew for that. `off`: "
            "hangs are not looked for.",
            example="10m",
        ),
    ] = "auto"
