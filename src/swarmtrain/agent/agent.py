"""The agent: joins the coordinator, starts and watches its node's workers, and outlives every broken connection."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarmtrain.agent import code, machine, memory, network
from swarmtrain.agent.environment import Node, Part, shared
from swarmtrain.agent.journal_copy import JournalCopy
from swarmtrain.agent.pump import Key, Pump
from swarmtrain.agent.serve import Desk
from swarmtrain.agent.stacks import stacks, stopped
from swarmtrain.agent.workers import Workers
from swarmtrain.errors import ChannelError, SwarmtrainError
from swarmtrain.wire import names, sockets
from swarmtrain.wire.alive import beat
from swarmtrain.wire.channel import Channel, initiate
from swarmtrain.wire.frames import Message
from swarmtrain.wire.keeper import keep
from swarmtrain.wire.storage import Storage
from swarmtrain.wire.task import Task, Ticket

_BEAT_SECONDS = 0.5
_PULSE_SECONDS = 0.1
_RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_LEASE = 60.0  # seconds without a coordinator and without progress after which the workers are stopped
_SILENCE = 5.0  # seconds without an answer to any beat after which the coordinator is looked for anew
_ANSWER = 3.0  # seconds in which a coordinator says what becomes of an agent that is told to leave
_DELIVERY = 5.0  # seconds that such an agent then takes to deliver what its workers wrote


@dataclass(frozen=True)
class Settings:
    """What the launcher says of this node, in the environment."""

    coordinator: str
    node: str
    node_id: str
    slot: int
    storage: Storage
    code: tuple[Path, ...]

    @staticmethod
    def of(env: dict[str, str]) -> Settings:
        """Read them. Raises KeyError, which is the launcher's mistake."""
        node = env[names.ENV_NODE]
        slot = env.get(names.ENV_SLOT, "0")
        return Settings(
            coordinator=env[names.ENV_COORDINATOR],
            node=node,
            node_id=env.get(names.ENV_NODE_ID, node),
            slot=int(slot) if slot.isdigit() else 0,
            storage=Storage(Path(env.get(names.ENV_STORAGE, names.STORAGE))),
            code=tuple(Path(part) for part in env.get(names.ENV_CODE, "").split(":") if part),
        )


class Agent:
    """One node's part in a run."""

    def __init__(self, task: Task, ticket: Ticket, settings: Settings) -> None:
        self._task, self._ticket, self._settings = task, ticket, settings
        self._incarnation = f"{os.getpid()}-{time.time_ns():x}"
        env = dict(os.environ)
        self._gpus = machine.gpus(env)
        self._count = task.workers or self._gpus or 1
        self._backend = task.backend
        if task.backend == "auto":
            self._backend = "nccl" if self._gpus >= self._count else "gloo"
        self._threads, self._threads_why = _threads(task, self._count)
        self._env = shared(env, task, ticket.env, self._threads, self._backend)
        self._notes: list[tuple[str, str]] = self._choices(env)
        self._workers = Workers(task, self._env, self._worker_changed, self._note)
        self._pump = Pump()
        self._desk = Desk(settings.storage, settings.node, self._send)
        self._desk.env = self._env
        self._channel: Channel | None = None
        self._heard = 0.0  # monotonic time of the coordinator's last word
        self._choice: network.Choice | None = None
        self._directory = self._lineage = ""
        self._generation = 0
        self._leaving = False
        self._starting = False  # a generation is to begin as soon as this node is prepared
        self._prepared = asyncio.Event()
        self._copy: JournalCopy | None = None
        self._moved = 0  # the highest number of a move of the coordinator that this agent has seen
        self._known: dict[Key, int] = {}  # how much of each file the coordinator has, when it was last asked
        self._ordered = asyncio.Event()  # the coordinator has said how the current generation ends
        self._undelivered: dict[int, asyncio.Task[None]] = {}  # generations whose output is on its way
        self._tasks: set[asyncio.Future[None]] = set()
        self._over = asyncio.Event()
        self._exit_code = 0

    async def run(self) -> int:
        """Until the run is over; the exit code says whether to start again: 0 means no."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: self._do(self._leave()))
        await self._workers.open(self._settings.storage.root)
        self._do(self._warm_up())
        tasks = [asyncio.ensure_future(self._stay_joined()), asyncio.ensure_future(self._tick())]
        await asyncio.wait(
            [*tasks, over := asyncio.ensure_future(self._over.wait())], return_when="FIRST_COMPLETED"
        )
        for each in tasks:
            if each.done():
                each.result()
            each.cancel()
        over.cancel()
        self._workers.stop(0.0)
        await self._workers.close()
        if self._channel is not None:
            self._channel.close()
            await self._channel.closed()
        return self._exit_code

    # ---- the connection --------------------------------------------------------------------------------------

    async def _stay_joined(self) -> None:
        """Join, and join again whenever the connection breaks."""
        failures = 0
        while not self._over.is_set():
            began = time.monotonic()
            try:
                await self._session()
            except (OSError, ChannelError, asyncio.TimeoutError) as error:
                if failures % 10 == 0:
                    print(f"{self._settings.coordinator}: {error}", file=sys.stderr, flush=True)
                if ended := ended_here(self._settings.coordinator):
                    await self._end_alone(ended)
            failures = 0 if time.monotonic() - began > 5.0 else failures + 1
            await asyncio.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])

    async def _session(self) -> None:
        """One connection, from the proof of identity to its end."""
        reader, writer = await sockets.dial(self._settings.coordinator)
        channel = Channel(reader, writer)
        try:
            await initiate(channel, self._ticket.token)
            choice = self._choose(writer)
            await channel.send({"join": self._join(choice)})
            answer = await channel.receive()
            if answer is None:
                raise ChannelError("the coordinator closed the connection")
            if "salvage" in answer:
                await self._hand_over(channel)
                return
            if answer.get("welcome", {}).get("moved", 0) < self._moved:
                raise ChannelError("this coordinator has been replaced by one on another machine")
            if "refuse" in answer:
                print(f"the coordinator refused this node: {answer['refuse']}", file=sys.stderr, flush=True)
                self._over.set()
                return
            self._welcomed(answer["welcome"])
            self._channel, self._heard = channel, time.monotonic()
            for kind, text in self._notes:
                channel.post({"note": {"kind": kind, "text": text}})
            self._notes = []
            self._catch_up(channel)
            pumping = asyncio.ensure_future(self._pump.run(channel.send))
            pumping.add_done_callback(lambda task: _pump_ended(task, channel))
            try:
                while (message := await channel.receive()) is not None:
                    self._heard = time.monotonic()
                    self._hear(message)
            finally:
                pumping.cancel()
        finally:
            self._channel = None
            self._desk.close()
            channel.close()

    async def _hand_over(self, channel: Channel) -> None:
        """Give a coordinator that begins elsewhere what this node knows of the journal."""
        copy = self._copy or JournalCopy(self._copy_path(self._ticket.run, self._settings.node))
        for batch in copy.batches():
            await channel.send({"copy": batch, "done": False})
        await channel.send({"copy": [], "done": True})
        await channel.receive()  # its hanging up says that it has everything

    def _copy_path(self, directory: str, node: str) -> Path:
        return self._settings.storage.output(directory, node).parent / "journal.jsonl"

    def _catch_up(self, channel: Channel) -> None:
        """Say what has happened since the words of joining were written, when nobody could be told."""
        for state in self._workers.states.values():
            channel.post({"worker": state})
        if self._is_idle() and self._choice is not None:
            port = network.free_port(self._choice.address)
            channel.post({"idle": {"g": self._generation, "port": port}})
            if self._generation not in self._undelivered:
                channel.post({"drained": self._generation})
        if self._workers.warm.is_set() and self._prepared.is_set():
            channel.post({"warm": True})
        if self._leaving:
            channel.post({"leaving": True})

    def _is_idle(self) -> bool:
        """Whether no worker is left, and none is about to start."""
        return self._workers.done.is_set() and not self._starting

    def _choose(self, writer: asyncio.StreamWriter) -> network.Choice:
        here = self._settings.coordinator.startswith(sockets.UNIX)
        source = "127.0.0.1" if here else writer.get_extra_info("sockname")[0]
        peer = "127.0.0.1" if here else writer.get_extra_info("peername")[0]
        self._choice = network.choose(network.interfaces(), source, peer, same_machine=here)
        return self._choice

    def _join(self, choice: network.Choice) -> Message:
        return {
            "role": "agent",
            "node": self._settings.node,
            "node_id": self._settings.node_id,
            "incarnation": self._incarnation,
            "slot": self._settings.slot,
            "workers": self._count,
            "gpus": self._gpus,
            "backend": self._backend,
            "address": choice.address,
            "interface": choice.interface,
            "why": choice.why,
            "port": network.free_port(choice.address),
            "time": time.time(),
            "generation": self._generation,
            "states": list(self._workers.states.values()),
            "idle": self._is_idle(),
            "drained": self._is_idle() and self._generation not in self._undelivered,
            "warm": self._workers.warm.is_set() and self._prepared.is_set(),
            "leaving": self._leaving,
            "journal": len(self._copy.events) if self._copy is not None else 0,
            "moved": self._moved,
        }

    def _welcomed(self, welcome: Message) -> None:
        fresh = not self._directory
        self._directory, self._lineage = welcome["directory"], welcome["lineage"]
        self._node_name = self._desk.node = welcome["node"]
        self._desk.lineage = self._lineage
        offsets: dict[Key, int] = {(kind, g, r): offset for kind, g, r, offset in welcome["offsets"]}
        self._known = offsets
        moved, self._moved = welcome["moved"] > self._moved, max(self._moved, welcome["moved"])
        if self._copy is None or moved:
            self._copy = JournalCopy(self._copy_path(self._directory, self._node_name))
            self._copy.forget()
        if moved and not fresh:
            self._deliver_the_past(welcome["generation"])  # what the coordinator before had is lost
        self._pump.rewind(offsets)
        if fresh:
            self._do(self._prepare(welcome["generation"]))

    async def _prepare(self, newest: int) -> None:
        """Lay out this node's directories and the user's code, while other nodes are still on their way.

        In a thread, since it may take a slow disk longer than an agent may be silent.
        """
        try:
            kept = await asyncio.to_thread(self._lay_out)
        except (OSError, SwarmtrainError) as error:
            self._trouble(str(error))
            return
        if kept:
            self._note("kept", f"kept what the run had written over the code: {', '.join(kept[:5])}")
        self._deliver_the_past(newest)
        self._prepared.set()

    def _lay_out(self) -> list[str]:
        """The disk's part of it; returns the files that were not written over. Raises OSError, SwarmtrainError."""
        storage = self._settings.storage
        storage.claim(self._directory, self._lineage)
        if self._lineage == self._directory:
            owner = hashlib.sha256(self._ticket.token.encode()).hexdigest()[:16]
            storage.adopt(self._directory, self._node_name, owner)
        storage.snapshots(self._lineage, self._node_name).mkdir(parents=True, exist_ok=True)
        memory.lay_out(self._memory)
        return code.unpack(self._settings.code, storage.work(self._lineage, self._node_name))

    def _deliver_the_past(self, newest: int) -> None:
        """What workers of an agent before this one wrote on this node, and nobody has carried away yet."""
        past = self._settings.storage.output(self._directory, self._node_name)
        on_its_way = set(self._undelivered)
        for path in past.glob("g*-r*.*"):
            kind = {".out": "output", ".metrics": "metrics"}.get(path.suffix)
            generation, _, rank = path.stem[1:].partition("-r")
            if kind is None or not generation.isdecimal() or not rank.isdecimal() or int(generation) > newest:
                continue
            if int(generation) in on_its_way:
                continue
            self._pump.watch((kind, int(generation), int(rank)), path)
            self._pump.close(int(generation), int(rank))
            self._deliver(int(generation))
        self._pump.rewind(self._known)

    @property
    def _memory(self) -> Path:
        return self._settings.storage.memory(self._directory, self._node_name)

    # ---- what the coordinator says ---------------------------------------------------------------------------

    def _hear(self, message: Message) -> None:
        match message:
            case {"start": start}:
                self._do(self._start(start))
            case {"stop": {"g": generation, "grace": grace, "how": how}}:
                if generation == self._generation:
                    self._ordered.set()
                    self._workers.stop(grace, how)
            case {"pause": {"g": generation, "on": on}}:
                if generation == self._generation:
                    (self._ordered.set if on else self._ordered.clear)()
                    self._workers.pause(on)
            case {"stacks": {"g": generation}}:
                if generation == self._generation:
                    self._do(self._answer_stacks(generation))
            case {"end": _}:
                self._do(self._end())
            case {"journal": events}:
                if self._copy is not None:
                    self._copy.take(events)
            case {"beat": _}:
                pass  # it is there: that is all it says
            case {"ack": {"kind": kind, "g": generation, "r": rank, "o": offset}}:
                self._pump.confirm((kind, generation, rank), offset)
            case _:
                self._desk.hear(message)

    async def _start(self, start: Message) -> None:
        """Begin a generation; an old one, or one that is begun already, is not begun again."""
        if start["g"] <= self._generation or not self._workers.done.is_set():
            return
        assert self._choice is not None, "a node chooses its network before it joins"
        self._generation = start["g"]
        self._ordered.clear()
        self._starting = True
        await self._prepared.wait()
        self._starting = False
        if start["g"] != self._generation or self._ordered.is_set():
            self._do(self._finish(start["g"]))  # it was stopped before it began
            return
        storage, choice = self._settings.storage, self._choice
        ranks = start["ranks"]
        parts = [
            Part(
                generation=start["g"],
                fence=self._ticket.fence(start["g"]),
                rank=rank,
                local_rank=local_rank,
                local_world_size=len(ranks),
                group_rank=start["group_rank"],
                nodes=start["nodes"],
                world_size=start["world_size"],
                master_address=start["master"]["address"],
                master_port=start["master"]["port"],
            )
            for local_rank, rank in enumerate(ranks)
        ]
        snapshots = str(storage.snapshots(self._lineage, self._node_name))
        kept = str(self._memory / memory.SNAPSHOTS)
        node = Node(self._ticket.run, self._node_name, choice.interface, start["backend"], snapshots, kept)
        work, output = (
            storage.work(self._lineage, self._node_name),
            storage.output(self._directory, self._node_name),
        )
        try:
            files = self._workers.begin(parts, node, work, output, self._memory)
        except OSError as error:
            self._trouble(f"workers cannot be started: {error}")
            return
        for kind, rank, path in files:
            self._pump.watch((kind, start["g"], rank), path)
        self._do(self._finish(start["g"]))

    async def _finish(self, generation: int) -> None:
        """When all workers are gone, say so; and again when everything they wrote has arrived."""
        self._deliver(generation)
        await self._workers.done.wait()
        assert self._choice is not None, "a node chooses its network before it joins"
        if self._channel is not None:  # else the coordinator learns of it when this agent joins again
            port = network.free_port(self._choice.address)
            self._channel.post({"idle": {"g": generation, "port": port}})

    def _deliver(self, generation: int) -> None:
        if generation not in self._undelivered:
            self._undelivered[generation] = asyncio.ensure_future(self._delivered(generation))

    async def _delivered(self, generation: int) -> None:
        if generation == self._generation:
            await self._workers.done.wait()
        await self._pump.drained(generation)
        del self._undelivered[generation]
        if self._channel is not None:
            self._channel.post({"drained": generation})

    async def _end(self) -> None:
        """The run is over: nothing of it stays on this node but its files."""
        self._workers.stop(0.0, "kill")
        await self._workers.done.wait()
        try:
            storage = self._settings.storage
            memory.save_newest(self._memory, storage.snapshots(self._lineage, self._node_name))
        except OSError as error:
            print(f"the newest snapshot stays in memory, which goes: {error}", file=sys.stderr, flush=True)
        memory.remove(self._memory)
        self._over.set()

    async def _end_alone(self, directory: str) -> None:
        """The run ended while this agent was away, and its coordinator has left: nobody will say so any more."""
        if not self._directory:
            self._directory, self._node_name = directory, self._settings.node
            self._lineage = self._settings.storage.lineage(directory)
        await self._end()

    async def _answer_stacks(self, generation: int) -> None:
        """What the workers are doing, for a coordinator that sees no progress."""
        pids = self._workers.pids()
        texts = await stacks(pids, self._workers.stack_files())
        found = {rank: {"stack": text, "stopped": stopped(pids[rank])} for rank, text in texts.items()}
        await self._send({"stacks": {"g": generation, "ranks": found}})

    async def _warm_up(self) -> None:
        await self._workers.warm.wait()
        await self._prepared.wait()
        if self._channel is not None:
            self._channel.post({"warm": True})

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the rest, and keep hold of it until it is done."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---- what happens here -----------------------------------------------------------------------------------

    def _worker_changed(self, state: Message) -> None:
        if state["state"] == "exited":
            self._pump.close(state["g"], state["rank"])
            self._beat()  # how far it came, before how it ended
        if self._channel is not None:
            self._channel.post({"worker": state})

    def _note(self, kind: str, text: str) -> None:
        if self._channel is None:
            self._notes.append((kind, text))
        else:
            self._channel.post({"note": {"kind": kind, "text": text}})

    def _trouble(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)
        if self._channel is not None:
            self._channel.post({"trouble": text})
        else:
            asyncio.get_running_loop().call_later(0.1, self._trouble, text)

    async def _send(self, message: Message) -> None:
        if self._channel is not None:
            await self._channel.send(message)

    async def _tick(self) -> None:
        """The heartbeat; and the end of the workers when nobody has led them for too long and they stand still."""
        moved, told, begun = time.monotonic(), 0.0, False
        progress: object = None
        while True:
            now = time.monotonic()
            pulses = self._workers.pulses()
            progress, before = ([pulse[2] for pulse in pulses], self._pump.written()), progress
            if self._channel is not None or progress != before:
                moved = now
            begun, before_begun = self._workers.begun(), begun
            if now - told >= _BEAT_SECONDS or (begun and not before_begun):
                told = now
                beat()
                self._beat()
            if now - moved > self._patience():
                self._give_up()
                moved = now
            await asyncio.sleep(_PULSE_SECONDS)

    def _beat(self) -> None:
        """A sign of life, to which the coordinator answers. A machine without power does not even hang up."""
        if self._channel is None:
            return
        if time.monotonic() - self._heard > _SILENCE:
            self._channel.abort()
        else:
            self._channel.post({"beat": time.time(), "pulses": self._workers.pulses()})

    def _patience(self) -> float:
        return max(_LEASE, self._task.join_deadline) if self._generation == 0 else _LEASE

    def _give_up(self) -> None:
        """Nobody leads and nothing moves: no worker may train on when another generation begins elsewhere.

        In a container the agent stays and joins again when it can. On one machine a coordinator that is gone for so
        long is gone for good, and so is the run.
        """
        print("no coordinator and no progress: the workers are stopped", file=sys.stderr, flush=True)
        self._workers.stop(0.0, "kill")
        if self._settings.coordinator.startswith(sockets.UNIX):
            self._over.set()

    async def _leave(self) -> None:
        """Somebody stops this agent. The coordinator says how: the workers save and leave, or are ended."""
        self._exit_code, self._leaving = 143, True
        if self._channel is not None:
            self._channel.post({"leaving": True})
            await _within(_ANSWER, self._ordered.wait(), self._workers.done.wait())
        if not self._ordered.is_set():
            self._workers.stop(self._task.stop_grace)
        await self._workers.done.wait()
        await _within(_DELIVERY, *(asyncio.shield(task) for task in self._undelivered.values()), every=True)
        await asyncio.sleep(0.05)
        self._over.set()

    def _choices(self, env: dict[str, str]) -> list[tuple[str, str]]:
        """What was chosen for the user on this node, with the reasons."""
        gpus = "no GPU" if not self._gpus else f"{self._gpus} GPU{'s' if self._gpus > 1 else ''}"
        count = f"{self._count} worker{'s' if self._count > 1 else ''}"
        asked = "asked for" if self._task.workers else ("one a GPU" if self._gpus else "no GPU, so one")
        backend = "asked for" if self._task.backend != "auto" else gpus
        threads = self._threads_why
        for where, variables in (("the image", env), ("the job", self._ticket.env)):
            threads = f"set by {where}" if "OMP_NUM_THREADS" in variables else threads
        words = (
            f"{count} ({asked}), backend {self._backend} ({backend}), "
            f"OMP_NUM_THREADS={self._env['OMP_NUM_THREADS']} ({threads})"
        )
        notes = [("choice", words)]
        reserved = machine.reserved_gpus(env)
        if reserved is not None and self._gpus > reserved:
            warning = (
                f"{reserved} GPUs are reserved for this task but it sees {self._gpus}: "
                "check swarm-resource in the node's nvidia-container-runtime configuration"
            )
            notes.append(("warning", warning))
        return notes


def _pump_ended(pumping: asyncio.Task[None], channel: Channel) -> None:
    """A pump that broke ends the session: the next one begins where the coordinator's knowledge ends."""
    if not pumping.cancelled() and (error := pumping.exception()) is not None:
        print(f"output could not be sent: {error!r}", file=sys.stderr, flush=True)
        channel.abort()


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


async def _within(seconds: float, *waits: Awaitable[Any], every: bool = False) -> None:
    """Until one of these has happened, or all; at most for so long."""
    if waits:
        when = asyncio.ALL_COMPLETED if every else asyncio.FIRST_COMPLETED
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        await asyncio.wait(tasks, timeout=seconds, return_when=when)
        for task in tasks:
            task.cancel()


def _threads(task: Task, workers: int) -> tuple[int, str]:
    available = machine.processors(task.cpus)
    threads = max(1, int(available // workers))
    return (
        threads,
        f"{available:.2g} processor{'' if available == 1 else 's'} for {workers} worker{'s' if workers > 1 else ''}",
    )


def main(argv: list[str]) -> int:
    """The agent below its keeper; with ``--again`` it is started again when it dies, as Docker does elsewhere."""
    return keep(_run, again="--again" in argv)


def _run() -> int:
    env = dict(os.environ)
    settings = Settings.of(env)
    task = Task.load(Path(env[names.ENV_JOB_FILE]))
    ticket = Ticket.load(Path(env[names.ENV_SECRET_FILE]))
    try:
        settings.storage.root.mkdir(parents=True, exist_ok=True)
        return asyncio.run(_lead(task, ticket, settings))
    except SwarmtrainError as error:
        print(f"error: {error.message}\n\nhint: {error.hint}", file=sys.stderr, flush=True)
        return error.exit_code


async def _lead(task: Task, ticket: Ticket, settings: Settings) -> int:
    return await Agent(task, ticket, settings).run()
