"""Names that more than one layer must agree on: environment variables, paths in a container, labels.

Used by the client, which renders them into a stack, and by what runs in containers, which reads them.
"""

from __future__ import annotations

PROTOCOL_VERSION = 1
FIRST_VERSION = 1  # of whoever does not say which

# Environment that a worker finds, besides torchrun's own contract.
ENV_SNAPSHOTS = "SWARMTRAIN_SNAPSHOTS"  # directory of this node's snapshots
# directory in this node's memory for short-lived snapshots; empty: there is none
ENV_MEMORY = "SWARMTRAIN_MEMORY"
ENV_METRICS = "SWARMTRAIN_METRICS"  # file of this rank: one JSON object a line, appended
ENV_PULSE = "SWARMTRAIN_PULSE"  # file of this rank: see wire.pulse
ENV_STACK = "SWARMTRAIN_STACK"  # file of this rank: where its Python stacks go when they are asked for
# behind its name: the pipe that asks for this rank's last collectives, and the file with them
FLIGHT_ASK, FLIGHT_FILE = ".ask", ".flight"
# behind its name: how far a profile of this rank is; and behind that: what is asked for, and the trace
PROFILE, PROFILE_ASK, PROFILE_TRACE = ".profile", ".ask", ".json.gz"
ENV_BACKEND = "SWARMTRAIN_BACKEND"  # nccl, gloo or auto
ENV_TIMEOUT = "SWARMTRAIN_TIMEOUT"  # process-group timeout, seconds, as a float
ENV_RUN = "SWARMTRAIN_RUN"  # the run's id, "digits.3"
ENV_NODE = "SWARMTRAIN_NODE"  # the node's name
ENV_GENERATION = "SWARMTRAIN_GENERATION"  # the generation's number in its run, from 1
# the least that snapshots of this generation are ordered by: see trainer.snapshots.fence
ENV_FENCE = "SWARMTRAIN_FENCE"
# tells this run from all others, also from one that had its id before it
ENV_SUBMISSION = "SWARMTRAIN_SUBMISSION"

# Environment that an agent or a coordinator finds.
ENV_SECRET_FILE = "SWARMTRAIN_SECRET_FILE"  # file holding the run's secret (see wire.run_spec)
ENV_JOB_FILE = "SWARMTRAIN_JOB_FILE"  # file holding the job as the coordinator reads it (see wire.run_spec)
ENV_STORAGE = "SWARMTRAIN_STORAGE"  # root of this node's storage
ENV_COORDINATOR = (
    "SWARMTRAIN_COORDINATOR"  # host:port, or a Unix socket, at which agents find the coordinator
)
ENV_SPAWNER_FD = "SWARMTRAIN_SPAWNER_FD"  # the number of a spawner's end of its socket; never a worker's
ENV_NODE_ID = "SWARMTRAIN_NODE_ID"  # the identity of the machine, where it differs from its name
ENV_SLOT = "SWARMTRAIN_SLOT"  # order of this agent among its peers
ENV_DEPLOYMENT = "SWARMTRAIN_DEPLOYMENT"  # changes whenever the stack is deployed anew
ENV_SUBMITTED = (
    "SWARMTRAIN_SUBMITTED"  # the file that a launcher makes when it has started everything of a run
)
ENV_MOVED = "SWARMTRAIN_MOVED"  # how often the coordinator was moved by a person's word
ENV_KILLED = (
    "SWARMTRAIN_KILLED"  # why the run is over, as whoever has killed it says: it is to be written down
)
ENV_GPUS = "SWARMTRAIN_GPUS"  # what each local node sees, in the order of their slots, between semicolons
ENV_HOSTS = "SWARMTRAIN_HOSTS"  # names under which a published dashboard may be opened, between commas
ENV_CREATED = "SWARMTRAIN_CREATED"  # when the run of a published dashboard was submitted, as Unix time
ENV_CODE = "SWARMTRAIN_CODE"  # colon-separated files that, joined, are the user's code as a zip

# Paths inside a container.
BUNDLE = "/opt/swarmtrain/bundle.zip"
JOB = "/opt/swarmtrain/job.json"
DASHBOARD = "/opt/swarmtrain/dashboard.zip"
CODE = "/opt/swarmtrain/code-{index:02d}"
SECRET = "/run/secrets/swarmtrain"
SECRET_ON_LOCAL = "ticket.json"  # in the coordinator's directory, as the first version called it
SUBMITTED = "/opt/swarmtrain/submitted"
KILLED = (
    "/opt/swarmtrain/killed"  # what ENV_KILLED is elsewhere, where a container's variables cannot be changed
)
STORAGE = "/swarmtrain"
# leads to the coordinator's socket; not in /tmp, which may be the machine's
SOCKET = "/opt/swarmtrain/socket"
LEFT = "/opt/swarmtrain/status.json"  # the last status document of a coordinator that has gone after the end
ALIVE = "/opt/swarmtrain/alive"  # the sign of life that the health check looks for

# The name of the one volume that every node keeps, and the port of the coordinator inside the run's network.
VOLUME = "swarmtrain"
PORT = 29400
DASHBOARD_PORT = 8000  # of a published dashboard, inside of its networks
DASHBOARD_SERVES = "the dashboard serves"  # what it says first when all is well

# Labels on services, containers and networks, so that a run is found again without a database.
LABEL_JOB = "swarmtrain.job"  # the job's name
LABEL_ROLE = "swarmtrain.role"  # coordinator, agent, helper or dashboard
LABEL_METRICS = "swarmtrain.metrics"  # on a Swarm's coordinator: the port at which Prometheus reads it
LABEL_RUN = "swarmtrain.run"  # the run's id; on containers of the docker launcher
LABEL_KILLED = "swarmtrain.killed"  # on a Swarm's coordinator: why a client has killed the run
LABEL_ENDED = "swarmtrain.ended"  # and when, as Unix time
LABEL_DEPLOYMENT = "swarmtrain.deployment"  # on one engine: different for every submission

COORDINATOR_SERVICE = "coordinator"
AGENT_SERVICE = "agent"
DASHBOARD_SERVICE = "dashboard"
