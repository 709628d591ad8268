"""What is tried beside the workers of a run: by its agents, in its own network, with little of either.

Each node answers while the others ask it, one after the other: whatever is slow then is so by itself. A process that is
asked for so ends with the link that asked for it (`agent/services/requests.py`), so nothing has to be removed.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from swarmtrain.doctor.check import Severity
from swarmtrain.doctor.check import run as check
from swarmtrain.doctor.cluster import ways
from swarmtrain.doctor.cluster.tried import TrialReports
from swarmtrain.errors import ChannelError, SwarmtrainError, in_short
from swarmtrain.launchers.base import Launcher, Run
from swarmtrain.protocol.ask import ask
from swarmtrain.protocol.codec import dump
from swarmtrain.protocol.probes import reports
from swarmtrain.protocol.probes.reports import (
    MachineReport,
    PairReport,
    PortReport,
    ProbeDone,
    ProbePeer,
    ProbePort,
)
from swarmtrain.protocol.requests import ExecRequest
from swarmtrain.protocol.schema import Struct
from swarmtrain.protocol.status import Member
from swarmtrain.swarm.cluster import Node
from swarmtrain.wire.link import Link
from swarmtrain.wire.plural import counted

Say = Callable[[str], None]

STREAM_SECONDS = 0.15  # that a way is filled: a few steps' worth of a link
_ANSWER_SECONDS = 30.0
_ASK_SECONDS = 15.0  # of one node, and for each of the others
_PAIR_SECONDS = 3.0
_AGAIN = 2  # times that ways are tried once more, where some look slow
_OF_SPEED = tuple(each for each in ways.CHECKS if each.code in ("slow-way", "stalled", "lopsided", "latency"))
_LONGEST = 600.0  # after which a process on a node ends by itself
_MOST = 1 << 20  # bytes that one may say: a line for each other node is a few thousand


class Visit:
    """One process beside a node's workers, and what it has said so far.

    Args:
        words: the part and its variables.
    """

    def __init__(self, launcher: Launcher, run: Run, node: str, words: Sequence[str]) -> None:
        self.node = node
        self.error = ""
        self._launcher, self._run, self._words = launcher, run, words
        self._said = bytearray()
        self._link: Link | None = None
        self._changed = threading.Condition()
        self._over = False
        threading.Thread(target=self._listen, name=f"visit {node}", daemon=True).start()

    def reports(self, seconds: float) -> list[Struct]:
        """What it says until it is done; what there is when the time is over, or it has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._is_done(), seconds)
            return self._reports()

    def end(self) -> None:
        """Hang up; its process on the node ends with that."""
        with self._changed:
            self._over = True
            link = self._link
        if link is not None:
            link.close()

    def _is_done(self) -> bool:
        return any(isinstance(each, ProbeDone) for each in self._reports())

    def _reports(self) -> list[Struct]:
        return reports.reports_in(self._said.decode(errors="replace"))

    def _listen(self) -> None:
        try:
            with self._launcher.connect(self._run) as link:
                with self._changed:
                    self._link = link
                    if self._over:
                        return
                argv = (*self._launcher.program(self._run), "probe", *self._words)
                for reply in ask(link, ExecRequest(argv, self.node)):
                    with self._changed:
                        self._said += base64.b64decode(reply.stdout)
                        self._changed.notify_all()
                    if len(self._said) > _MOST:
                        raise ChannelError("it says more than anybody was asked for")
        except (SwarmtrainError, ValueError) as error:  # the latter: what is no base 64
            self.error = in_short(error)
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()


def visit(
    launcher: Launcher, run: Run, members: Sequence[Member], coordinator: str, say: Say
) -> TrialReports:
    """Look at every node, and try the ways between them where they are on different machines.

    Args:
        coordinator: its address in the run's network; empty where that is not to be tried.
    """
    found = TrialReports([Node(each.node, each.node, address=each.address or "") for each in members])
    apart = run.on != "local" and len(members) > 1
    say(f"looking at {counted(len(members), 'node')} of {run.id}, beside its workers")
    with _answering(launcher, run, members, "answer" if apart else "look") as answering:
        for each in answering:
            heard = [report for report in each.reports(_ANSWER_SECONDS) if isinstance(report, MachineReport)]
            if heard:
                found.machines[each.node] = heard[0]
            else:
                found.failed[each.node] = each.error or "it did not say anything in time"
        there = [each for each in members if each.node in found.machines]
        if apart and len(there) > 1:
            say(
                f"trying the ways between {len(there)} nodes, one after the other: each is filled for "
                f"{STREAM_SECONDS:g} s, in which steps take longer"
            )
            for member in there:
                _ask(launcher, run, member, there, found)
            for _ in range(_AGAIN):
                if not looks_slow(found):
                    break
                say("some of them look slow, which the training itself may be the reason of: once more")
                again = TrialReports(found.nodes)
                for member in there:
                    _ask(launcher, run, member, there, again)
                found.pairs = best(found.pairs, again.pairs)
        if apart and coordinator:
            for member in there:
                _reach(launcher, run, member, coordinator, found)
    return found


@contextmanager
def _answering(launcher: Launcher, run: Run, members: Sequence[Member], part: str) -> Iterator[list[Visit]]:
    visits = [Visit(launcher, run, each.node, [part, *_variables(each, {})]) for each in members]
    try:
        yield visits
    finally:
        for each in visits:
            each.end()


def looks_slow(found: TrialReports) -> bool:
    """Whether a way seems slower than others: those that the training uses at the moment do, too."""
    return any(each.severity is not Severity.OK for each in check(_OF_SPEED, found))


def best(first: Sequence[PairReport], second: Sequence[PairReport]) -> list[PairReport]:
    """The same ways, each as quick as it was at its best."""
    later = {(each.node, each.peer): each for each in second}
    return [_quickest(each, later.get((each.node, each.peer), each)) for each in first]


def _quickest(first: PairReport, second: PairReport) -> PairReport:
    speeds = [each.bandwidth for each in (first, second) if each.bandwidth is not None]
    trips = [each.latency for each in (first, second) if each.latency is not None]
    return PairReport(
        **{**vars(first), "bandwidth": max(speeds, default=None), "latency": min(trips, default=None)}
    )


def _ask(
    launcher: Launcher, run: Run, member: Member, members: Sequence[Member], found: TrialReports
) -> None:
    """What a node finds of the ways to the others."""
    # By their addresses, as workers meet: the names of nodes are not a run's.
    peers = [ProbePeer(each.node, each.address or "", each.address or "") for each in members]
    told = {reports.ENV_PEERS: json.dumps([dump(each) for each in peers])}
    asking = Visit(launcher, run, member.node, ["ask", *_variables(member, told)])
    said = asking.reports(_ASK_SECONDS + _PAIR_SECONDS * len(members))
    asking.end()
    found.pairs += [each for each in said if isinstance(each, PairReport)]
    if not any(isinstance(each, ProbeDone) for each in said):
        found.silent.setdefault("ask", []).append(member.node)


def _reach(launcher: Launcher, run: Run, member: Member, coordinator: str, found: TrialReports) -> None:
    """Whether a node reaches the coordinator."""
    host, _, port = coordinator.rpartition(":")
    wanted = ProbePort("the coordinator", host.strip("[]"), int(port))
    told = {reports.ENV_PEERS: json.dumps([dump(wanted)])}
    asking = Visit(launcher, run, member.node, ["ports", *_variables(member, told)])
    found.ports += [each for each in asking.reports(_ASK_SECONDS) if isinstance(each, PortReport)]
    asking.end()


def _variables(member: Member, told: Mapping[str, str]) -> list[str]:
    variables = {
        reports.ENV_NODE: member.node,
        reports.ENV_SECONDS: f"{_LONGEST:.0f}",
        reports.ENV_INTERFACE: member.interface or "eth0",
        reports.ENV_STREAM: f"{STREAM_SECONDS:g}",
        **told,
    }
    return [f"{key}={value}" for key, value in variables.items()]
