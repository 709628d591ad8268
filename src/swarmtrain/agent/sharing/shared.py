"""A node's shared files: looks while workers run, answers to the coordinator, and versions that are brought here.

Nothing in the working directory is touched while a worker runs: what comes meanwhile waits beside it (store.py).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from swarmtrain.agent.sharing.peers import PeerServer, Rate, pull
from swarmtrain.agent.sharing.record import Record, order, path_of
from swarmtrain.agent.sharing.store import Store, moves_to
from swarmtrain.agent.sharing.tracker import Tracker, Unsteady
from swarmtrain.agent.sharing.walk import Rules
from swarmtrain.agent.uplink import Background, Uplink
from swarmtrain.protocol.shared_files import (
    AskShared,
    BringShared,
    SetReport,
    SetVersion,
    SharedBrought,
    SharedFile,
    SharedReport,
)
from swarmtrain.wire.machine.processes import descendants
from swarmtrain.wire.run_spec import RunSpec

_LOOK_SECONDS = 1.0  # between two looks, or more:
_LOOK_SHARE = 0.005  # of a processor that looks may take
_LOOK_MOST = 60.0
_NICE = 10  # of the thread that looks while workers train

T = TypeVar("T")


@dataclass
class _Bringing:
    """What becomes of one order."""

    files: int = 0
    size: int = 0
    aside: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


class SharedFiles:
    """What an agent does for its node's shared files.

    Args:
        token: the run's.
        idle: whether no worker is left, nor about to start.
        rate: bytes a second that a copy in the background may take; 0: as many as there are.

    Attributes:
        is_off: nothing is looked at, kept or changed.
    """

    def __init__(
        self, token: str, rules: Rules, uplink: Uplink, idle: Callable[[], bool], rate: float = 0.0
    ) -> None:
        self._token, self._rules, self._uplink, self._idle = token, rules, uplink, idle
        self._rate = Rate(rate)
        self._server = PeerServer(token, self._locate)
        self._turn = asyncio.Lock()  # for who reads or changes what is known, or what is in place
        self._looker = ThreadPoolExecutor(1, "look", _be_nice)
        self._background = Background(uplink.fail)
        self._storing: asyncio.Task[None] | None = None
        self._to_store: dict[str, tuple[int, SetVersion, dict[str, list[str]]]] = {}
        self._watching: asyncio.Task[None] | None = None
        self._said: set[str] = set()
        self.is_off = False
        self._alone = False  # no other node will ever take part
        self._opened = asyncio.Event()
        self._record, self._record_path = Record(), Path()
        self._tracker: Tracker | None = None
        self._store: Store | None = None

    @staticmethod
    def of(spec: RunSpec, token: str, uplink: Uplink, idle: Callable[[], bool]) -> SharedFiles:
        """As a job has them."""
        only = spec.share if isinstance(spec.share, tuple) else ()
        files = SharedFiles(token, Rules(only, spec.per_node), uplink, idle, spec.share_rate)
        files.is_off, files._alone = spec.share == "off", spec.nodes_max < 2
        return files

    async def open(self, work: Path, directory: Path) -> None:
        """The working directory is there, with the code in it.

        Args:
            directory: beside it.
        """
        if self.is_off:
            return
        async with self._turn:
            try:
                await asyncio.to_thread(self._open, work, directory)
            except OSError as error:
                self._tracker = self._store = None
                self._say_once(f"its files are not shared: {error}")
        self._opened.set()  # what is asked of it is answered in any case: a generation waits for that
        if self._tracker is not None:
            self._watching = self._background.run(self._watch())

    def _open(self, work: Path, directory: Path) -> None:
        self._record_path = directory / "record.json"
        self._record = Record.read(self._record_path)
        store = self._store = Store(directory, work)
        self._tracker = Tracker(work, self._record, self._rules, store.has)
        store.complete()

    def close(self) -> None:
        """The agent goes."""
        for task in (self._watching, self._storing):
            if task is not None:
                task.cancel()
        self._server.close()
        self._looker.shutdown(wait=False)

    # ---- generations -----------------------------------------------------------------------------------------

    async def begin(self, fence: int) -> None:
        """Workers are about to start: return when nothing in place is being changed, and none of it will be."""
        if self._tracker is None:
            return
        async with self._turn:
            self._record.fence = max(self._record.fence, fence)
            self._record.fresh = False
            await self._keep(sync=False)

    async def ended(self, *, well: bool) -> None:
        """The workers have gone.

        Args:
            well: all of them by themselves, with exit code 0.
        """
        if self._tracker is None:
            return
        async with self._turn:
            before = dict(self._record.finished)
            await asyncio.to_thread(self._tracker.settle, ended_well=well)
            if self._record.finished != before:
                await self._keep(sync=False)

    async def _watch(self) -> None:
        """Look while workers run."""
        pause = _LOOK_SECONDS
        while True:
            await asyncio.sleep(pause)
            if self._alone or self._idle() or self._uplink.channel is None:
                continue
            async with self._turn:
                found, spent = await self._look()
            pause = min(_LOOK_MOST, max(_LOOK_SECONDS, spent / _LOOK_SHARE))
            self._say_left_out()
            if found:
                await self._report(0, found)

    async def _look(self) -> tuple[list[SetReport], float]:
        """What has come to rest; and the seconds of a processor that it took to see whether anything has."""
        tracker, store = self._tracker, self._store
        assert tracker is not None and store is not None

        def look() -> tuple[list[SetReport], float]:
            found = tracker.look(_writers)
            for report in found:
                if tracker.is_restless(report.path):
                    for file in report.changed:
                        store.copy(tracker.work / path_of(report.path, file.name), file)
            return found, tracker.spent

        try:
            return await self._in_looker(look)
        except OSError as error:
            self._say_once(f"its working directory cannot be watched: {error}")
            return [], _LOOK_MOST

    async def _in_looker(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._looker, work)

    # ---- what the coordinator asks ---------------------------------------------------------------------------

    def answer(self, ask: AskShared) -> None:
        """Say how the shared files stand."""
        self._background.run(self._answer(ask))

    async def _answer(self, ask: AskShared) -> None:
        await self._opened.wait()
        found, tracker = list[SetReport](), self._tracker
        if tracker is not None:
            async with self._turn:
                try:
                    if self._idle():
                        found = await asyncio.to_thread(tracker.rest)
                    else:
                        found = await self._in_looker(lambda: tracker.report(ask.paths, _writers))
                except OSError as error:
                    self._say_once(f"its working directory cannot be looked at: {error}")
            self._say_left_out()
        await self._report(ask.number, found)

    async def _report(self, number: int, found: list[SetReport]) -> None:
        address = ""
        try:
            if self._uplink.choice is not None:
                await self._server.listen(self._uplink.choice.address)
                address = self._server.address
        except OSError as error:
            self._say_once(f"its files can be had by no other node: {error}")
        try:
            writing = self._tracker is not None and self._tracker.is_writing
            await self._uplink.send(SharedReport(number, address, self._record.fence, found, writing))
        except ConnectionError:
            pass  # whoever leads asks again

    def bring(self, said: BringShared) -> None:
        """Versions hold from now on, and some are to be here."""
        self._background.run(self._bring(said))

    async def _bring(self, said: BringShared) -> None:
        await self._opened.wait()
        if self._tracker is None:
            await self._brought(said.number, _Bringing(failed=["its files are not shared"]), 0.0, "")
            return
        if said.how == "place":
            await self._place(said)
            return
        async with self._turn:
            if said.how == "store":
                for version in said.versions:
                    self._to_store[version.path] = (said.number, version, said.sources)
            await asyncio.to_thread(self._note, said.versions)
            await self._keep()
        if said.how == "store" and (self._storing is None or self._storing.done()):
            self._storing = self._background.run(self._store_all())

    def _note(self, versions: Sequence[SetVersion]) -> None:
        assert self._tracker is not None and self._store is not None
        for version in versions:
            known = self._record.of(version.path)
            if order(known.newest) > order(version):
                continue
            known.newest = version
            self._tracker.noted_as_told(version.path)
            if all(self._tracker.is_at_place(version.path, file) for file in version.files):
                known.whole = version
        self._record.forget_the_oldest()

    # ---- copies in the background ----------------------------------------------------------------------------

    async def _store_all(self) -> None:
        """Pull what is to be beside the working directory, one set after the other."""
        while self._to_store:
            path = next(iter(self._to_store))
            number, version, sources = self._to_store[path]
            began, done = time.monotonic(), _Bringing()
            missing = self._missing(version)
            if await self._pull(missing, sources, done, self._rate):
                async with self._turn:
                    known = self._record.of(path)
                    if order(known.whole) < order(version):
                        known.whole = version
                        await self._keep()
            if self._to_store.get(path, (0, None))[1] is version:
                del self._to_store[path]
            await self._brought(number, done, time.monotonic() - began, "")

    def _missing(self, version: SetVersion) -> dict[str, SharedFile]:
        """What of a version is neither in place here nor in the store, by its hash."""
        assert self._tracker is not None and self._store is not None
        return {
            file.sha256: file
            for file in version.files
            if not self._tracker.is_here(version.path, file) and not self._store.has(file.sha256)
        }

    async def _pull(
        self,
        missing: dict[str, SharedFile],
        sources: dict[str, list[str]],
        done: _Bringing,
        rate: Rate | None,
    ) -> bool:
        """Whether all of it has come."""
        store = self._store
        assert store is not None
        size = sum(file.size for file in missing.values())
        try:
            room = await asyncio.to_thread(store.room) if missing else size
        except OSError as error:
            done.failed.append(str(error))
            return False
        if size > room:
            done.failed.append(f"{_megabytes(size)} do not fit on the disk, where a tenth stays free")
            return False
        for sha256, file in missing.items():
            try:
                await pull(self._token, sources.get(sha256, []), sha256, file.size, store.path(sha256), rate)
            except OSError as error:
                done.failed.append(f"{file.name}: {error}")
                return False
            done.files += 1
            done.size += file.size
        return True

    # ---- putting in place ------------------------------------------------------------------------------------

    async def _place(self, said: BringShared) -> None:
        assert self._tracker is not None
        began, done = time.monotonic(), _Bringing()
        if self._storing is not None:
            self._storing.cancel()
            self._to_store.clear()
        aside = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        async with self._turn:
            await asyncio.to_thread(self._tracker.look_again)
            for version in said.versions if self._idle() else []:
                if await self._pull(self._missing(version), said.sources, done, None):
                    try:
                        done.aside += await asyncio.to_thread(self._place_one, version, aside)
                    except (OSError, Unsteady) as error:
                        done.failed.append(f"{version.path or 'the working directory'}: {error}")
            await self._keep()
        await self._brought(said.number, done, time.monotonic() - began, f"aside/{aside}")

    def _place_one(self, version: SetVersion, aside: str) -> list[str]:
        """Put a version in place; what was set aside for it. Raises OSError, Unsteady."""
        tracker, store = self._tracker, self._store
        assert tracker is not None and store is not None
        if why := tracker.why_not(version.path):
            raise OSError(f"it is not shared here: {why}")
        here = tracker.in_place(version.path)
        known = self._record.of(version.path)
        # What others have gone on without, or what was lost in part, is nowhere else.
        follows = version.fence <= self._record.fence and not version.lost
        committed = {
            file.sha256 for each in (*(known.known() if follows else ()), version) for file in each.files
        }
        removable = {
            name
            for name, (_, sha256) in here.items()
            if not tracker.is_stream(path_of(version.path, name))
            and not tracker.was_sent(path_of(version.path, name), sha256)
        }
        at_place = {
            file.name
            for file in version.files
            if (file.name in here and here[file.name][1] == file.sha256)
            or (file.name in here and tracker.is_stream(path_of(version.path, file.name)))
        }
        moves = moves_to(version, list(here), at_place, removable)
        lost = [
            move.path
            for move in moves
            if (found := here.get(move.path.rpartition("/")[2])) is not None
            if found[1] not in committed and not tracker.was_sent(move.path, found[1])
        ]
        kept = store.place(moves, lost, aside)
        known.newest = known.whole = version
        tracker.placed(version.path)
        return kept

    # ---- the rest --------------------------------------------------------------------------------------------

    def _locate(self, sha256: str) -> Path | None:
        if self._tracker is None or self._store is None:
            return None
        return self._store.path(sha256) if self._store.has(sha256) else self._tracker.find(sha256)

    async def _keep(self, *, sync: bool = True) -> None:
        """Write down what is known; a disk that does not take it is told of."""
        try:
            await asyncio.to_thread(self._write, sync=sync)
        except OSError as error:
            self._say_once(f"what is known of its files cannot be kept: {error}")

    def _write(self, *, sync: bool = True) -> None:
        """Keep the record, and of the contents what it speaks of."""
        assert self._tracker is not None and self._store is not None
        self._record.write(self._record_path, sync=sync)
        needed = {
            file.sha256
            for each in self._record.sets.values()
            for version in each.known()
            for file in version.files
        }
        pending = {file.sha256 for _, version, _ in list(self._to_store.values()) for file in version.files}
        self._store.keep(needed | pending | self._tracker.told())

    async def _brought(self, number: int, done: _Bringing, seconds: float, aside: str) -> None:
        message = SharedBrought(
            number,
            done.files,
            done.size,
            round(seconds, 3),
            done.aside,
            aside if done.aside else "",
            done.failed,
        )
        try:
            await self._uplink.send(message)
        except ConnectionError:
            pass  # whoever leads asks again

    def _say_left_out(self) -> None:
        assert self._tracker is not None
        for path, why in self._tracker.left_out.items():
            self._say_once(
                f"what is in {path or 'its working directory'} is not shared with other nodes: {why}"
            )

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._uplink.note("shared", text)


def _writers() -> list[int]:
    """The processes below this one."""
    return descendants(os.getpid())


def _be_nice() -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.0f} MB"
