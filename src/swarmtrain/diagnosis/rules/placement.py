"""Runs that do not get to their place: known by what swarm/obstacles.py, swarm/tasks.py and the launchers say."""

from __future__ import annotations

from swarmtrain.diagnosis.case import Case
from swarmtrain.diagnosis.rule import Conclusion, Help, Rule, Words, by_words
from swarmtrain.protocol.evidence.diagnosis import Observation, Remedy
from swarmtrain.protocol.journal.events import NodeJoined

_KINDS = ("placement", "start")
_TEST = "test_a_run_that_did_not_get_to_its_place_is_explained"
_NEVER = "{run} did not start: "


def _obstacle(
    code: str, title: str, pattern: str, cause: str, help: tuple[Help, ...], about: str, verdict: str = ""
) -> Rule:
    words = Words(
        pattern=pattern,
        verdict=_NEVER + (verdict or "{summary}"),
        cause=cause,
        kinds=_KINDS,
        sure="likely",
        help=help,
    )
    return by_words(code, title, words, about, test=_TEST)


def _too_few(case: Case) -> Conclusion | None:
    failure = case.first
    if (
        failure is None
        or failure.kind != "placement"
        or ("did not join" not in failure.summary and " joined" not in failure.summary)
    ):
        return None
    joined = dict.fromkeys(event.node for event in case.of_kind(NodeJoined))
    return Conclusion(
        verdict=f"{case.status.run} had too few nodes: {failure.summary}",
        cause="nodes did not come in time: they are down, an image takes long to arrive, or their agents do "
        "not reach the coordinator",
        sure="possible",
        failure=failure,
        seen=[Observation("has joined", node=node) for node in joined],
        remedies=[
            Remedy(
                "What keeps the tasks?", f"docker stack ps --no-trunc {case.status.run.replace('.', '-')}"
            ),
            Remedy(
                "If an image takes long to arrive, wait longer.", "swarmtrain run --join-deadline 30m ..."
            ),
            Remedy(
                "Do the nodes reach each other? Ports and packet sizes are measured by real traffic.",
                "swarmtrain doctor --image IMAGE",
            ),
            Remedy("Start with fewer.", "swarmtrain run --nodes 2..3 ..."),
        ],
        unseen=["Why the others did not come: who has not joined says nothing."],
        knows_who=False,
    )


def _refused(case: Case) -> Conclusion | None:
    failure = case.first
    if failure is None or failure.kind not in _KINDS:
        return None
    return Conclusion(
        verdict=f"{case.status.run} did not start: {failure.sentence()}",
        cause="",
        sure="unknown",
        failure=failure,
        knows_who=bool(failure.node),
    )


RULES = (
    _obstacle(
        "image-missing",
        "A node has no image, and cannot pull it",
        r"(?P<nodes>.+) (?:has|have) no image (?P<image>\S+) and cannot pull it|No such image: (?P<local>\S+)",
        "the registry does not have the image {image}{local} under this name, or does not give it to that node",
        (
            Help("Push it where every node can pull it.", "docker push {image}{local}"),
            Help("If it is private, log in to its registry here, and submit again.", "docker login REGISTRY"),
            Help("Or carry it there.", "docker save {image}{local} | ssh NODE docker load"),
        ),
        "Each node pulls for itself, with the login of whoever submits (`docker login` before `swarmtrain run`). An "
        "image that was built on one machine is on that machine alone.",
    ),
    _obstacle(
        "image-architecture",
        "The image is for another kind of processor",
        r"built for another kind of processor|exec format error",
        "the image holds programs of another architecture (amd64, arm64) than the node's",
        (
            Help("Build it for both.", "docker buildx build --platform linux/amd64,linux/arm64 --push ."),
            Help("Or keep such nodes out.", "swarmtrain run --constraint node.platform.arch==x86_64 ..."),
        ),
        "An image that was built on a Mac with an M processor is for arm64.",
    ),
    _obstacle(
        "mount-missing",
        "A directory that is to be mounted is not there",
        r"(?P<nodes>.+) (?:has|have) no directory (?P<path>\S+), which volumes: mounts|bind source path does "
        r"not exist",
        "a bind mount needs its directory on every node; Swarm does not make it",
        (Help("Make it on every node.", "ssh NODE mkdir -p {path}"),),
        "`docker run -v` makes a missing directory, a service does not. A named volume is made where it is "
        "missing.",
    ),
    _obstacle(
        "no-python",
        "The image has no such Python",
        r"the image (?P<image>\S+) has no (?P<what>\S+); python: names",
        "the image has no program {what} on its PATH",
        (Help("Name the one that it has.", "swarmtrain run --python /opt/conda/bin/python ..."),),
        "Images with conda or a virtual environment often have no python3 on the PATH of a bare start.",
    ),
    _obstacle(
        "no-suitable-node",
        "Swarm finds no node for it",
        r"Swarm finds no node for|(?:is|are) down(?:$|;| \()|no suitable node",
        "no node that is up fulfils what the job asks for: constraints, names, CPUs, memory, GPUs, one task a "
        "node",
        (
            Help("Which nodes are there, and are they active?", "docker node ls"),
            Help("Who holds their resources?", "docker service ls"),
        ),
        "What other services reserve counts, whether they use it or not. A node's labels are those of `docker "
        "node inspect`.",
    ),
    _obstacle(
        "gpu-runtime",
        "A node cannot give a container its GPUs",
        r"cannot give a container its GPUs|could not select device driver|nvidia-container",
        "Docker's nvidia runtime is missing there, or does not find the driver",
        (
            Help("Does the node show them outside of a run?", "docker run --rm --gpus all IMAGE nvidia-smi"),
            Help("How a node is set up is in docs/troubleshooting.md, GPUs."),
        ),
        "The NVIDIA Container Toolkit shows the machine's driver to containers. After an update of the driver "
        "the machine must be started again.",
    ),
    _obstacle(
        "old-managers",
        "Swarm takes tasks with GPUs away again and again",
        r"takes tasks with GPUs away",
        "managers before Docker 23 reject tasks with generic resources whenever their node changes in any way",
        (Help("Update Docker on the managers to 23 or newer.", "docker version"),),
        "It passes by itself as long as nodes do not change meanwhile (moby#44378).",
    ),
    _obstacle(
        "no-addresses",
        "There are no free addresses for a network",
        r"no free addresses for another network|no address left for a container|addresses of the run's "
        r"own|address pool",
        "each run's network takes a subnet from the Swarm's pool, and the pool is used up or meets a network "
        "of the node",
        (
            Help("Remove networks that nobody uses, on that node.", "docker network prune"),
            Help("A larger pool is given with: docker swarm init --default-addr-pool."),
        ),
        "A Swarm has 10.0.0.0/8 in pieces of /24 by default.",
    ),
    _obstacle(
        "no-network",
        "A node does not see the run's network",
        r"not see the run's network|network \S+ not found|not let go of what an earlier container had",
        "the engines have not agreed on the network: ports between the nodes are closed, or an engine was "
        "restarted",
        (
            Help("Open between all nodes: 2377/tcp to managers, 7946/tcp and udp, 4789/udp."),
            Help("Else start the node's engine again.", "ssh NODE sudo systemctl restart docker"),
        ),
        "Networks are told from node to node on 7946. docs/troubleshooting.md has what happens after a power "
        "cut.",
    ),
    _obstacle(
        "engine-silent",
        "A node's engine does not answer",
        r"the engine of .+ not answer Swarm|Docker daemon (?:does not answer|is out of reach)|containerd",
        "the Docker daemon there is stopped, restarting, or overloaded",
        (Help("Look at it there.", "ssh NODE journalctl -u docker -n 50"),),
        "A full disk keeps an engine from answering, too.",
    ),
    _obstacle(
        "limit-refused",
        "A node does not allow a limit that the job asks for",
        r"may not allow so many open files|may not lift the limit on locked memory|setting rlimit",
        "the daemon of that node may not raise the limit for its containers",
        (
            Help(
                "Raise it for the daemon (LimitNOFILE, LimitMEMLOCK in its systemd unit), or leave it out of "
                "the job."
            ),
        ),
        "A container gets at most what its daemon has.",
    ),
    _obstacle(
        "start-memory",
        "An agent or coordinator was killed for want of memory",
        r"ran out of memory; raise resources\.memory|killed, perhaps for want of memory",
        "the container's limit of memory is below what a Python with torch needs",
        (Help("Give it more.", "swarmtrain run --memory 4GB ..."),),
        "Importing torch takes some hundred MB in each worker, more with CUDA.",
    ),
    _obstacle(
        "part-ended",
        "A part of the run ended before it began",
        r"ended with exit code \d+|the (?:agent of \S+|coordinator) ended: |stopped giving signs of life",
        "its first process ended; its own words say why",
        (Help("What did it say?", "docker service ls"),),
        "The agent and the coordinator are Python programs of the standard library. An image whose Python is "
        "older than 3.10 cannot run them.",
    ),
    Rule(
        code="too-few-nodes",
        title="Too few nodes came",
        about="A run waits until the join deadline (15 minutes) for enough nodes, and, once it has begun, for "
        "node_timeout. Whoever is there by then is named.",
        look=_too_few,
        test=_TEST,
    ),
    Rule(
        code="refused",
        title="A run did not get to its place",
        about="What is told is the launcher's or an agent's own sentence; no rule knows more of it.",
        look=_refused,
        test=_TEST,
    ),
)
