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

__version__: str
