"""Faults that are produced for real on this machine, and whether `swarmtrain explain` names rank, node and cause.

Healthy runs are asked, too, all the while, and failures that nobody foresaw: of them nothing false may be claimed.

    python benchmarks/diagnose.py [NAME...] [--at-once N] [--record]

With --record what the coordinator knew of each fault is kept in tests/unit/fixtures/diagnosis. Seven faults need root,
who may mount a small file system for a process alone, or give two of them a network; they are left out for others.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests" / "shared"))

from blameless import HEALTHY, UNFORESEEN, false_of, healthy, unforeseen  # noqa: E402
from faults import FAULTS, MOUNTS, NETWORKS, Fault, begin, clear, wrong  # noqa: E402
from recorded_faults import RECORDED, case_at_rest, write  # noqa: E402

from swarmtrain.protocol.journal.events import GenerationFailed  # noqa: E402

_SECONDS = 240.0  # for a fault to end its run
GOAL = 0.95


@dataclass
class Found:
    """What became of one run.

    Attributes:
        wrong: what the diagnosis has wrong; empty where it is right.
        seconds: that the answer took.
        late: from the moment at which the run noticed that something is wrong to the answer, its own end included.
    """

    name: str
    code: str
    wrong: Sequence[str] = ()
    seconds: float = 0.0
    late: float = 0.0


def produce(fault: Fault, home: Path, *, record: bool) -> Found:
    """Let a fault happen, and ask what it was."""
    handle = begin(fault)
    handle.wait(_SECONDS)
    asked = time.monotonic()
    found = handle.explain()
    answered, status = time.monotonic() - asked, handle.status()
    failures = [event.time for event in handle.events() if isinstance(event, GenerationFailed)]
    ended = status.ended or 0.0
    late = ended - max(failures[:1], default=ended) + answered
    if record:
        write(RECORDED / f"{fault.name}.json", case_at_rest(home, handle.id), home.parent)
    clear(home, handle)
    return Found(fault.name, found.code, wrong(fault, found), answered, late)


def ask_healthy(name: str) -> Found:
    """Run a healthy script, and ask all the while."""
    asked, claimed = healthy(name)
    codes = [f"{each.code}: {each.verdict}" for each in claimed]
    return Found(name, f"asked {asked} times", list(dict.fromkeys(codes)))


def ask_unforeseen(how: str) -> Found:
    """Let a run fail as nobody foresaw."""
    found = unforeseen(how)
    return Found(how, found.code, list(filter(None, [false_of(how, found)])))


def told(title: str, jobs: Sequence[Callable[[], Found]], at_once: int) -> list[Found]:
    """Do some at a time, and print each as it is known."""
    print(f"\n{title}", flush=True)

    def one(job: Callable[[], Found]) -> Found:
        found = job()
        mark = "WRONG" if found.wrong else "right"
        print(f"  {mark}  {found.name:24} {found.code:24} {'; '.join(found.wrong)}", flush=True)
        return found

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(one, jobs))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="only these faults, healthy scripts and unforeseen failures")
    parser.add_argument("--at-once", type=int, default=3, help="so many runs at a time")
    parser.add_argument("--record", action="store_true", help="keep what was known of each fault")
    arguments = parser.parse_args()
    names = set(arguments.names) or {each.name for each in FAULTS} | {*HEALTHY, *UNFORESEEN}
    if unknown := names - {each.name for each in FAULTS} - {*HEALTHY, *UNFORESEEN}:
        parser.error(f"there are no such runs: {', '.join(sorted(unknown))}")
    wanted = [each for each in FAULTS if each.name in names]
    if os.getuid() != 0:
        wanted = [each for each in wanted if each.how not in MOUNTS | NETWORKS]
    directory = Path(tempfile.mkdtemp(prefix="diagnose-"))
    home = directory / "home"
    os.environ |= {"SWARMTRAIN_HOME": str(home), "CUDA_VISIBLE_DEVICES": ""}
    os.chdir(directory)
    try:
        faults = told(
            "faults",
            [lambda each=each: produce(each, home, record=arguments.record) for each in wanted],  # type: ignore[misc]
            arguments.at_once,
        )
        jobs = [lambda name=name: ask_healthy(name) for name in HEALTHY if name in names]  # type: ignore[misc]
        blameless = told("healthy runs, asked every second", jobs, arguments.at_once)
        jobs = [lambda how=how: ask_unforeseen(how) for how in UNFORESEEN if how in names]  # type: ignore[misc]
        blameless += told("failures that nobody foresaw", jobs, arguments.at_once)
    finally:
        os.chdir("/")
        shutil.rmtree(directory, ignore_errors=True)
    right = sum(not each.wrong for each in faults)
    false = sum(bool(each.wrong) for each in blameless)
    if faults:
        print(
            f"\n{right} of {len(faults)} faults named with rank, node and cause ({right / len(faults):.0%})"
        )
        slowest, latest = max(each.seconds for each in faults), max(each.late for each in faults)
        print(
            f"slowest answer: {slowest:.1f} s; latest, with the end of its run, {latest:.1f} s after that had "
            "noticed"
        )
    print(f"{false} of {len(blameless)} healthy or unforeseen runs of which something false was claimed")
    return 0 if right >= GOAL * len(faults) and not false else 1


if __name__ == "__main__":
    sys.exit(main())
