"""The last collectives of a node's workers, asked for through a pipe (worker/instruments/flight.py)."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swarmtrain.agent.worker_group.stacks import answers
from swarmtrain.diagnosis.frames import SourceLine
from swarmtrain.protocol.evidence.seen import FlightRecord, FlightReport
from swarmtrain.wire.names import FLIGHT_ASK, FLIGHT_FILE

_LOOK = 0.02  # seconds between looks for the answer
_MOST = 4 << 20  # bytes of an answer
_RECORDS, _LETTERS = 400, 200  # of a rank that travel, and of a name
_NONSENSE = FlightReport(reason="its answer is no answer")
_numbers = itertools.count(1)


async def flights(
    pids: Mapping[int, int], files: Mapping[int, Path], patience: float = 1.8
) -> dict[int, FlightReport]:
    """Ask workers for what torch has recorded of their collectives.

    Args:
        pids: by rank, the worker's own process.
        files: by rank, what SWARMTRAIN_STACK names for it.
        patience: seconds until a worker that says nothing is given up.

    Returns:
        by rank of ``pids``; where there are no records, why. Nothing is raised.
    """
    found = await asyncio.gather(*(_flight(pid, files.get(rank), patience) for rank, pid in pids.items()))
    return dict(zip(pids, found, strict=True))


async def _flight(pid: int, stack: Path | None, patience: float) -> FlightReport:
    if stack is None or not answers(pid):
        return FlightReport(reason="its process does not run, or not Python")
    number = next(_numbers)
    try:
        asking = os.open(f"{stack}{FLIGHT_ASK}", os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return FlightReport(reason="it has made no process group")
    try:
        os.write(asking, b"%d\n" % number)
        for _ in range(round(patience / _LOOK)):
            await asyncio.sleep(_LOOK)
            if (told := _answer(Path(f"{stack}{FLIGHT_FILE}"), number)) is not None:
                return read(told)
    except OSError as error:
        return FlightReport(reason=f"it cannot be asked: {error.strerror}")
    finally:
        os.close(asking)
    return FlightReport(reason="it does not answer: something in it keeps Python's lock")


def _answer(file: Path, number: int) -> object:
    """The answer to this very question, once it is there; None before."""
    try:
        with file.open("rb") as answer:
            told = json.loads(answer.read(_MOST))
    except FileNotFoundError:
        return None
    except ValueError:
        return "nonsense"
    return told if not isinstance(told, dict) or told.get("number") == number else None


def read(answer: object) -> FlightReport:
    """What a worker answered; its process is the user's, so it may be anything."""
    if not isinstance(answer, dict):
        return _NONSENSE
    try:
        if answer.get("reason"):
            return FlightReport(reason=str(answer["reason"])[:_LETTERS])
        records = [_record(each) for each in answer["records"][-_RECORDS:]]
        groups = {str(name): [int(rank) for rank in ranks] for name, ranks in answer["groups"].items()}
    except (AttributeError, KeyError, TypeError, ValueError, IndexError):
        return _NONSENSE
    return FlightReport(records, groups)


def _record(each: Mapping[str, Any]) -> FlightRecord:
    frames = [SourceLine(str(file), int(line), str(name)) for file, line, name in each["frames"]]
    place = next((str(frame) for frame in frames if frame.is_users), "")
    return FlightRecord(
        group=str(each["group"])[:_LETTERS],
        seq=int(each["seq"]),
        op=str(each["op"])[:_LETTERS],
        sizes=[[int(length) for length in size] for size in each["sizes"]],
        dtypes=[str(kind)[:_LETTERS] for kind in each["dtypes"]],
        done=bool(each["done"]),
        p2p=bool(each["p2p"]),
        place=place[:_LETTERS],
    )
