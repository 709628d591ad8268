"""The public names, for type checkers; `__init__.py` imports them when they are used."""

from swarmtrain.control.client import Client as Client
from swarmtrain.control.handle import RunHandle as RunHandle
from swarmtrain.control.result import RunResult as RunResult
from swarmtrain.errors import ChannelError as ChannelError
from swarmtrain.errors import ClusterError as ClusterError
from swarmtrain.errors import RequestError as RequestError
from swarmtrain.errors import Stopped as Stopped
from swarmtrain.errors import SwarmtrainError as SwarmtrainError
from swarmtrain.errors import TrainingError as TrainingError
from swarmtrain.job import Job as Job
from swarmtrain.protocol.event import Event as Event
from swarmtrain.protocol.snapshots import Snapshot as Snapshot
from swarmtrain.protocol.status import Member as Member
from swarmtrain.protocol.status import Status as Status
from swarmtrain.protocol.status import Worker as Worker

__version__: str
