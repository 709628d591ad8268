"""What the user asks for: the job, read from a file, variables and flags, and checked all at once.

    job = Job(script="train.py", nodes=3)        # from Python
    loaded = load(Path("swarmtrain.yaml"))       # from a file; relative paths refer to its directory

`LoadedJob` is what launchers get. The command line imports this package only in commands that take a job.
"""

from swarmtrain.job.alerting.keys import Alerting
from swarmtrain.job.checks import Volume
from swarmtrain.job.fields import ExistingNetwork
from swarmtrain.job.flags import Override, overrides_from_flags
from swarmtrain.job.load import LoadedJob, load
from swarmtrain.job.nested import Resources, Restart
from swarmtrain.job.problems import JobError, Problem
from swarmtrain.job.spec import Job

__all__ = [
    "Alerting",
    "ExistingNetwork",
    "Job",
    "JobError",
    "LoadedJob",
    "Override",
    "Problem",
    "Resources",
    "Restart",
    "Volume",
    "load",
    "overrides_from_flags",
]
