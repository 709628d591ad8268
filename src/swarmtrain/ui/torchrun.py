"""torchrun's own flags, so that its command line works with one word exchanged. Pure: tables and texts.

Those with an equivalent among the job's keys are in `job.flags`, beside ours; `FLAGS` here are the others, which are
taken and told of by `ignored`. The list is that of torch/distributed/run.py of torch 2.13. `ui.options` offers both.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple


class Flag(NamedTuple):
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
    Flag(("--standalone",), _MEETING, takes_value=False),
    *(Flag((f"--rdzv-{part}",), _MEETING) for part in ("backend", "endpoint", "id")),
    *(Flag((flag,), _MEETING) for flag in ("--node-rank", "--master-addr", "--master-port")),
    Flag(("--local-addr",), "each node talks through the interface that leads to the coordinator"),
    Flag(("--role",), "a run has one role, default"),
    Flag(("--monitor-interval",), _WATCHED),
    Flag(("--event-log-handler",), "`swarmtrain events` has what happened"),
    Flag(("--start-method",), "every worker is a process of its own: see --start"),
    Flag(("--run-path",), "a script is run as Python itself runs it", takes_value=False),
    Flag(("-r", "--redirects"), _OUTPUT),
    Flag(("-t", "--tee"), _OUTPUT),
    *(Flag((flag,), _OUTPUT) for flag in ("--log-dir", "--logs-specs", "--local-ranks-filter")),
    *(Flag((f"--duplicate-{stream}-filters",), _OUTPUT) for stream in ("stdout", "stderr")),
    Flag(("--numa-binding",), "workers are bound to no processors"),
    Flag(("--signals-to-handle",), "SIGTERM and SIGINT stop a run in order"),
    Flag(("--virtual-local-rank",), "LOCAL_RANK is a worker's own number on its node", takes_value=False),
)

NAMES = frozenset(flag.name for flag in FLAGS)


def ignored(given: Collection[str]) -> list[str]:
    """What is said of the flags that were given, by the names of their parameters: a line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for flag in FLAGS:
        if flag.name in given:
            by_reason.setdefault(flag.why, []).append(flag.spellings[-1])
    return [f"{', '.join(flags)}: ignored, since {why}" for why, flags in by_reason.items()]
