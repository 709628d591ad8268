"""From a job to what travels to the nodes: the run spec, and the run secret of one submission."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from swarmtrain.errors import RequestError
from swarmtrain.job import Job, LoadedJob
from swarmtrain.payload.imports import only_standard
from swarmtrain.wire.plural import say_size
from swarmtrain.wire.run_spec import Resumption, RunSecret, RunSpec, new_token

MAX_SECRET_BYTES = 500 * 1024  # of one secret


def spec_of(loaded: LoadedJob, node_names: Sequence[str] | None = None) -> RunSpec:
    """The job as coordinator and agents need it.

    Args:
        node_names: what the named nodes call themselves, in the order of their ranks; the job's own words by default.
    """
    job = loaded.job
    kind, target, args = _target(job)
    names = tuple(node_names if node_names is not None else job.node_names or ())
    return RunSpec(
        name=job.name,
        kind=kind,
        target=target,
        args=args,
        nodes_min=job.nodes_min,
        nodes_max=job.nodes_max,
        node_names=names,
        workers=_workers(job),
        workers_by="cpu" if job.workers_per_node == "cpu" else "gpu",
        backend=job.backend,
        timeout=job.timeout,
        start=_start(loaded),
        join_deadline=job.join_deadline,
        stop_grace=job.stop_grace,
        linger=job.linger,
        debug=job.debug,
        restart=job.restart.max > 0,
        max_restarts=job.restart.max,
        restart_window=job.restart.window,
        node_timeout=job.restart.node_timeout,
        hang_timeout=_hang_timeout(job.restart.hang_timeout),
        cpus=job.resources.cpus,
        share=_share(job),
        per_node=tuple(job.per_node),
        replicas=-1 if job.replicas == "all" else job.replicas,
        share_rate=job.share_rate,
        alert_on=tuple(job.alerts.on) if job.alerts.on != "all" else (),
        alert_command=tuple(job.alerts.command or ()),
        alerts_per_hour=job.alerts.per_hour,
        metrics_port=job.metrics_port or 0,
    )


def secret_of(job: LoadedJob, run: str, resume: Resumption | None = None) -> RunSecret:
    """The secret part of one submission: a new token, and the user's variables.

    Raises:
        RequestError: the variables are too large for a secret.
    """
    past = resume or Resumption("")
    check_environment(job)
    return RunSecret(
        run,
        new_token(),
        dict(job.environment),
        past.run,
        past.lineage,
        past.lineage_owner,
        dict(job.webhooks),
    )


def check_environment(job: LoadedJob) -> None:
    """Refuse variables that do not fit into a secret.

    Raises:
        RequestError: they are too large.
    """
    size = len(RunSecret(run="", token="", env=dict(job.environment)).dump()) + 1000
    if size > MAX_SECRET_BYTES:
        largest = max(job.environment, key=lambda name: len(job.environment[name]))
        raise RequestError(
            f"env is too large: {say_size(size)}, at most {say_size(MAX_SECRET_BYTES)}",
            f"the largest is {largest}; send large values as files",
        )


def _target(job: Job) -> tuple[Literal["script", "module", "command"], str, tuple[str, ...]]:
    if job.script is not None:
        return "script", job.script, tuple(job.args)
    if job.module is not None:
        return "module", job.module, tuple(job.args)
    assert job.command, "a job has a script, a module or a command"
    return "command", job.command[0], (*job.command[1:], *job.args)


def _start(loaded: LoadedJob) -> Literal["warm", "cold"]:
    """As the job has it, unless its script has no use for what a warm start has imported."""
    script = loaded.job.script
    return "cold" if script is not None and only_standard(loaded.directory / script) else loaded.job.start


def _share(job: Job) -> Literal["auto", "off"] | tuple[str, ...]:
    return "auto" if job.share == "auto" else "off" if job.share == "off" else tuple(job.share)


def _hang_timeout(value: float | Literal["auto", "off"]) -> float | None:
    """Seconds; None goes by the usual time of a step, 0 never looks."""
    if value == "off":
        return 0.0
    return None if value == "auto" else value


def _workers(job: Job) -> int:
    """Workers a node; 0 lets each agent count its GPUs, or its processors."""
    if isinstance(job.workers_per_node, int):
        return job.workers_per_node
    return job.resources.gpus or 0 if job.workers_per_node == "auto" else 0
