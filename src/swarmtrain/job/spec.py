"""What the user asks for: `Job`, every key with its type, its default and its meaning.

Used as ``Job(script="train.py", nodes=3)`` from Python, and by `job.load`, which fills it from a YAML file, variables
and flags. The launchers, the stack's renderer and the JSON schema read it. A job knows nothing of this machine:
whether its script exists and what its variables hold is looked up by `job.load`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic.functional_validators import ModelWrapValidatorHandler

from swarmtrain.job import checks, fields
from swarmtrain.job.checks import Volume
from swarmtrain.job.fields import ExistingNetwork, OrWord, Strict
from swarmtrain.job.problems import JobError, Problem, explain

TARGETS = ("script", "module", "command")


class Resources(Strict):
    """What each node sets aside for the run, and the most it may use."""

    cpus: Annotated[float, Field(ge=0.01)] | None = Field(
        default=None, description="Processors; all of them by default."
    )
    memory: fields.Memory | None = Field(default=None, description="Memory; as much as there is by default.")
    gpus: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="GPUs to reserve on each node; 0 is none, and by default nodes use what their Docker shows.",
    )
    gpu_kind: fields.Kind = Field(
        default="gpu", description="What the nodes call a GPU in node-generic-resources."
    )


class Restart(Strict):
    """How a run goes on after a failure. In a job, the word ``auto`` stands for all defaults, ``never`` for max 0."""

    max: Annotated[int, Field(ge=0)] = Field(
        default=10, description="Failures within the window that are healed; 0: the first one ends the run."
    )
    window: fields.Duration = Field(
        default=3600.0, description="For how long a failure counts; what lies before is forgotten."
    )
    node_timeout: fields.Duration = Field(
        default=900.0, description="How long a run that has begun waits for enough nodes."
    )
    hang_timeout: fields.HangTimeout = Field(
        default="auto",
        description="How long no step may be made; auto also looks for other signs of life, off never looks.",
    )


# Keys that hold a mapping of fixed keys.
NESTED: dict[str, type[Strict]] = {"resources": Resources, "restart": Restart}


class Job(Strict):
    """One training job.

    Raises:
        JobError: with every mistake at once.
    """

    name: fields.Name = Field(
        default="", description="The job's name, a DNS label; made of the script's name by default."
    )
    script: fields.Script | None = Field(
        default=None, description="The Python script, relative to the job file. Or use module or command."
    )
    module: fields.Module | None = Field(default=None, description="A module to run as `python -m` does.")
    command: fields.Command | None = Field(default=None, description="Any command, executed as it is.")
    args: fields.Texts = Field(default=(), description="Arguments of the script, module or command.")
    image: fields.Image | None = Field(
        default=None, description="The image the nodes run, with Python and torch in it."
    )
    nodes: fields.Nodes = Field(
        default=1, description="How many nodes (3), from how many to how many (2..4), or which ([a, b])."
    )
    constraints: fields.Constraints = Field(
        default=(), description="Placement constraints of Swarm, as node.labels.gpu == true."
    )
    workers_per_node: fields.Workers = Field(
        default="auto",
        description="Training processes on each node; auto is one a GPU, or one; cpu is one a processor.",
    )
    backend: Literal["auto", "nccl", "gloo"] = Field(
        default="auto", description="torch.distributed's backend; auto is nccl where every worker has a GPU."
    )
    timeout: fields.Duration | None = Field(
        default=None, description="The process group's timeout; torch's own by default."
    )
    network: fields.Network = Field(default="overlay", description="The network the workers talk through.")
    env: fields.Environment = Field(
        default={},
        description="Variables of the workers; an empty one is taken from where the job is submitted.",
    )
    files: fields.Files = Field(
        default="auto", description="Patterns of the files that are sent; [] when the code is in the image."
    )
    volumes: fields.Volumes = Field(
        default=(),
        description="Mounts, source:target[:ro]; a source is a path on the nodes or a volume's name.",
    )
    shm_size: fields.SharedMemory = Field(
        default=4 << 30, description="The most that /dev/shm may hold (data loaders and NCCL use it)."
    )
    resources: Resources = Field(
        default=Resources(), description="What each node sets aside for the run, and the most it may use."
    )
    restart: Annotated[Restart, BeforeValidator(checks.restart), OrWord(tuple(checks.RESTART_WORDS))] = Field(
        default=Restart(), description="How the run goes on after a failure: auto, never, or its keys."
    )
    stop_grace: fields.Duration = Field(
        default=60.0, description="How long workers may take to end when they are asked to."
    )
    start: Literal["warm", "cold"] = Field(
        default="warm",
        description="warm forks workers from a process that has imported torch; cold starts Python anew.",
    )
    join_deadline: fields.Duration = Field(
        default=300.0, description="How long to wait for enough nodes before the run fails."
    )
    linger: fields.Duration = Field(
        default=3600.0, description="How long the coordinator stays up after the end, to be asked at once."
    )
    debug: bool = Field(default=False, description="More diagnostics from torch and NCCL, at some cost.")
    coordinator: fields.NodeName | None = Field(
        default=None, description="The manager that keeps the run's records; the one spoken to by default."
    )
    memlock: bool = Field(default=False, description="Lift the limit on locked memory, for RDMA.")
    python: fields.Interpreter = Field(default="python3", description="The Python interpreter in the image.")

    @model_validator(mode="wrap")
    @classmethod
    def _complete(cls, data: Any, handler: ModelWrapValidatorHandler[Job]) -> Job:
        """Fill in what follows from other keys; raise every mistake at once, in our words."""
        if not isinstance(data, Mapping):
            return handler(data)
        problems = list(_target_problems(data))
        data = {**_derived(data), **data}
        if data.get("command") is not None:
            data["start"] = "cold"
        try:
            job = handler(data)
        except ValidationError as error:
            problems += explain(
                error, list(cls.model_fields), {key: list(each.model_fields) for key, each in NESTED.items()}
            )
            wrong = {problem.path[0] for problem in problems if problem.path}
            job = handler({key: value for key, value in data.items() if key not in wrong})
        wrong = {problem.path[0] for problem in problems if problem.path}
        problems += [problem for keys, problem in _contradictions(job) if not keys & wrong]
        if problems:
            unknown = any(problem.text.startswith("unknown key") for problem in problems)
            raise JobError(
                problems, hint=f"the keys are {', '.join(cls.model_fields)}" if unknown else ""
            ) from None
        return job

    @property
    def nodes_min(self) -> int:
        """The fewest nodes that the run starts with."""
        return self._node_range()[0]

    @property
    def nodes_max(self) -> int:
        """The most nodes that take part."""
        return self._node_range()[1]

    @property
    def node_names(self) -> tuple[str, ...] | None:
        """The nodes by name, in the order of their ranks; None for a count."""
        return None if isinstance(self.nodes, (int, str)) else tuple(self.nodes)

    @property
    def mounts(self) -> tuple[Volume, ...]:
        """The volumes, taken apart."""
        return tuple(checks.parse_volume(volume) for volume in self.volumes)

    @property
    def existing_network(self) -> str | None:
        """The name of the network that exists already, if one is used."""
        return self.network.existing if isinstance(self.network, ExistingNetwork) else None

    def _node_range(self) -> tuple[int, int]:
        if isinstance(self.nodes, str):
            return checks.node_range(self.nodes)
        count = self.nodes if isinstance(self.nodes, int) else len(self.nodes)
        return count, count


def _target_problems(data: Mapping[str, Any]) -> Iterator[Problem]:
    given = [key for key in TARGETS if data.get(key) is not None]
    if not given:
        yield Problem((), "nothing to run: give script, module or command")
    elif len(given) > 1:
        yield Problem(
            (given[-1],), f"only one of script, module and command can be run, not {' and '.join(given)}"
        )


def _derived(data: Mapping[str, Any]) -> dict[str, str]:
    """The name that a job without one gets: from the script's or the module's."""
    command = data.get("command")
    first = command[0] if isinstance(command, (list, tuple)) and command else ""
    target = data.get("script") or str(data.get("module") or "").rpartition(".")[2] or first
    return {"name": checks.made_name(posixpath.splitext(posixpath.basename(str(target)))[0])}


def _contradictions(job: Job) -> Iterator[tuple[set[str | int], Problem]]:
    """Keys that are right by themselves but not together, with the keys involved."""
    if job.script is not None:
        if job.files == () and not job.script.startswith("/"):
            text = "files is empty, so nothing is sent: give the script's absolute path in the image"
            yield {"script", "files"}, Problem(("script",), text)
        if job.files != () and job.script.startswith("/"):
            text = "an absolute path is a script in the image, which takes files: [] (otherwise give a relative path)"
            yield {"script", "files"}, Problem(("script",), text)
    workers, gpus = job.workers_per_node, job.resources.gpus or 0
    if isinstance(workers, int) and 0 < gpus < workers and job.backend != "gloo":
        text = f"{workers} workers cannot share {gpus} GPUs with NCCL (fewer workers, more GPUs, or backend: gloo)"
        yield {"workers_per_node", "resources", "backend"}, Problem(("workers_per_node",), text)
