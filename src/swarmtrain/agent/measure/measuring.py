"""Measures a node every few seconds, and lays what comes of it into files that go the way of the workers' metrics.

The values are lines of JSON, ``{"t": 1795712779.1, "v": {"node/load": 0.5}}``. The files are numbered; old ones go when
the coordinator has them, but for some that one on another machine can begin with.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from swarmtrain.agent.choices import Choices
from swarmtrain.agent.measure.files import file_of, numbers
from swarmtrain.agent.measure.gpus import GpuReader
from swarmtrain.agent.measure.reader import SampleReader
from swarmtrain.agent.measure.sample import NodeSample, has_changed, measured
from swarmtrain.agent.worker_group.tails import Tails, measured_key
from swarmtrain.wire.machine.gpus import VISIBLE

_SECONDS, _CALM_SECONDS = 5.0, 10.0  # between two samples; the latter while nothing changes
_BYTES = 1 << 20  # after which another file is begun
_KEPT, _MOST = 8, 64  # files: of what is delivered, and of what cannot be


class NodeMeasuring:
    """Measures one node.

    Args:
        directory: of the files that are carried to the coordinator.
        place: where the run keeps its files.
        tails: carry them.
        choices: tell which GPUs workers here see.
        peers: the other nodes of the generation, by the addresses at which they talk to this one.
    """

    def __init__(
        self,
        directory: Path,
        place: Path,
        tails: Tails,
        choices: Choices,
        peers: Callable[[], Mapping[str, str]],
    ) -> None:
        self._directory, self._place, self._tails = directory, place, tails
        self._choices, self._peers = choices, peers
        self._reader: SampleReader | None = None
        self._last: tuple[NodeSample, dict[str, float]] | None = None
        self._number = max(numbers(directory), default=0) + 1

    async def run(self) -> None:
        """Until it is cancelled."""
        self._tails.watch(measured_key(self._number), file_of(self._directory, self._number))
        while True:
            # In a thread: a disk that hangs, or a driver, must not hold up the agent.
            is_calm = await asyncio.to_thread(self.measure)
            self._renew()
            await asyncio.sleep(_CALM_SECONDS if is_calm else _SECONDS)

    def measure(self) -> bool:
        """Take a sample, and write what was since the last one; whether it was as before."""
        if self._reader is None:
            gpus = self._driver().levels if self._choices.gpus else dict
            self._reader = SampleReader(self._place, gpus, self._peers)
        sample, last = self._reader.take(), self._last
        values = measured(last[0], sample) if last is not None else {}
        self._last = sample, values
        if not values or last is None:
            return False
        line = json.dumps({"t": round(time.time(), 1), "v": values}, separators=(",", ":"))
        with suppress(OSError):  # a disk that is full costs the line
            _append(file_of(self._directory, self._number), line.encode() + b"\n")
        return not has_changed(last[1], values)

    def _driver(self) -> GpuReader:
        named = self._choices.env.get(VISIBLE)
        return GpuReader(None if named is None else [each.strip() for each in named.split(",")])

    def _renew(self) -> None:
        """Begin another file when this one is long, and let go of old ones."""
        path = file_of(self._directory, self._number)
        if not path.exists() or path.stat().st_size < _BYTES:
            return
        self._tails.close(*measured_key(self._number)[1:])
        self._number += 1
        self._tails.watch(measured_key(self._number), file_of(self._directory, self._number))
        old = sorted(numbers(self._directory))[:-_KEPT]
        for number in old:
            if self._tails.let_go(measured_key(number)) or number <= self._number - _MOST:
                file_of(self._directory, number).unlink(missing_ok=True)


def _append(path: Path, data: bytes) -> None:
    """Add a line, whole. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
