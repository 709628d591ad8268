"""What all ranks of a live run do at a moment, asked for and laid together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from swarmtrain.diagnosis import stacks
from swarmtrain.diagnosis.flight import analyse, with_places
from swarmtrain.protocol import codec
from swarmtrain.protocol.ask import ask
from swarmtrain.protocol.evidence.seen import FlightFinding, RankStacks, StackGroup
from swarmtrain.protocol.requests import StacksRequest
from swarmtrain.protocol.schema import Struct

if TYPE_CHECKING:
    from swarmtrain.launchers.base import Launcher, Run


class RunStacks(Struct):
    """What all ranks do.

    Attributes:
        groups: threads that are at the same place together, the odd ones first.
        findings: what torch's flight records say of the ranks together, the most telling first.
        ranks: what each answered.
    """

    groups: list[StackGroup]
    findings: list[FlightFinding]
    ranks: list[RankStacks]

    def of(self, wanted: Sequence[int]) -> RunStacks:
        """The same of these ranks alone; what was found of all together stays."""
        return laid_together([each for each in self.ranks if each.rank in wanted], self.findings)

    def dump(self) -> dict[str, object]:
        """As JSON, as `swarmtrain stacks --json` prints it."""
        return codec.dump(self)


def ask_for_stacks(launcher: Launcher, run: Run) -> RunStacks:
    """Ask every worker of a run.

    Raises:
        ClusterError: none runs.
    """
    found: list[RankStacks] = []
    with launcher.connect(run) as link:
        for reply in ask(link, StacksRequest(children=True)):
            found += reply.stacks or ()
    found.sort(key=lambda each: each.rank)
    reports = {each.rank: each.report for each in found if each.report is not None}
    return laid_together(found, analyse(with_places(reports)))


def laid_together(ranks: list[RankStacks], findings: list[FlightFinding]) -> RunStacks:
    """What these ranks answered, in groups."""
    reports = {each.rank: each.report for each in ranks if each.report is not None}
    first = {rank for finding in findings for rank in finding.ranks}
    return RunStacks(stacks.group(reports, first), findings, ranks)
