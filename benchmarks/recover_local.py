"""From the SIGKILL of a worker to the next optimizer step of all ranks, three workers on one machine, against torchrun.

All run the same training, with a snapshot about once a second and a step every 45 ms or so (`recover_train.py`). What
is measured is the time from the last step that all ranks made before the fault to the first that all made after it.

torchrun's default on one machine, static rendezvous, keeps one store for all attempts (torch 2.13), so that a restarted
rank may read where its peers listened before; gloo then waits for a peer that is gone until it gives up, and all start
once more. The second rival is what avoids that.

    python benchmarks/recover_local.py [ROUNDS] [--limit SECONDS] [--json]

A rival that does not recover within the limit is not tried again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from recover_stamps import Log, Stuck

BIN = Path(sys.executable).parent
SCRIPT = str(Path(__file__).with_name("recover_train.py"))
RANKS = 3
STEADY_SECONDS = 5.0
START_SECONDS = 120.0
OWN_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


@dataclass(frozen=True, eq=False)
class Way:
    """One way to train.

    Attributes:
        goal: seconds; None for a rival.
    """

    title: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    goal: float | None = None


@dataclass
class Found:
    """One measurement. `seconds` is None when training did not go on within the limit."""

    way: str
    round: int
    seconds: float | None
    again: int | None  # steps that were made a second time
    load: float


def _ways() -> Sequence[Way]:
    options = ("--nproc-per-node", "3", "--max-restarts", "3")
    run = ("swarmtrain", "run", "--on", "local", "-j", "3x1", "--name", "recover", "-e", "STAMPS", SCRIPT)
    return (
        Way("torchrun --nproc-per-node 3 --max-restarts 3", ("torchrun", *options, SCRIPT, "plain"), {}),
        Way(
            "the same, --standalone and TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1",
            ("torchrun", "--standalone", *options, SCRIPT, "plain"),
            OWN_STORE,
        ),
        Way("swarmtrain run --on local -j 3x1", (*run, "plain"), {}, 1.5),
        Way("the same with the Trainer", (*run, "trainer"), {}, 1.5),
    )


@contextlib.contextmanager
def training(way: Way, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """It runs; SIGTERM ends it, and its workers with it: a shell has what runs in the background ignore Ctrl-C."""
    env = os.environ | {"STAMPS": str(directory), "SWARMTRAIN_HOME": str(directory / "home")}
    env |= {"OMP_NUM_THREADS": "1", **way.env}
    with (directory / "output").open("wb") as output:
        argv = [str(BIN / way.argv[0]), *way.argv[1:]]
        process = subprocess.Popen(argv, env=env, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            finally:
                process.kill()


def measure(way: Way, limit: float) -> Found:
    """Start a training, kill a worker, see it go on, and end it."""
    with tempfile.TemporaryDirectory() as name, training(way, Path(name)) as process:
        log = Log([Path(name)])

        def alive() -> None:
            if process.poll() is not None:
                raise Stuck(Path(name, "output").read_text(errors="replace"))

        last = log.steady(RANKS, STEADY_SECONDS, START_SECONDS, alive)
        victim = next(stamp for stamp in reversed(log.stamps()) if stamp.rank == 1)
        os.kill(victim.pid, signal.SIGKILL)
        following = log.next_attempt(last, limit)
        load = os.getloadavg()[0]
        if following is None:
            return Found(way.title, 0, None, None, load)
        last = log.last_of(last.attempt)
        return Found(way.title, 0, following.t - last.t, last.step + 1 - following.step, load)


def table(results: Mapping[Way, Sequence[Found]], limit: float) -> str:
    """The Markdown table; ratios are to the last rival that recovered."""
    medians = {
        way: statistics.median(found.seconds for found in values if found.seconds is not None)
        for way, values in results.items()
        if all(found.seconds is not None for found in values)
    }
    base = [median for way, median in medians.items() if way.goal is None]
    rows = ["| what | median s | min s | max s | ratio | goal s |", "|---|---|---|---|---|---|"]
    for way, values in results.items():
        seconds = [found.seconds for found in values if found.seconds is not None]
        if way in medians:
            figures = [f"{medians[way]:.2f}", f"{min(seconds):.2f}", f"{max(seconds):.2f}"]
            figures.append(f"{medians[way] / base[-1]:.2f}" if base else "")
        else:
            figures = [f"not within {limit:g} s", "", "", ""]
        rows.append(f"| {' | '.join([way.title, *figures, f'{way.goal:g}' if way.goal else ''])} |")
    return "\n".join(rows)


def main() -> int:
    """1: a goal was missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("rounds", nargs="?", type=int, default=5)
    parser.add_argument("--limit", type=float, default=90.0, metavar="SECONDS")
    parser.add_argument("--json", action="store_true", help="also print each measurement as a line of JSON")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results: dict[Way, list[Found]] = {way: [] for way in _ways()}
    loads = [os.getloadavg()[0]]
    for number in range(1, options.rounds + 1):
        for way, values in results.items():
            if any(found.seconds is None for found in values):
                continue
            found = measure(way, options.limit)
            found.round = number
            values.append(found)
            loads.append(found.load)
            took = f"not within {options.limit:g} s"
            if found.seconds is not None:
                took = f"{found.seconds:.2f} s, {found.again} steps made again"
            print(f"round {number}: {way.title}: {took} (load {found.load:.1f})", flush=True)
            if options.json:
                print(json.dumps(asdict(found)), flush=True)
    print(f"\n{table(results, options.limit)}\n")
    print(f"Load average while measuring, on {os.cpu_count()} cores: {min(loads):.1f} to {max(loads):.1f}.")
    return int(any(is_missed(way, values) for way, values in results.items()))


def is_missed(way: Way, values: Sequence[Found]) -> bool:
    """Whether the median is not what it is to be."""
    seconds = [found.seconds if found.seconds is not None else math.inf for found in values]
    return way.goal is not None and statistics.median(seconds) > way.goal


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
