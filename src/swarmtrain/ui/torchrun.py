"""torchrun's own flags, so that its command line works with one word exchanged. Pure: tables and texts.

Those with an equivalent among the job's keys are in `job.flags`, beside ours; `FLAGS` here are the others, which are
taken and told of by `ignored`. The list is that of torch/distributed/run.py of torch 2.13. `ui.options` offers both.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple


class TorchrunFlag(NamedTuple):
    """A flag of torchrun that has no meaning here.

    Args:
        spellings: as `torchrun --help` has them, with hyphens.
        why: why it is not needed, as the end of a sentence that begins with the flags.
        takes_value: it is followed by one.
    """

    spellings: tuple[str, ...]
    why: str
    takes_value: bool = True

    @property
    def name(self) -> str:
        """The name of its parameter: ``rdzv_backend``."""
        return self.spellings[-1].removeprefix("--").replace("-", "_")


_MEETING = (
    "one command starts every node, and the run's coordinator brings them together and gives out the ranks"
)
_OUTPUT = "everything that workers write is kept: `swarmtrain logs`, with --rank for some of it"
_WATCHED = "workers are watched all the time"

FLAGS = (
    TorchrunFlag(("--standalone",), _MEETING, takes_value=False),
    *(TorchrunFlag((f"--rdzv-{part}",), _MEETING) for part in ("backend", "endpoint", "id")),
    *(TorchrunFlag((flag,), _MEETING) for flag in ("--node-rank", "--master-addr", "--master-port")),
    TorchrunFlag(("--local-addr",), "each node talks through the interface that leads to the coordinator"),
    TorchrunFlag(("--role",), "a run has one role, default"),
    TorchrunFlag(("--monitor-interval",), _WATCHED),
    TorchrunFlag(("--event-log-handler",), "`swarmtrain events` has what happened"),
    TorchrunFlag(("--start-method",), "every worker is a process of its own: see --start"),
    TorchrunFlag(("--run-path",), "a script is run as Python itself runs it", takes_value=False),
    TorchrunFlag(("-r", "--redirects"), _OUTPUT),
    TorchrunFlag(("-t", "--tee"), _OUTPUT),
    *(TorchrunFlag((flag,), _OUTPUT) for flag in ("--log-dir", "--logs-specs", "--local-ranks-filter")),
    *(TorchrunFlag((f"--duplicate-{stream}-filters",), _OUTPUT) for stream in ("stdout", "stderr")),
    TorchrunFlag(("--numa-binding",), "workers are bound to no processors"),
    TorchrunFlag(("--signals-to-handle",), "SIGTERM and SIGINT stop a run in order"),
    TorchrunFlag(
        ("--virtual-local-rank",), "LOCAL_RANK is a worker's own number on its node", takes_value=False
    ),
)

NAMES = frozenset(flag.name for flag in FLAGS)


def ignored(given: Collection[str]) -> list[str]:
    """What is said of the flags that were given, by the names of their parameters: a line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for flag in FLAGS:
        if flag.name in given:
            by_reason.setdefault(flag.why, []).append(flag.spellings[-1])
    return [f"{', '.join(flags)}: ignored, since {why}" for why, flags in by_reason.items()]
