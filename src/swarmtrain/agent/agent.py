"""The agent: joins the coordinator, starts and watches its node's workers, and outlives every broken connection."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from swarmtrain.agent import code, machine, network
from swarmtrain.agent.environment import Node, Part, shared
from swarmtrain.agent.pump import Key, Pump
from swarmtrain.agent.serve import Desk
from swarmtrain.agent.workers import Workers
from swarmtrain.errors import ChannelError, SwarmtrainError
from swarmtrain.wire import names, sockets
from swarmtrain.wire.alive import beat
from swarmtrain.wire.channel import Channel, initiate
from swarmtrain.wire.frames import Message
from swarmtrain.wire.storage import Storage
from swarmtrain.wire.task import Task, Ticket

_BEAT_SECONDS = 1.0
_RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_LEASE = 60.0  # seconds without a coordinator and without progress after which the workers are stopped


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
        self._choice: network.Choice | None = None
        self._directory = self._lineage = ""
        self._generation = 0
        self._finishing: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self._exit_code = 0

    async def run(self) -> int:
        """Until the run is over; the exit code says whether to start again: 0 means no."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: asyncio.ensure_future(self._leave()))
        await self._workers.open(self._settings.storage.root)
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
            if "refuse" in answer:
                print(f"the coordinator refused this node: {answer['refuse']}", file=sys.stderr, flush=True)
                self._over.set()
                return
            self._welcomed(answer["welcome"])
            self._channel = channel
            for kind, text in self._notes:
                channel.post({"note": {"kind": kind, "text": text}})
            self._notes = []
            pumping = asyncio.ensure_future(self._pump.run(channel.send))
            pumping.add_done_callback(lambda task: _pump_ended(task, channel))
            try:
                while (message := await channel.receive()) is not None:
                    self._hear(message)
            finally:
                pumping.cancel()
        finally:
            self._channel = None
            self._desk.close()
            channel.close()

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
            "idle": self._finishing is None,
        }

    def _welcomed(self, welcome: Message) -> None:
        fresh = not self._directory
        self._directory, self._lineage = welcome["directory"], welcome["lineage"]
        self._node_name = self._desk.node = welcome["node"]
        self._desk.lineage = self._lineage
        offsets: dict[Key, int] = {(kind, g, r): offset for kind, g, r, offset in welcome["offsets"]}
        self._pump.rewind(offsets)
        if fresh:
            self._prepare()

    def _prepare(self) -> None:
        """Lay out this node's directories and the user's code, while other nodes are still on their way."""
        storage = self._settings.storage
        try:
            storage.claim(self._directory, self._lineage)
            if self._lineage == self._directory:
                owner = hashlib.sha256(self._ticket.token.encode()).hexdigest()[:16]
                storage.adopt(self._directory, self._node_name, owner)
            storage.snapshots(self._lineage, self._node_name).mkdir(parents=True, exist_ok=True)
            kept = code.unpack(self._settings.code, storage.work(self._lineage, self._node_name))
        except (OSError, SwarmtrainError) as error:
            self._trouble(str(error))
            return
        if kept:
            self._note("kept", f"kept what the run had written over the code: {', '.join(kept[:5])}")

    # ---- what the coordinator says ---------------------------------------------------------------------------

    def _hear(self, message: Message) -> None:
        match message:
            case {"start": start}:
                self._start(start)
            case {"stop": {"g": generation, "grace": grace}}:
                if generation == self._generation:
                    self._workers.stop(grace)
            case {"end": _}:
                self._finishing = asyncio.ensure_future(self._end())
            case {"ack": {"kind": kind, "g": generation, "r": rank, "o": offset}}:
                self._pump.confirm((kind, generation, rank), offset)
            case _:
                self._desk.hear(message)

    def _start(self, start: Message) -> None:
        """Begin a generation; an old one, or one that is begun already, is not begun again."""
        if start["g"] <= self._generation or not self._workers.done.is_set():
            return
        assert self._choice is not None, "a node chooses its network before it joins"
        self._generation = start["g"]
        storage, choice = self._settings.storage, self._choice
        ranks = start["ranks"]
        parts = [
            Part(
                generation=start["g"],
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
        node = Node(self._ticket.run, self._node_name, choice.interface, start["backend"], snapshots)
        work = storage.work(self._lineage, self._node_name)
        files = self._workers.begin(parts, node, work, storage.output(self._directory, self._node_name))
        for kind, rank, path in files:
            self._pump.watch((kind, start["g"], rank), path)
        self._finishing = asyncio.ensure_future(self._finish(start["g"]))

    async def _finish(self, generation: int) -> None:
        """When all workers are gone and everything they wrote has arrived, say so."""
        await self._workers.done.wait()
        await self._pump.drained(generation)
        assert self._choice is not None, "a node chooses its network before it joins"
        port = network.free_port(self._choice.address)
        while not self._over.is_set():
            if self._channel is not None:
                self._channel.post({"idle": {"g": generation, "port": port}})
                self._finishing = None
                return
            await asyncio.sleep(0.1)

    async def _end(self) -> None:
        self._workers.stop(0.0)
        await self._workers.done.wait()
        self._over.set()

    # ---- what happens here -----------------------------------------------------------------------------------

    def _worker_changed(self, state: Message) -> None:
        if state["state"] == "exited":
            self._pump.close(state["g"], state["rank"])
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
        alone_since = time.monotonic()
        while True:
            beat()
            now = time.monotonic()
            if self._channel is not None:
                alone_since = now
                self._channel.post({"beat": time.time()})
            elif now - max(alone_since, self._pump.last_growth()) > self._patience():
                print("no coordinator and no progress: stopping", file=sys.stderr, flush=True)
                self._exit_code = 1
                self._over.set()
            await asyncio.sleep(_BEAT_SECONDS)

    def _patience(self) -> float:
        return max(_LEASE, self._task.join_deadline) if self._generation == 0 else _LEASE

    async def _leave(self) -> None:
        """Somebody stops this agent: its workers get their grace, and the coordinator learns of their end."""
        self._exit_code = 143
        self._workers.stop(self._task.stop_grace)
        await self._workers.done.wait()
        await asyncio.sleep(0.05)
        self._over.set()

    def _choices(self, env: dict[str, str]) -> list[tuple[str, str]]:
        """What was chosen for the user on this node, with the reasons."""
        gpus = "no GPU" if not self._gpus else f"{self._gpus} GPU{'s' if self._gpus > 1 else ''}"
        count = f"{self._count} worker{'s' if self._count > 1 else ''}"
        asked = "asked for" if self._task.workers else ("one a GPU" if self._gpus else "no GPU, so one")
        backend = "asked for" if self._task.backend != "auto" else gpus
        threads = "set by you" if "OMP_NUM_THREADS" in {**env, **self._ticket.env} else self._threads_why
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


def _threads(task: Task, workers: int) -> tuple[int, str]:
    available = machine.processors(task.cpus)
    threads = max(1, int(available // workers))
    return (
        threads,
        f"{available:.2g} processor{'' if available == 1 else 's'} for {workers} worker{'s' if workers > 1 else ''}",
    )


def run() -> int:
    """The agent process."""
    env = dict(os.environ)
    settings = Settings.of(env)
    task = Task.load(Path(env[names.ENV_JOB_FILE]))
    ticket = Ticket.load(Path(env[names.ENV_SECRET_FILE]))
    try:
        settings.storage.root.mkdir(parents=True, exist_ok=True)
        return asyncio.run(_run(task, ticket, settings))
    except SwarmtrainError as error:
        print(f"error: {error.message}\n\nhint: {error.hint}", file=sys.stderr, flush=True)
        return error.exit_code


async def _run(task: Task, ticket: Ticket, settings: Settings) -> int:
    return await Agent(task, ticket, settings).run()
