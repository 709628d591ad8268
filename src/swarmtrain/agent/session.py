"""The agent's sessions with the coordinator: it joins, hears its orders, and joins again when it is cut off.

What happened meanwhile, when nobody could be told, is said again whenever it has joined. uplink.py is the other way.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from swarmtrain.agent import network
from swarmtrain.agent.choices import Choices, Settings
from swarmtrain.agent.journal_copy import JournalCopy
from swarmtrain.agent.run_directories import RunDirectories
from swarmtrain.agent.uplink import Background, Uplink
from swarmtrain.agent.worker_group.group import WorkerGroup
from swarmtrain.agent.worker_group.tails import Key, Piece
from swarmtrain.errors import ChannelError
from swarmtrain.protocol.codec import dump
from swarmtrain.protocol.from_agent import (
    CopyPiece,
    CopyState,
    Join,
    Joiner,
    Leaving,
)
from swarmtrain.protocol.journal.lines import batches
from swarmtrain.protocol.shared_files import AskShared, BringShared
from swarmtrain.protocol.to_agent import (
    TO_AGENT,
    Acknowledge,
    AskForCopy,
    AskStacks,
    BeatHeard,
    JournalPiece,
    PauseWorkers,
    Refuse,
    RunEnded,
    SendLater,
    StartWorkers,
    StopWorkers,
    ToAgent,
    Welcome,
)
from swarmtrain.wire import sockets
from swarmtrain.wire.channel import Channel, initiate
from swarmtrain.wire.run_spec import RunSecret

if TYPE_CHECKING:
    from swarmtrain.agent.services.requests import NodeServices

_WELCOME = 30.0  # seconds in which a coordinator answers an agent that joins
_TAKEN_OVER = 330.0  # and in which one that begins elsewhere has heard from whom it can
# Seconds until the next try: by how many have failed before it. After some minutes nobody waits for a second.
_RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, *[2.0] * 150, 5.0, 10.0)


class CoordinatorSession:
    """Keeps this node's agent joined.

    Args:
        group: what the coordinator gives orders to.
        uplink: what is open while there is a session.

    Attributes:
        over: the run has ended, or does not take this node.
        leaving: this agent is told to go.
    """

    def __init__(
        self, secret: RunSecret, settings: Settings, choices: Choices, group: WorkerGroup, uplink: Uplink
    ) -> None:
        self._secret, self._settings, self._choices = secret, settings, choices
        self._group, self._uplink = group, uplink
        self._incarnation = secrets.token_hex(8)
        self._services: NodeServices | None = None  # of this connection: answers never go to another one
        self._copy: JournalCopy | None = None
        self._moved = 0  # the highest number of a move of the coordinator that this agent has seen
        self._background = Background(uplink.fail)
        self.over = asyncio.Event()
        self.leaving = False

    async def stay_joined(self) -> None:
        """Join, and join again whenever the connection breaks."""
        failures = 0
        while not self.over.is_set():
            began = time.monotonic()
            try:
                await self.once()
            except (OSError, ChannelError, asyncio.TimeoutError) as error:
                if failures % 10 == 0:
                    print(f"{self._settings.coordinator}: {error}", file=sys.stderr, flush=True)
                if ended := ended_here(self._settings.coordinator):
                    await self._end_alone(ended)
            failures = 0 if time.monotonic() - began > 5.0 else failures + 1
            await asyncio.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])

    async def once(self) -> None:
        """One connection, from the proof of identity to its end."""
        reader, writer = await sockets.dial(self._settings.coordinator)
        channel = Channel(reader, writer)
        try:
            await initiate(channel, self._secret.token)
            choice = self._uplink.choice = self._choose_network(writer)
            await channel.send(dump(self._join(choice)))
            answer = await asyncio.wait_for(channel.receive(), _WELCOME)  # its machine may just have died
            if answer is None:
                raise ChannelError("the coordinator closed the connection")
            message = TO_AGENT.load(answer)
            if isinstance(message, AskForCopy):
                await self._hand_over(channel)
                return
            if (message.moved if isinstance(message, (Welcome, Refuse)) else 0) < self._moved:
                raise ChannelError("this coordinator has been replaced by one on another machine")
            if isinstance(message, Welcome):
                await self._attend(channel, message)
            elif isinstance(message, Refuse):
                print(f"the coordinator refused this node: {message.reason}", file=sys.stderr, flush=True)
                self.over.set()
            else:
                raise ChannelError("the coordinator neither welcomed nor refused this node")
        finally:
            self._uplink.channel = None
            if self._services is not None:
                self._services.close()
                self._services = None
            channel.close()

    def has_joined(self) -> bool:
        """Whether this node has ever had a part in the run, by this agent or one before it."""
        owner = self._settings.storage.owner(self._secret.run, self._settings.node)
        return self._copy is not None or owner == self._secret.submission

    async def _attend(self, channel: Channel, welcome: Welcome) -> None:
        """Do what follows a welcome, to the connection's end."""
        self._welcomed(welcome)
        self._services = self._answering(welcome, channel)
        self._uplink.open(channel)
        self._group.say_again()
        self._say_leaving()

        async def carry(piece: Piece) -> None:
            await channel.send(dump(piece))

        carrying = asyncio.ensure_future(self._group.delivery.tails.run(carry))
        carrying.add_done_callback(lambda task: _carried(task, channel))
        try:
            while (message := await channel.receive()) is not None:
                self._uplink.heard()
                self.hear(TO_AGENT.load(message))
        finally:
            carrying.cancel()

    def leave(self) -> None:
        """This agent goes: say so, now and whenever it joins again."""
        self.leaving = True
        self._say_leaving()

    def _say_leaving(self) -> None:
        if self.leaving:
            self._uplink.post(Leaving())

    # ---- joining ---------------------------------------------------------------------------------------------

    def _choose_network(self, writer: asyncio.StreamWriter) -> network.Choice:
        here = self._settings.coordinator.startswith(sockets.UNIX)
        source = "127.0.0.1" if here else writer.get_extra_info("sockname")[0]
        peer = "127.0.0.1" if here else writer.get_extra_info("peername")[0]
        return network.choose(network.interfaces(), source, peer, same_machine=here)

    def _join(self, choice: network.Choice) -> Join:
        events = self._copy.events if self._copy is not None else []
        joiner = Joiner(
            node=self._settings.node,
            node_id=self._settings.node_id,
            incarnation=self._incarnation,
            slot=self._settings.slot,
            workers=self._choices.workers,
            gpus=self._choices.gpus,
            backend=self._choices.backend,
            address=choice.address,
            interface=choice.interface,
            why=choice.why,
            port=self._uplink.free_port(),
            time=time.monotonic(),
            generation=self._group.generation,
            states=self._group.states(),
            idle=self._group.idle,
            warm=self._group.warm,
            leaving=self.leaving,
            copy=CopyState(len(events), self._moved, events[-1].time if events else 0.0),
            clock=time.time(),
        )
        return Join("agent", joiner)

    def _welcomed(self, welcome: Welcome) -> None:
        names = (welcome.directory, welcome.lineage, welcome.node, welcome.lineage_owner)
        directories = RunDirectories(self._settings.storage, *names)
        moved, self._moved = welcome.moved > self._moved, max(self._moved, welcome.moved)
        if self._copy is None or moved:
            self._copy = JournalCopy(directories.journal)
            self._copy.forget()
        offsets: dict[Key, int] = {each[:3]: each.offset for each in welcome.offsets}
        self._group.welcomed(directories, offsets)

    def _answering(self, welcome: Welcome, channel: Channel) -> NodeServices:
        """What answers those who look in through this connection."""
        from swarmtrain.agent.services.requests import NodeServices  # needed only once it has joined

        services = NodeServices(self._settings.storage, welcome.node, channel)
        services.lineage, services.env = welcome.lineage, self._choices.env
        services.workers = lambda: self._group.workers
        return services

    async def _hand_over(self, channel: Channel) -> None:
        """Give a coordinator that begins elsewhere what this node knows of the journal."""
        directories = self._directories(self._secret.run)
        copy = self._copy or JournalCopy(directories.journal)
        if not self.has_joined():
            copy.events.clear()  # of a run that had the same id
        for batch in batches(copy.events):
            await channel.send(dump(CopyPiece(batch)))
        await channel.send(dump(CopyPiece(done=True, age=copy.age)))
        # Its hanging up says that it has everything.
        await asyncio.wait_for(channel.receive(), _TAKEN_OVER)

    def _directories(self, directory: str) -> RunDirectories:
        """Where a run is on this node, if nobody has said so yet."""
        storage = self._settings.storage
        return RunDirectories(storage, directory, storage.lineage(directory), self._settings.node)

    # ---- what the coordinator says ---------------------------------------------------------------------------

    def hear(self, message: ToAgent) -> None:
        """One message of the coordinator."""
        match message:
            case StartWorkers():
                self._group.start(message)
            case StopWorkers(generation, grace, how):
                self._group.stop(generation, grace, how)
            case PauseWorkers(generation, on):
                self._group.pause(generation, on)
            case AskStacks():
                self._group.look(message)
            case RunEnded():
                self._background.run(self._end())
            case JournalPiece(events):
                if self._copy is not None:
                    self._copy.take(events)
            case BeatHeard():
                pass  # it is there: that is all it says
            case AskShared():
                self._group.files.answer(message)
            case BringShared():
                self._group.files.bring(message)
            case Acknowledge(kind, generation, rank, offset):
                self._group.delivery.tails.confirm((kind, generation, rank), offset)
            case SendLater(kind, generation, rank):
                self._group.delivery.tails.put_off((kind, generation, rank))
            case _ if self._services is not None:
                self._services.hear(message)

    async def _end(self) -> None:
        await self._group.end()
        if self._uplink.channel is not None:  # what the run could not wait for may still arrive
            await self._group.delivery.wait()
        await self.answered()
        self.over.set()

    async def answered(self) -> None:
        """Wait until those who were promised files have them, as long as that gets on; others are turned away."""
        if self._services is not None:
            await self._services.finish()

    async def _end_alone(self, directory: str) -> None:
        """The run ended while this agent was away, and its coordinator has left: nobody will say so any more."""
        if self._group.directories is None:
            self._group.directories = self._directories(directory)
        await self._end()


def ended_here(coordinator: str) -> str:
    """The directory of a run that has ended, by the journal that its coordinator left on this machine; else empty."""
    if not coordinator.startswith(sockets.UNIX):
        return ""
    place = Path(coordinator.removeprefix(sockets.UNIX)).parent
    try:
        lines = (place / "journal.jsonl").read_bytes().splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        if b"ended" in line:
            try:
                if json.loads(line)["kind"] == "ended":
                    return place.parent.name
            except (ValueError, KeyError, TypeError):
                continue  # the last line of a coordinator that was killed
    return ""


def _carried(carrying: asyncio.Task[None], channel: Channel) -> None:
    """Tails that broke end the session: the next one begins where the coordinator's knowledge ends."""
    if not carrying.cancelled() and (error := carrying.exception()) is not None:
        print(f"output could not be sent: {error!r}", file=sys.stderr, flush=True)
        channel.abort()
