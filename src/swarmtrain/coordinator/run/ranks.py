"""What the coordinator knows of each worker of the current generation."""

from __future__ import annotations

from dataclasses import dataclass

from swarmtrain.coordinator.core.root_cause import describe_exit
from swarmtrain.coordinator.core.state import RunState
from swarmtrain.protocol.from_agent import WorkerReport
from swarmtrain.protocol.status import Worker


@dataclass
class RankState:
    """One rank of the current generation."""

    rank: int
    local_rank: int
    node: str
    state: str = "starting"  # starting, running, exited, killed
    pid: int | None = None
    exit: str = ""  # in words, once it is over
    code: int | None = None
    step: int | None = None
    signal: int | None = None
    left: float = 0.0  # when it has gone, Unix time
    paused: bool = False  # it has left with all work saved, as it was asked to
    # its script had left its last line of code: its work was done, however the process ended
    ended: bool = False

    @property
    def over(self) -> bool:
        """Whether it has gone."""
        return self.state in ("exited", "killed")

    @property
    def done(self) -> bool:
        """Whether it has gone with its work done."""
        return self.over and (self.code == 0 or self.ended)

    def take(self, report: WorkerReport) -> None:
        """Its agent says that it runs, or how it ended."""
        self.pid, self.state, end = report.pid, report.state, report.end
        if end is None:
            return
        self.code, self.signal, self.left = end.code, end.signal, report.time
        self.paused, self.ended = end.paused, end.ended
        self.exit = describe_exit(self.code, self.signal)
        if report.killed:
            self.state = "killed"

    def mark_lost(self, *, ended: bool) -> None:
        """Its node is lost with it.

        Args:
            ended: its script had left its last line of code.
        """
        self.state, self.exit, self.ended = "killed", "lost with its node", ended

    def end_with_run(self) -> None:
        """The run is over. What nobody has seen end by then was killed with it, and will tell no more."""
        if not self.over:
            self.state, self.exit = "killed", "killed with its run"

    def told(self) -> Worker:
        """As clients are told of it, and as the end of the run leaves it."""
        return Worker(**vars(self))


def ranks_of(state: RunState) -> dict[int, RankState]:
    """Those of the newest generation, as far as the journal knows: the rest is told again when agents join again."""
    if state.workers:
        return {worker.rank: RankState(**vars(worker)) for worker in state.workers}
    running = "running" if state.began else "starting"
    workers = {
        rank: RankState(rank, local_rank, node, running)
        for node, part in state.generation.parts.items()
        for local_rank, rank in enumerate(part.ranks)
    }
    for failure in state.failures:
        if failure.rank in workers and failure.kind != "hang":  # or its agent would say it again
            worker = workers[failure.rank]
            worker.state, worker.code = "exited", failure.code
            worker.exit = describe_exit(failure.code, failure.signal)
    return workers
