"""A node's shared files, towards the coordinator: when to look at them, what it asks of them, and what it orders.

Nothing in the working directory is touched while a worker runs: what comes meanwhile waits beside it (store.py).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from swarmtrain.agent.sharing.hashes import Unsteady
from swarmtrain.agent.sharing.holdings import Holdings, making_way
from swarmtrain.agent.sharing.transfer.bringing import LATER, Bringing, Copies, CopyOrder
from swarmtrain.agent.sharing.transfer.pace import Pace
from swarmtrain.agent.sharing.transfer.peers import PeerServer
from swarmtrain.agent.sharing.walk import Rules
from swarmtrain.agent.uplink import Background, Uplink
from swarmtrain.files.record import order
from swarmtrain.protocol.shared_files import (
    AskShared,
    BringShared,
    SetReport,
    SharedBrought,
    SharedReport,
)
from swarmtrain.wire.machine.processes import descendants
from swarmtrain.wire.plural import counted
from swarmtrain.wire.run_spec import RunSpec

_LOOK_SECONDS = 1.0  # between two looks, or more:
_LOOK_SHARE = 0.005  # of a processor that looks may take
_LOOK_MOST = 60.0
MOST_SAID = 3  # looks that tell of directories which are not shared, for each reason
_NICE = 10  # of the thread that looks while workers train

T = TypeVar("T")


class SharedFiles:
    """What an agent does for its node's shared files.

    Args:
        token: the run's.
        idle: whether no worker is left, nor about to start.
        pace: of what other nodes get of it in the background.
    """

    def __init__(
        self, token: str, rules: Rules, uplink: Uplink, idle: Callable[[], bool], pace: Pace
    ) -> None:
        self._token, self._rules, self._uplink, self._idle = token, rules, uplink, idle
        self._server = PeerServer(token, self._locate, pace)
        self._turn = asyncio.Lock()  # for who reads or changes what is known, or what is in place
        self._looker = ThreadPoolExecutor(1, "look", _be_nice)
        self._background = Background(uplink.fail)
        self._copies = Copies(self._background, self._copy, self._ask_for, self._say_late)
        self._part: BringShared | None = None  # what has come of an order of which more follows
        self._least_fence = 0  # of the next generation, as the coordinator says
        self._watching: asyncio.Task[None] | None = None
        self._said: set[str] = set()
        self._left_out: set[str] = set()  # directories that were told of
        self._reasons: Counter[str] = Counter()
        self._alone = False  # no other node is to have any of it
        self._opened = asyncio.Event()
        self._holdings: Holdings | None = None  # where files are shared

    @staticmethod
    def of(spec: RunSpec, token: str, uplink: Uplink, idle: Callable[[], bool]) -> SharedFiles:
        """As a job has them."""
        only = spec.share if isinstance(spec.share, tuple) else ()
        files = SharedFiles(token, Rules(only, spec.per_node), uplink, idle, Pace(spec.share_rate))
        files._alone = spec.share == "off" or spec.nodes_max < 2
        return files

    async def open(self, work: Path, directory: Path) -> None:
        """The working directory is there, with the code in it.

        Args:
            directory: beside it.
        """
        if self._alone and not directory.exists():
            self._opened.set()
            return
        async with self._turn:
            try:
                held = await asyncio.to_thread(Holdings, work, directory, self._rules)
                # Where it is alone, and always was, there is nobody to share with. If it was not, a later run is to
                # know of what is finished.
                if not (self._alone and held.record.fresh):
                    self._holdings = held
                    await self._remove_hollow(held)  # of an agent before this one
            except OSError as error:
                self._say_once(f"its files are not shared: {error}")
        self._opened.set()  # what is asked of it is answered in any case: a generation waits for that
        if self._holdings is not None:
            self._watching = self._background.run(self._watch(self._holdings))

    def close(self) -> None:
        """The agent goes."""
        if self._watching is not None:
            self._watching.cancel()
        self._copies.cancel()
        self._server.close()
        self._looker.shutdown(wait=False)

    # ---- generations -----------------------------------------------------------------------------------------

    async def begin(self, fence: int, first_ranks: Mapping[str, int]) -> None:
        """Workers are about to start: return when nothing in place is being changed, and none of it will be.

        Args:
            first_ranks: as in `StartWorkers`.
        """
        held = self._holdings
        if held is None:
            return
        async with self._turn:
            held.record.begin(max(held.record.fence, fence, self._least_fence), first_ranks)
            await self._keep(held, sync=False)

    async def ended(self, *, well: bool) -> None:
        """The workers have gone.

        Args:
            well: all of them by themselves, with exit code 0.
        """
        held = self._holdings
        if held is None:
            return
        async with self._turn:
            if not well:
                await self._remove_hollow(held)
            await asyncio.to_thread(held.tracker.settle, ended_well=well)
            if well or held.has_news():
                await self._keep(held, sync=False)

    async def _remove_hollow(self, held: Holdings) -> None:
        """Workers were killed. On one node, files stay as they are."""
        removed = [] if self._alone else await asyncio.to_thread(held.remove_hollow)
        if removed:
            text = f"removed {', '.join(removed)}: nothing was in there yet when the workers were killed"
            self._uplink.note("shared", text)

    async def _watch(self, held: Holdings) -> None:
        """Look while workers run."""
        pause = _LOOK_SECONDS
        while True:
            await asyncio.sleep(pause)
            if self._alone or self._idle() or self._uplink.channel is None:
                continue
            found, spent = list[SetReport](), _LOOK_MOST
            async with self._turn:
                try:
                    found = await self._in_looker(lambda: held.look(_writers))
                    spent = held.tracker.spent
                except OSError as error:
                    self._say_once(f"its working directory cannot be watched: {error}")
            pause = min(_LOOK_MOST, max(_LOOK_SECONDS, spent / _LOOK_SHARE))
            self._say_left_out(held)
            if found:
                await self._report(0, found)

    async def _in_looker(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._looker, work)

    # ---- what the coordinator asks ---------------------------------------------------------------------------

    def answer(self, ask: AskShared) -> None:
        """Say how the shared files stand."""
        self._part = None  # of an order that a coordinator before this one has not completed
        self._background.run(self._answer(ask))

    async def _answer(self, ask: AskShared) -> None:
        await self._opened.wait()
        found, held = list[SetReport](), self._holdings
        if held is not None:
            tracker = held.tracker
            async with self._turn:
                try:
                    if self._idle():
                        found = await asyncio.to_thread(tracker.rest)
                    else:
                        found = await self._in_looker(lambda: tracker.report(ask.paths, _writers))
                except OSError as error:
                    self._say_once(f"its working directory cannot be looked at: {error}")
            self._say_left_out(held)
        await self._report(ask.number, found)

    async def _report(self, number: int, found: list[SetReport]) -> None:
        address, held = "", self._holdings
        try:
            if self._uplink.choice is not None:
                await self._server.listen(self._uplink.choice.address)
                address = self._server.address
        except OSError as error:
            self._say_once(f"its files can be had by no other node: {error}")
        said = SharedReport(number, address, 0, found, clock=time.time())
        if held is not None:
            record, writing = held.record, held.tracker.is_writing
            said = replace(said, fence=record.fence, writing=writing)
            said = replace(said, first_ranks=record.first_ranks, ranks_since=record.ranks_since)
        for part in said.parts():
            await self._say(part)

    def bring(self, said: BringShared) -> None:
        """Versions hold from now on, and some are to be here: begin when all parts of the order have come."""
        self._least_fence = max(self._least_fence, said.fence)
        before, self._part = self._part, None
        if before is not None and (before.number, before.how) == (said.number, said.how):
            said = before.joined(said)
        if said.more:
            self._part = said
        else:
            self._background.run(self._bring(said))

    async def _bring(self, said: BringShared) -> None:
        await self._opened.wait()
        held = self._holdings
        if held is None:
            done = Bringing(said.number, failed=["its files are not shared"])
            await self._say(done.told())
        elif said.how == "place":
            await self._place(held, said)
        else:
            async with self._turn:
                if said.how == "store":
                    self._copies.order(said)
                for version in said.versions:
                    if not version.files:
                        self._copies.forget(version.path)
                await asyncio.to_thread(held.note, said.versions, behind=bool(self._copies.coming()))
                await self._keep(held)

    async def _copy(self, wanted: CopyOrder) -> str:
        """Have a version beside the working directory; why it failed, or nothing."""
        held, version = self._holdings, wanted.version
        done = Bringing(wanted.number, path=version.path)
        assert held is not None, "it was ordered of holdings"
        missing, can_wait = held.missing(version), wanted.can_wait
        if await done.pull(self._token, missing, wanted.sources, held.store, can_wait=can_wait):
            async with self._turn:
                if first := held.waits_for(version, self._copies.coming() - {version.path}):
                    return f"{LATER}, since it names {first}, of which there is no copy here yet"
                known = held.record.of(version.path)
                if order(known.whole) < order(version):
                    known.whole = version
                    await self._keep(held)
        if done.lacks_room:  # the next try has that of what was deleted
            async with self._turn:
                held.catch_up()
                await self._keep(held)
        await self._say(done.told())
        return "" if held.is_overtaken(version) else "; ".join(done.failed)

    async def _ask_for(self, path: str) -> None:
        """Have the coordinator look at a set anew."""
        await self._report(0, [SetReport(path, [], [], [], [], False)])

    def _say_late(self, path: str, why: str) -> None:
        text = f"a copy of {path or 'the working directory'} has failed, and is tried again: {why}"
        self._uplink.note("shared", text)

    async def _place(self, held: Holdings, said: BringShared) -> None:
        """Bring versions to their places, where no worker runs."""
        done, placed = Bringing(said.number), list[str]()
        await self._copies.cancelled()
        aside = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        async with self._turn:
            await asyncio.to_thread(held.sets.look)
            for version in making_way(said.versions) if self._idle() else []:
                if await done.pull(self._token, held.missing(version), said.sources, held.store):
                    try:
                        done.aside += await asyncio.to_thread(held.place, version, aside)
                        placed.append(version.path)
                    except (OSError, Unsteady) as error:
                        done.failed.append(f"{version.path or 'the working directory'}: {error}")
            await asyncio.to_thread(held.put_in_order, placed)
            if not done.failed:
                held.catch_up()
            await self._keep(held)
        await self._say(done.told(f"aside/{aside}"))

    # ---- the rest --------------------------------------------------------------------------------------------

    def _locate(self, sha256: str) -> Path | None:
        return self._holdings.locate(sha256) if self._holdings is not None else None

    async def _keep(self, held: Holdings, *, sync: bool = True) -> None:
        """Write down what is known; a disk that does not take it is told of."""
        try:
            await asyncio.to_thread(held.keep, self._copies.pending(), sync=sync)
        except OSError as error:
            self._say_once(f"what is known of its files cannot be kept: {error}")

    async def _say(self, message: SharedReport | SharedBrought) -> None:
        try:
            await self._uplink.send(message)
        except ConnectionError:
            pass  # whoever leads asks again

    def _say_left_out(self, held: Holdings) -> None:
        """The first directories that are not shared for one reason are named, and how many there are with them."""
        found: dict[str, list[str]] = {}
        for path in held.sets.left_out.keys() - self._left_out:
            found.setdefault(held.sets.left_out[path].why, []).append(path)
        self._left_out = set(held.sets.left_out)
        for path in sorted(held.sets.unreadable):
            self._say_once(f"{path} is not shared with other nodes: it may not be read")
        for why, new in found.items():
            self._reasons[why] += 1
            if self._reasons[why] <= MOST_SAID:
                others = f" and {counted(len(new) - 1, 'other directory', 'other directories')}"
                where = (min(new) or "its working directory") + (others if len(new) > 1 else "")
                self._uplink.note("shared", f"what is in {where} is not shared with other nodes: {why}")

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._uplink.note("shared", text)


def _writers() -> list[int]:
    """The processes below this one."""
    return descendants(os.getpid())


def _be_nice() -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
