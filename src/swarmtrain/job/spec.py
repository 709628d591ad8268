"""What the user asks for: `Job`, every key with its type, its default and its meaning.

Used as ``Job(script="train.py", nodes=3)`` from Python, and by `job.load`, which fills it from a YAML file, variables
and flags. The launchers and the stack's renderer read it. A job knows nothing of this machine: whether its script
exists and what its variables hold is looked up by `job.load`.

A key is described here, or in `job.nested` where it stands below another, and nowhere else: see `job.keys` for what is
made of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic.functional_validators import ModelWrapValidatorHandler

from swarmtrain.job import checks, fields, keys, together
from swarmtrain.job.alerting.keys import Alerting
from swarmtrain.job.checks import Volume
from swarmtrain.job.fields import ExistingNetwork, OrWord, Strict
from swarmtrain.job.keys import Flag, Key, Takes, described
from swarmtrain.job.nested import Resources, Restart
from swarmtrain.job.problems import JobError, explain


class Job(Strict):
    """One training job.

    Raises:
        JobError: with every mistake at once.
    """

    name: Annotated[
        fields.Name,
        Key(
            "The job's handle on every screen: up to 40 lower-case letters, digits and hyphens.",
            example="digits",
            default="made of the script's name",
            section="What runs",
            variable=True,
        ),
    ] = ""
    script: Annotated[
        fields.Script | None,
        Key(
            "The Python script, relative to the job file. Any that runs under torchrun runs here. With `files: []` it "
            "is an absolute path in the image.",
            example="train.py",
            flags=(Flag("SCRIPT"),),
        ),
    ] = None
    module: Annotated[
        fields.Module | None,
        Key(
            "Instead of a script: a module, as `python -m` takes it.",
            example="digits.train",
            flags=(
                Flag("--module", "SCRIPT is a module, run as `python -m` does.", short="-m", switch=True),
            ),
        ),
    ] = None
    command: Annotated[
        fields.Command | None,
        Key(
            "Instead of a script: any command, executed as it is. It is always started cold.",
            example="[./train.sh, fast]",
            flags=(
                Flag("COMMAND", parse=list),
                Flag("--no-python", "SCRIPT is any program, executed as it is.", switch=True),
            ),
        ),
    ] = None
    args: Annotated[
        fields.Texts,
        Key(
            "Arguments of the script, module or command. Numbers and booleans arrive as they are written: `1e-3` stays "
            "`1e-3`.",
            example="[--lr, 1e-3]",
            flags=(Flag("ARGS", parse=list),),
        ),
    ] = ()
    image: Annotated[
        fields.Image | None,
        Key(
            "The image that the nodes run, with Python 3.10 or newer and torch in it. Docker and Swarm need it; "
            "`local` does not.",
            example="pytorch/pytorch:2.7.0-cuda12.8-cudnn9-runtime",
            default="none",
            variable=True,
        ),
    ] = None
    python: Annotated[
        fields.Interpreter,
        Key(
            "The Python interpreter in the image.",
            example="/opt/conda/bin/python",
            flags=(Flag("--python", metavar="PATH"),),
        ),
    ] = "python3"
    files: Annotated[
        fields.Files,
        Key(
            "Patterns of the files that are sent to the nodes, relative to the job file. `auto` is its directory, less "
            "what `.dockerignore` names, version control, virtual environments, caches, models, links out of it, "
            "and what usually holds keys. `[]` sends nothing: the code is in the image. `swarmtrain run --dry-run` "
            "lists what goes.",
            example='["*.py", "configs/**"]',
            flags=(
                Flag("--files", many=True, metavar="PATTERN"),
                Flag("--no-files", "Send none: the code is in the image.", lambda given: [], switch=True),
            ),
        ),
    ] = "auto"
    env: Annotated[
        fields.Environment,
        Key(
            "Variables of the workers. Values arrive unchanged, with any `$`, `{{` and newline. One without a value "
            "(`WANDB_API_KEY:`) is taken from where the job is submitted.",
            example="{SEED: 1}",
            flags=(Flag("--env", "A variable of the workers.", short="-e", many=True, metavar="K[=V]"),),
        ),
        Field(repr=False),  # values are often keys of services
    ] = {}

    nodes: Annotated[
        fields.Nodes,
        Key(
            "How many nodes (`3`), from how many to how many (`2..4`), or which, in the order of their ranks "
            "(`[alice, bob]`). With a range the run starts with as many as come within it, and changes with the nodes "
            "there are.",
            example="[alice, bob]",
            flags=(
                Flag(
                    "--nodes",
                    "How many (3), from how many to how many (2..4), or which (a,b,c).",
                    keys.node_choice,
                ),
                Flag("--nnodes", "As torchrun's.", keys.node_count, metavar="N|MIN:MAX"),
            ),
            section="Where it runs",
            variable=True,
        ),
    ] = 1
    constraints: Annotated[
        fields.Constraints,
        Key(
            "Placement constraints of Swarm. They are `==` or `!=` on `node.id`, `node.hostname`, `node.ip`, "
            "`node.role`, `node.platform.os`, `node.platform.arch`, `node.labels.*`, `engine.labels.*`.",
            example="[node.labels.gpu == true]",
            flags=(Flag("--constraint", "A placement constraint.", many=True, metavar="EXPRESSION"),),
            adds=True,
        ),
    ] = ()
    workers_per_node: Annotated[
        fields.Workers,
        Key(
            "Training processes on each node. `auto` is one for each GPU that they would see, or one where there is "
            "none; `cpu` is one for each processor.",
            example="2",
            flags=(
                Flag("--workers-per-node"),
                Flag("--nproc-per-node", "As torchrun's.", keys.worker_count, metavar="N|auto|gpu|cpu"),
            ),
        ),
    ] = "auto"
    resources: Annotated[
        Resources,
        Key(
            "What Swarm sets aside on each node, and the most that a node's container may use.",
            example="{gpus: 1, memory: 16g}",
        ),
    ] = Resources()
    volumes: Annotated[
        fields.Volumes,
        Key(
            "Mounts on each node. A source is an absolute path that every node has, or the name of a volume. Targets "
            "are absolute, each once, and not under `/swarmtrain`, `/opt/swarmtrain` or `/run/secrets`.",
            example="[/data:/data:ro]",
            flags=(
                Flag("--volume", "A mount on each node.", short="-v", many=True, metavar="SOURCE:TARGET"),
            ),
            adds=True,
        ),
    ] = ()
    shm_size: Annotated[
        fields.SharedMemory,
        Key(
            "The most that `/dev/shm` may hold. Data loaders and NCCL use it; memory is taken only as it fills.",
            example="16g",
        ),
    ] = 4 << 30
    memlock: Annotated[
        bool, Key("Lift the limit on locked memory, for RDMA. Some engines refuse it.", example="true")
    ] = False
    coordinator: Annotated[
        fields.NodeName | None,
        Key(
            "The manager that keeps the run's records, by name.",
            example="alice",
            default="the one spoken to",
            flags=(Flag("--coordinator", metavar="NODE"),),
        ),
    ] = None

    share: Annotated[
        fields.Share,
        Key(
            "Which files that workers write in their working directory every node has when a generation starts, so "
            "that what rank 0 alone saves is there for all: `auto` for all, `off` for none, or those of some patterns.",
            example="off",
            flags=(Flag("--share", parse=keys.share_choice, metavar="auto|off|PATTERN,..."),),
            section="What the nodes share",
        ),
    ] = "auto"
    per_node: Annotated[
        fields.Patterns,
        Key(
            "Patterns of files that stay on the node that wrote them, whatever `share` says: such as those that every "
            "rank writes under one name.",
            example='["log-*.txt"]',
            flags=(Flag("--per-node", many=True, metavar="PATTERN"),),
        ),
    ] = ()
    replicas: Annotated[
        fields.Replicas,
        Key(
            "How many other nodes get a copy of what was written while the training goes on, so that it survives the "
            "loss of its node. `all`, or 0 for none: then files travel only when a generation starts.",
            example="all",
        ),
    ] = 1
    share_rate: Annotated[
        fields.ShareRate,
        Key(
            "How much of the time copies of files may have a node's link while workers train, from `1%` to `100%`. "
            "When a generation starts, which waits for its files, there is no limit.",
            example="2%",
        ),
    ] = 0.1

    backend: Annotated[
        Literal["auto", "nccl", "gloo"],
        Key(
            "The backend of torch.distributed. `auto` is nccl where every worker has a GPU, else gloo; scripts that "
            "do not use `swarmtrain.trainer` choose for themselves.",
            example="gloo",
            section="How the workers talk",
            variable=True,
        ),
    ] = "auto"
    timeout: Annotated[
        fields.Duration | None,
        Key(
            "How long a collective may wait before torch gives up. What the script gives itself wins.",
            example="5m",
            default="torch's own",
        ),
    ] = None
    network: Annotated[
        fields.Network,
        Key(
            "The network between the workers. `encrypted` is an overlay, too, and slower; `host` is the nodes' own, "
            "the fast path for 10 GbE and up; `{existing: NAME}` is an attachable one that is there already, written "
            "`existing:NAME` in a flag or a variable.",
            example="{existing: lab}",
            variable=True,
        ),
    ] = "overlay"

    start: Annotated[
        Literal["warm", "cold"],
        Key(
            "`warm` forks the workers from a process that has imported torch, `cold` starts Python anew each time. A "
            "command is always started cold, and so is a script that imports nothing but the standard library, and a "
            "worker whose script could tell a fork from a fresh start: it sets OMP_NUM_THREADS before it imports "
            "torch, or writes something before.",
            example="cold",
            section="How it starts and ends",
        ),
    ] = "warm"
    join_deadline: Annotated[
        fields.Duration,
        Key(
            "How long to wait for enough nodes before the run fails.",
            example="20m",
            flags=(
                Flag("--join-deadline"),
                Flag("--rdzv-conf", parse=keys.join_seconds, metavar="KEY=VALUE,...", hidden=True),
            ),
        ),
    ] = 300.0
    restart: Annotated[
        Restart,
        BeforeValidator(checks.restart),
        OrWord(tuple(checks.RESTART_WORDS)),
        Takes("`auto`, `never`, or keys below", "auto|never"),
        Key(
            "Whether the run goes on after a failure: a worker that dies, a node that is lost, a step that never "
            "comes. `never`: the first one ends it, everywhere.",
            example="never",
            default="`auto`",
            flags=(Flag("--restart"),),
        ),
    ] = Restart()
    stop_grace: Annotated[
        fields.Duration,
        Key(
            "How long workers may take to end, and to save what they have, when they are asked to. SIGTERM goes to "
            "each rank first; what it has started, such as data-loader workers, gets it when the rank has gone or two "
            "thirds of the time are over.",
            example="2m",
            flags=(Flag("--stop-grace"), Flag("--shutdown-timeout", metavar="SECONDS", hidden=True)),
        ),
    ] = 60.0
    linger: Annotated[
        fields.Duration,
        Key(
            "How long the run's coordinator stays up after the end, to be asked at once. Then its container ends; "
            "whatever reads the run later starts it again for some minutes, which takes some seconds. On local "
            "nothing stays.",
            example="10m",
        ),
    ] = 3600.0
    debug: Annotated[
        bool, Key("More diagnostics from torch and NCCL, at some cost in speed.", example="true")
    ] = False

    alerts: Annotated[
        Alerting,
        Key(
            "Who is told of what happens to the run, also where nobody looks. Without one of `slack`, `webhook` and "
            "`command` nobody is.",
            example="{slack: [SLACK_URL]}",
            section="Whom it tells",
        ),
    ] = Alerting()
    metrics_port: Annotated[
        fields.Port | None,
        Key(
            "Serve the run's newest measurements to Prometheus, on this port of the coordinator, within the run's "
            "network; on local and docker on this machine alone. No port is published.",
            example="9464",
            default="no endpoint",
        ),
    ] = None

    @model_validator(mode="wrap")
    @classmethod
    def _complete(cls, data: Any, handler: ModelWrapValidatorHandler[Job]) -> Job:
        """Fill in what follows from other keys; raise every mistake at once, in our words."""
        if not isinstance(data, Mapping):
            return handler(data)
        problems = list(together.target_problems(data))
        data = {**together.derived(data), **data}
        if data.get("command") is not None:
            data["start"] = "cold"
        try:
            job = handler(data)
        except ValidationError as error:
            problems += explain(error, list(cls.model_fields), NESTED)
            wrong = {problem.path[0] for problem in problems if problem.path}
            job = handler({key: value for key, value in data.items() if key not in wrong})
        wrong = {problem.path[0] for problem in problems if problem.path}
        contradictions = (
            *together.script_and_files(job.script, job.files),
            *together.workers_and_gpus(job.workers_per_node, job.resources.gpus or 0, job.backend),
        )
        problems += [problem for keys, problem in contradictions if not keys & wrong]
        if problems:
            unknown = any(problem.text.startswith("unknown key") for problem in problems)
            raise JobError(
                problems, hint=f"the keys are {', '.join(cls.model_fields)}" if unknown else ""
            ) from None
        return job

    @property
    def nodes_min(self) -> int:
        """The fewest nodes that the run starts with."""
        return checks.node_range(self.nodes)[0]

    @property
    def nodes_max(self) -> int:
        """The most nodes that take part."""
        return checks.node_range(self.nodes)[1]

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


# Every key by its name, as ``resources.gpus`` those inside of a mapping of fixed keys; and these mappings.
KEYS = {each.name: each for top in described(Job) for each in (top, *top.nested)}
NESTED = {
    name: [part.name.partition(".")[2] for part in each.nested] for name, each in KEYS.items() if each.nested
}
