"""A small honest world around a real run: machines that fail, agents that obey, workers that need each other.

Time goes in beats of half a second. A group makes steps exactly when all of its ranks live and reach each other; a
rank whose peer has died raises a moment later, and waits for ever for one that is frozen, cut off or without power.
Everybody saves every so many steps, on its own disk, which survives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from run_fakes import Ear, Theatre, WireMessages, pulse

from swarmtrain.coordinator.clients import actions
from swarmtrain.coordinator.core.decide import decide
from swarmtrain.coordinator.core.model import Decision, Phase, Policy, View
from swarmtrain.coordinator.run import controller as run_module
from swarmtrain.coordinator.run.members import ConnectedAgent
from swarmtrain.protocol.journal.events import GenerationFailed, GenerationFormed, StopOrdered
from swarmtrain.protocol.journal.remarks import ChaosCaused
from swarmtrain.wire.pulse import Activity, Source

BEAT = 0.5
STEPS = 5  # that a group makes in a beat
SAVED = 20  # steps between two snapshots
BOOT = 2  # beats from a worker's start to its first step
GIVE_UP = 60.0  # as agents do


@dataclass
class Rank:
    """One worker."""

    rank: int
    g: int
    born: float
    resumed: int
    code: int | None = None
    signal: int | None = None
    killed: bool = False
    paused: bool = False
    ended: bool = False
    error: str = ""
    last: float | None = None  # step
    first: float | None = None

    def state(self) -> dict[str, Any]:
        found = {"g": self.g, "rank": self.rank, "state": "running", "pid": 1, "t": self.born}
        if self.ended:
            found |= {"state": "exited", "code": self.code, "signal": self.signal, "t": self.born + 1.0}
            found |= {"killed": True} if self.killed else {}
            found |= {"paused": self.paused}
            found |= {"error": {"summary": self.error}} if self.error else {}
        return found


@dataclass
class Node:
    """A machine with its agent."""

    name: str
    slot: int
    disk: int = 0  # the newest step saved there
    on: bool = True
    frozen: bool = False
    cut: bool = False
    back: float | None = None  # when its container is started again
    lives: int = 1
    generation: int = 0
    ranks: dict[int, Rank] = field(default_factory=dict)
    pause: bool = False
    leaving: bool = False
    over: bool = False
    slow: float = 0.0  # seconds from an order to stop until its workers are gone
    ordered: str = ""
    ends: float = 0.0
    told: dict[int, str] = field(default_factory=dict)  # what the coordinator was told of each rank
    told_idle: bool = True
    alone_since: float = 0.0
    link: Ear | None = None
    peer: ConnectedAgent | None = None
    read: int = 0

    @property
    def awake(self) -> bool:
        return self.on and not self.frozen and self.back is None and not self.over

    @property
    def live(self) -> list[Rank]:
        return [rank for rank in self.ranks.values() if not rank.ended]

    @property
    def idle(self) -> bool:
        return not self.live


class World:
    """The nodes, one run, and what must be true at every beat."""

    def __init__(
        self, stage: Theatre, nodes: int, *, can_pause: bool = True, goal: int = 10**9, **task: Any
    ) -> None:
        self.stage, self.clock, self.task = stage, stage.clock, task
        self.can_pause, self.goal = can_pause, goal
        self.nodes = [Node(name, slot) for slot, name in enumerate("abcdef"[:nodes])]
        self.steps: dict[int, int] = {}  # by generation
        self.sizes: dict[int, int] = {}  # ranks, by generation
        self.moved: dict[int, float] = {}  # when a generation last made a step
        self.broken: set[int] = set()  # generations of which a connection has closed
        self.jammed = False  # workers do not answer a pause
        self.works_until = 0.0  # a rank works by itself, and the others wait for it
        self.hangs_until = 0.0  # no rank does anything
        self.up = True
        self.run = stage.make(1, **task)
        self.seen = len(self.run.journal.events)
        self.decisions = 0
        self.excused = False  # what stops a generation that makes steps is asked for

    # ---- what befalls it -----------------------------------------------------------------------------------------

    def do(self, action: str, node: Node) -> None:
        """One fault, repair or wish."""
        getattr(self, f"_{action}")(node)

    def _crash(self, node: Node) -> None:
        for rank in node.live[:1]:
            rank.ended, rank.signal = True, 9

    def _raise(self, node: Node) -> None:
        for rank in node.live[:1]:
            rank.ended, rank.code, rank.error = True, 1, f"ValueError: {self.clock.now}"

    def _die(self, node: Node) -> None:
        """Its container dies, and is started again."""
        if node.on and node.back is None and not node.over:
            self._gone(node, quietly=False)
            node.back = self.clock.now + 1.0

    def _power(self, node: Node) -> None:
        self._gone(node, quietly=True)
        node.on, node.back = False, None

    def _lift(self, node: Node) -> None:
        """Whatever was wrong with the machine is over."""
        if not node.on:
            node.on, node.back = True, self.clock.now + 3.0
        node.frozen = node.cut = False

    def _freeze(self, node: Node) -> None:
        node.frozen = node.on

    def _cut(self, node: Node) -> None:
        node.cut = True

    def _leave(self, node: Node) -> None:
        """Swarm tells its container to go; another one comes later."""
        if node.awake and not node.leaving:
            node.leaving = True
            self.excused = True
            if node.peer is not None and self._reaches(node):
                WireMessages(self.run).leaving(node.peer)

    def _resize(self, node: Node) -> None:
        if self.up:
            self.excused = True
            actions.resize(self.run, node.slot + 1)

    def _restart(self, node: Node) -> None:
        """The coordinator is killed and started again."""
        self.stage.forget()
        for each in self.nodes:
            each.link = each.peer = None
        self.run = self.stage.make(1, **self.task)
        self.run.settle()
        self._close_aborted()

    def _sleep(self, node: Node) -> None:
        """The coordinator is frozen for a while; the others are not."""
        self.up = False
        for _ in range(30):
            self.beat()
        self.up = True

    def _drag(self, node: Node) -> None:
        """Its workers take long to end, longer than the coordinator waits, or not any more."""
        node.slow = 0.0 if node.slow else 3.0 + 12.0 * (node.slot % 2)

    def _jam(self, node: Node) -> None:
        self.jammed = not self.jammed

    def _hang(self, node: Node) -> None:
        """No rank does anything for a while."""
        self.hangs_until = self.clock.now + 150.0

    def _work(self, node: Node) -> None:
        """A rank works by itself for a while, and the others wait for it."""
        self.works_until = self.clock.now + 100.0

    def _note(self, node: Node) -> None:
        """Its agent says something for the journal."""
        if node.peer is not None and self._reaches(node):
            WireMessages(self.run).note(node.peer, "kept", "kept what the run had written over the code: x")

    def _trouble(self, node: Node) -> None:
        """Its agent cannot do its part."""
        if node.peer is not None and self._reaches(node) and self.run.phase is not Phase.ENDED:
            self.excused = True
            WireMessages(self.run).trouble(node.peer, "No space left on device")

    def _chaos(self, node: Node) -> None:
        """A client writes into the journal."""
        if self.run.phase is not Phase.ENDED:
            self.run.journal.append(ChaosCaused(text=f"chaos: kill {node.name}"))

    def _damage(self, node: Node) -> None:
        """A bit of the journal's newest lines turns on the disk, and the coordinator is killed and started again."""
        path = self.run.journal.path
        data = bytearray(path.read_bytes())
        data[-1 - (97 * (node.slot + 1)) % len(data)] ^= 4
        path.write_bytes(data)
        self.excused = True
        self._restart(node)

    def _stop(self, node: Node) -> None:
        if self.up:
            self.excused = True
            actions.stop(self.run)

    def _gone(self, node: Node, *, quietly: bool) -> None:
        for rank in node.live:
            rank.ended, rank.signal = True, 9
            if not quietly:
                self.broken.add(rank.g)
        node.ranks, node.ordered = {}, ""
        if node.link is not None and not quietly:
            self._hang_up(node)
        node.link = node.peer = None

    def _hang_up(self, node: Node) -> None:
        link: object = node.link
        if node.peer is not None and node.peer.channel is link and self.up:
            WireMessages(self.run).left(node.peer)
        node.link = node.peer = None

    # ---- time ----------------------------------------------------------------------------------------------------

    def beat(self) -> None:
        """Half a second of everything."""
        self.clock.turn(BEAT)
        for node in self.nodes:
            if node.back is not None and self.clock.now >= node.back and node.on:
                self._born(node)
            if node.awake:
                self._hear(node)
                self._obey(node)
        self._train()
        for node in self.nodes:
            if node.awake:
                self._say(node)
        if self.up:
            self.run.tick()
            self._close_aborted()
        self._check()

    def _born(self, node: Node) -> None:
        node.back, node.lives = None, node.lives + 1
        node.generation, node.ranks, node.told = 0, {}, {}
        node.pause = node.leaving = False
        node.told_idle, node.alone_since = True, self.clock.now

    def _reaches(self, node: Node) -> bool:
        return node.link is not None and node.link.open and not node.cut and self.up

    def _close_aborted(self) -> None:
        """What the coordinator has hung up, its server notices."""
        for peer in list(self.run.members.connected.values()):
            link = peer.channel
            if isinstance(link, Ear) and not link.open:
                WireMessages(self.run).left(peer)

    def _hear(self, node: Node) -> None:
        if node.cut or not self.up:
            return
        if node.link is None or not node.link.open:
            self._join(node)
        assert node.link is not None
        heard, node.read = node.link.heard[node.read :], len(node.link.heard)
        for message in heard:
            match message:
                case {"start": start}:
                    if start["g"] > node.generation and node.idle:
                        node.generation, node.pause = start["g"], False
                        self._begin(node, start)
                case {"stop": {"g": g, "how": how}}:
                    if g == node.generation:
                        node.ordered, node.ends = how, self.clock.now + node.slow
                case {"pause": {"g": g, "on": on}}:
                    if g == node.generation:
                        node.pause = on
                case {"end": _}:
                    for rank in node.live:
                        rank.ended, rank.signal, rank.killed = True, 9, True
                    node.over = True

    def _obey(self, node: Node) -> None:
        """Its workers end as was ordered."""
        if node.ordered and self.clock.now >= node.ends:
            for rank in node.live:
                rank.ended = rank.killed = True
                rank.signal = 9 if node.ordered == "kill" else 15
                if node.ordered == "save" and self.can_pause:
                    rank.signal, rank.code, rank.paused = None, 0, True
            node.ordered = ""

    def _join(self, node: Node) -> None:
        ears = Ear()
        peer, _ = self.stage.agent(
            node.name,
            node.slot,
            incarnation=f"{node.name}-{node.lives}",
            channel=ears,
            generation=node.generation,
            idle=node.idle,
            drained=node.idle,
            leaving=node.leaving,
        )
        node.link, node.read = ears, 0
        if self.run.members.replaced(peer):
            raise AssertionError(f"{node.name} is refused")
        node.peer = WireMessages(self.run).join(peer)
        node.told, node.told_idle = {}, node.idle
        WireMessages(self.run).tell(node.peer, [rank.state() for rank in node.ranks.values()])
        self._close_aborted()

    def _begin(self, node: Node, start: dict[str, Any]) -> None:
        g = start["g"]
        self.sizes[g] = start["world_size"]
        if g not in self.steps:
            parts = [each.disk for each in self.nodes if each.name in self.run.current.generation.parts]
            self.steps[g] = max(parts)
        node.ordered = ""
        node.ranks = {rank: Rank(rank, g, self.clock.now, self.steps[g]) for rank in start["ranks"]}
        node.told, node.told_idle = {}, False

    def _train(self) -> None:
        """What the workers do in half a second."""
        for g in {node.generation for node in self.nodes if node.live}:
            nodes = [node for node in self.nodes if node.generation == g and node.ranks]
            ranks = [rank for node in nodes for rank in node.ranks.values()]
            live = [rank for rank in ranks if not rank.ended]
            reach = all(not node.frozen and node.on for node in nodes if node.live)
            reach &= len(nodes) == 1 or not any(node.cut for node in nodes if node.live)
            if len(live) == self.sizes[g] and reach:
                booted = all(self.clock.now >= rank.born + BOOT * BEAT for rank in live)
                if booted and any(node.pause for node in nodes) and self.can_pause and not self.jammed:
                    for node in nodes:
                        node.disk = self.steps[g]
                        for rank in node.live:
                            rank.ended, rank.code, rank.paused = True, 0, True
                elif booted and self.clock.now >= max(self.works_until, self.hangs_until):
                    self._step(g, nodes, live)
            elif g in self.broken or any(rank.ended and not rank.paused and rank.code != 0 for rank in ranks):
                self._break(nodes)

    def _step(self, g: int, nodes: list[Node], live: list[Rank]) -> None:
        self.steps[g] += STEPS
        self.moved[g] = self.clock.now
        for rank in live:
            rank.last = self.clock.now
            rank.first = rank.first or self.clock.now
        if self.steps[g] % SAVED == 0:
            for node in nodes:
                node.disk = self.steps[g]
        if self.steps[g] >= self.goal:
            for rank in live:
                rank.ended, rank.code = True, 0

    def _break(self, nodes: list[Node]) -> None:
        """The peers of a rank that has died see its connection close."""
        for node in nodes:
            if node.on and not node.frozen and not node.cut:
                for rank in node.live:
                    rank.ended, rank.code, rank.error = True, 1, "RuntimeError: Connection closed by peer"

    def _say(self, node: Node) -> None:
        """What an agent tells, and what it does when there is nobody to tell."""
        moving = self.clock.now - self.moved.get(node.generation, 0.0) < GIVE_UP
        if self._reaches(node) or (node.live and moving):
            node.alone_since = self.clock.now
        elif self.clock.now - node.alone_since > GIVE_UP:
            for rank in node.live:
                rank.ended, rank.killed, rank.signal = True, True, 9
        if node.leaving and node.idle and (node.told_idle or not self._reaches(node)):
            self._gone(node, quietly=False)
            node.back = self.clock.now + 4.0
            return
        if not self._reaches(node) or node.peer is None:
            return
        run, peer = self.run, node.peer
        peer.heard = self.clock.now
        WireMessages(run).beat(peer, [self._pulse(rank) for rank in node.ranks.values()])
        for rank in node.ranks.values():
            state = rank.state()
            if node.told.get(rank.rank) != state["state"]:
                node.told[rank.rank] = state["state"]
                WireMessages(run).worker(peer, state)
        if node.idle and not node.told_idle:
            node.told_idle = True
            WireMessages(run).idle(peer, node.generation, 20_000)
            WireMessages(run).drained(peer, node.generation)
        self._close_aborted()

    def _pulse(self, rank: Rank) -> list[Any]:
        step = self.steps[rank.g] if rank.last is not None else rank.resumed
        return pulse(
            rank.rank,
            step,
            g=rank.g,
            quiet=None if rank.last is None else self.clock.now - rank.last,
            first=None if rank.first is None else self.clock.now - rank.first,
            source=Source.CAN_PAUSE if self.can_pause else Source.WATCHED,
            activity=Activity.NONE if rank.last is not None else Activity.START,
            resumed=rank.resumed if self.can_pause else 0,
            lived=0.0 if rank.rank == 0 and self.clock.now < self.works_until else None,
            sign="processor time",
        )

    # ---- what is always true -------------------------------------------------------------------------------------

    def _check(self) -> None:
        for event in self.run.journal.events[self.seen :]:
            if isinstance(event, GenerationFormed):
                self.excused = False
                for name in event.parts:
                    node = next(each for each in self.nodes if each.name == name)
                    old = [rank for rank in node.live if rank.g != event.generation]
                    assert not old, f"{name} takes part in {event.generation} while {old} live"
            elif isinstance(event, (GenerationFailed, StopOrdered)) and not self.excused:
                moved = self.moved.get(self.run.current.generation.number, 0.0)
                whole = all(not rank.ended for node in self.nodes for rank in node.ranks.values())
                stands = self.clock.now - moved > 3.0 or self.run.state.outcome is not None
                assert stands or not whole or not self._all_there(), f"stopped while it trains: {event.text}"
        self.seen = len(self.run.journal.events)
        trains = [g for g, when in self.moved.items() if when == self.clock.now]
        assert len(trains) <= 1 or any(self.sizes[g] == 1 for g in trains), f"{trains} train at the same time"

    def _all_there(self) -> bool:
        g = self.run.current.generation.number
        return sum(len(node.live) for node in self.nodes if node.generation == g) == self.sizes.get(g)

    def looks(self) -> int:
        """How often the first node was asked what its workers do."""
        link = self.nodes[0].link
        return len(link.all("stacks")) if link is not None else 0

    @property
    def trains_on(self) -> int:
        """Nodes of the generation that made a step at this beat; 0 where none did."""
        g = self.run.current.generation.number
        return len(self.run.current.generation.parts) if self.moved.get(g) == self.clock.now else 0

    def until(self, seconds: float, done: Any) -> bool:
        """Let time go until something is so; whether it came to be."""
        end = self.clock.now + seconds
        while not done():
            if self.clock.now >= end:
                return False
            self.beat()
        return True


def watched_decide(view: View, policy: Policy, now: float) -> Decision:
    """`decide`, asked twice."""
    decision = decide(view, policy, now)
    assert decide(view, policy, now) == decision
    return decision


__all__ = ["BEAT", "Node", "Phase", "World", "run_module", "watched_decide"]
