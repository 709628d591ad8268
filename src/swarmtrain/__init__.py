"""torchrun for Docker Swarm.

    from swarmtrain import Client, Job

    result = Client().run(Job(script="train.py", nodes=3)).wait()

Nothing is imported before it is used, since this file is also in the bundle that containers run. The trainer, which
imports torch, is `swarmtrain.trainer`.
"""

TYPE_CHECKING = False  # not typing's, whose import takes a health check longer than all it does
if TYPE_CHECKING:
    from swarmtrain.control.client import Client, Submission
    from swarmtrain.control.exec_session import Streams
    from swarmtrain.control.files.transfer import Fetched
    from swarmtrain.control.follow import Update
    from swarmtrain.control.handle import RunHandle
    from swarmtrain.control.look.series import SeriesRange
    from swarmtrain.control.look.stacks import RunStacks
    from swarmtrain.control.result import RunResult
    from swarmtrain.control.snapshots.retention import Wanted
    from swarmtrain.control.snapshots.snapshots import Found, Pulled, Snapshots
    from swarmtrain.control.views.logs import Selection
    from swarmtrain.errors import (
        ChannelError,
        ClusterError,
        DriftError,
        RequestError,
        Stopped,
        SwarmtrainError,
        TrainerError,
        TrainingError,
    )
    from swarmtrain.job import Job, JobError, LoadedJob, Problem, load
    from swarmtrain.launchers.base import Notice, Run
    from swarmtrain.protocol.evidence.diagnosis import Diagnosis, Observation, Remedy
    from swarmtrain.protocol.evidence.seen import FlightFinding, RankStacks, StackGroup
    from swarmtrain.protocol.journal.event import Event
    from swarmtrain.protocol.replies import Line
    from swarmtrain.protocol.series.points import Series, SeriesPoint
    from swarmtrain.protocol.snapshots import Snapshot
    from swarmtrain.protocol.status import Member, Status, Worker
    from swarmtrain.swarm.plan import Plan

    __version__: str

__all__ = [
    "ChannelError",
    "Client",
    "ClusterError",
    "Diagnosis",
    "DriftError",
    "Event",
    "Fetched",
    "FlightFinding",
    "Found",
    "Job",
    "JobError",
    "Line",
    "LoadedJob",
    "Member",
    "Notice",
    "Observation",
    "Plan",
    "Problem",
    "Pulled",
    "RankStacks",
    "Remedy",
    "RequestError",
    "Run",
    "RunHandle",
    "RunResult",
    "RunStacks",
    "Selection",
    "Series",
    "SeriesPoint",
    "SeriesRange",
    "Snapshot",
    "Snapshots",
    "StackGroup",
    "Status",
    "Stopped",
    "Streams",
    "Submission",
    "SwarmtrainError",
    "TrainerError",
    "TrainingError",
    "Update",
    "Wanted",
    "Worker",
    "__version__",
    "load",
]

_HOMES = {
    "swarmtrain.control.client": ("Client", "Submission"),
    "swarmtrain.control.follow": ("Update",),
    "swarmtrain.control.handle": ("RunHandle",),
    "swarmtrain.control.views.logs": ("Selection",),
    "swarmtrain.control.result": ("RunResult",),
    "swarmtrain.control.look.series": ("SeriesRange",),
    "swarmtrain.control.snapshots.retention": ("Wanted",),
    "swarmtrain.control.exec_session": ("Streams",),
    "swarmtrain.control.snapshots.snapshots": ("Found", "Pulled", "Snapshots"),
    "swarmtrain.control.look.stacks": ("RunStacks",),
    "swarmtrain.control.files.transfer": ("Fetched",),
    "swarmtrain.errors": (
        *("ChannelError", "ClusterError", "DriftError", "RequestError", "Stopped", "SwarmtrainError"),
        *("TrainerError", "TrainingError"),
    ),
    "swarmtrain.job": ("Job", "JobError", "LoadedJob", "Problem", "load"),
    "swarmtrain.launchers.base": ("Notice", "Run"),
    "swarmtrain.swarm.plan": ("Plan",),
    "swarmtrain.protocol.evidence.seen": ("FlightFinding", "RankStacks", "StackGroup"),
    "swarmtrain.protocol.evidence.diagnosis": ("Diagnosis", "Observation", "Remedy"),
    "swarmtrain.protocol.journal.event": ("Event",),
    "swarmtrain.protocol.replies": ("Line",),
    "swarmtrain.protocol.series.points": ("Series", "SeriesPoint"),
    "swarmtrain.protocol.snapshots": ("Snapshot",),
    "swarmtrain.protocol.status": ("Member", "Status", "Worker"),
}

if not TYPE_CHECKING:  # a type checker that saw these would take any name for a public one

    def __getattr__(name: str) -> object:
        """Import a public name now (PEP 562)."""
        import importlib

        try:
            if name == "__version__":
                return importlib.import_module("importlib.metadata").version("swarmtrain")
            for home, public in _HOMES.items():
                if name in public:
                    return getattr(importlib.import_module(home), name)
        except ImportError as error:
            # In a container, where the client is not: whoever looks around there passes over it.
            raise AttributeError(f"module 'swarmtrain' has no attribute {name!r} here: {error}") from error
        raise AttributeError(f"module 'swarmtrain' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
