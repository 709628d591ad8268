"""What all ranks of a live run do at a moment, asked for and laid together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from swarmtrain.diagnosis import stacks
from swarmtrain.diagnosis.flight import analyse, parted, with_places
from swarmtrain.protocol import codec
from swarmtrain.protocol.ask import ask
from swarmtrain.protocol.evidence.seen import FlightFinding, RankStacks, StackGroup
from swarmtrain.protocol.requests import StacksRequest
from swarmtrain.protocol.schema import Struct

if TYPE_CHECKING:
    from swarmtrain.launchers.base import Launcher, Run
    from swarmtrain.wire.link import Link


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

    A run that gets on is always somewhere between two collectives, and its ranks are not asked at the very same moment.
    So what their records say of now counts only if they say the same a moment later.

    Raises:
        ClusterError: none runs.
    """
    with launcher.connect(run) as link:
        ranks = _answers(link, children=True)
        findings = _findings(ranks)
        if findings:
            later = _findings(_answers(link, children=False))
            findings = [each for each in findings if each.kind == "parted" or each in later]
    return laid_together(ranks, findings)


def _answers(link: Link, *, children: bool) -> list[RankStacks]:
    found = [each for reply in ask(link, StacksRequest(children)) for each in reply.stacks or ()]
    return sorted(found, key=lambda each: each.rank)


def _findings(ranks: Sequence[RankStacks]) -> list[FlightFinding]:
    flights = with_places({each.rank: each.report for each in ranks if each.report is not None})
    before = parted(flights)
    return [*([before] if before is not None else []), *analyse(flights)]


def laid_together(ranks: list[RankStacks], findings: list[FlightFinding]) -> RunStacks:
    """What these ranks answered, in groups."""
    reports = {each.rank: each.report for each in ranks if each.report is not None}
    first = {rank for finding in findings for rank in finding.ranks}
    return RunStacks(stacks.group(reports, first), findings, ranks)
