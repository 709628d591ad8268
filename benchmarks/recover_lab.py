"""From a fault to the next optimizer step of all ranks, on three nodes of the lab, against stock torchrun.

Each rank writes down when it has made each step (`recover_train.py`). What is measured is the time from the last step
that all ranks made before the fault to the first one that all ranks made after it. A step takes 50 ms or so. A fault
hits lab-3 and lab-2 in turns, where it is not about the coordinator.

    python benchmarks/recover_lab.py [ROUNDS] [--only CASE...] [--limit SECONDS] [--json] [--list]

CASE is the beginning of a case's name, as --list prints them. In a round every case is measured once. A rival that does
not recover within the limit is not tried again. Everything is removed and repaired at the end, also after Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from recover_faults import (
    HANG_SECONDS,
    OFF_SECONDS,
    Fault,
    Found,
    coordinator_killed,
    coordinator_off,
    freeze,
    hang,
    hung,
    kill_container,
    kill_worker,
    power_off,
    recovery,
)
from recover_stacks import RIVALS
from recover_stamps import Stuck
from recover_trainings import HERE, NODES, Bench, Ours, Rival, Training

from swarmtrain.errors import SwarmtrainError
from swarmtrain.job import Restart

# ---- the cases --------------------------------------------------------------------------------------------------

Measure = Callable[[Bench, Training, Fault, int, float], Found]


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        name: FAULT/WHO.
        title: what happens, and to what, for people.
        goal: seconds; None for rivals.
        fault: what is done to lab-2 or lab-3.
        patience: seconds that it gets at least, whatever the limit.
    """

    name: str
    title: tuple[str, str]
    goal: float | None
    launch: Callable[[Bench], Training]
    fault: Fault
    measure: Measure = recovery
    patience: float = 0.0


def ours(nodes: int | str, **restart: Any) -> Callable[[Bench], Training]:
    settings: dict[str, Any] = {"restart": Restart(**restart)} if restart else {}
    return lambda bench: Ours(bench, nodes=nodes, **settings)


def _cases() -> Iterator[Case]:
    def mine(nodes: int | str) -> str:
        return f"swarmtrain, nodes: {nodes}"

    killed, frozen = "container SIGKILL", "node frozen"
    titles = {
        "guide": "the guide's stack: static torchrun",
        "careful": "torchrun c10d, 3 nodes, restarts on",
        "expert": "torchrun c10d, 2 to 3 nodes, tuned",
    }
    some = f"{NODES - 1}..{NODES}"
    yield Case("worker/swarmtrain", ("worker SIGKILL", mine(3)), 1.5, ours(3), kill_worker)
    yield Case("container/elastic", (killed, mine(some)), 3, ours(some), kill_container)
    yield Case("container/fixed", (killed, mine(3)), 10, ours(3), kill_container)
    for rival in RIVALS:
        patience = 240.0 if rival == "careful" else 0.0  # it comes back, but only after a store's timeout
        yield Case(
            f"container/{rival}",
            (killed, titles[rival]),
            None,
            _rival(rival),
            kill_container,
            patience=patience,
        )
    yield Case("freeze/elastic", (frozen, mine(some)), 8, ours(some), freeze)
    for rival in RIVALS:
        yield Case(f"freeze/{rival}", (frozen, titles[rival]), None, _rival(rival), freeze)
    yield Case("power/elastic", ("node without power", mine(some)), 8, ours(some), power_off)
    hanging = ours(3, hang_timeout=HANG_SECONDS)
    title = f"a rank sleeps, hang_timeout: {HANG_SECONDS:g}s"
    yield Case("hang/swarmtrain", (title, mine(3)), HANG_SECONDS + 3, hanging, hang, hung)
    yield Case(
        "coordinator/killed", ("coordinator SIGKILL", mine(3)), 1, ours(3), kill_container, coordinator_killed
    )
    title = f"coordinator's machine off for {OFF_SECONDS:g} s, from its start"
    yield Case("coordinator/off", (title, mine(some)), 15, ours(some), power_off, coordinator_off)


def _rival(name: str) -> Callable[[Bench], Training]:
    return lambda bench: Rival(bench, name)


CASES = {case.name: case for case in _cases()}


def measure(bench: Bench, case: Case, index: int, limit: float) -> Found:
    """Start a training, break it, see it go on, and remove it."""
    training: Training | None = None
    try:
        training = case.launch(bench)
        found = case.measure(bench, training, case.fault, index, limit)
        found.journal = training.journal()
        return found
    except (Stuck, SwarmtrainError) as error:
        journal = training.journal() if training else []
        return Found(case.name, as_wanted=False, note=f"NOT MEASURED: {error}", journal=journal)
    finally:
        if training:
            with contextlib.suppress(SwarmtrainError):
                training.remove()
        bench.clean()


# ---- what is printed --------------------------------------------------------------------------------------------


def missed(case: Case, limit: float) -> str:
    """What is said of a training that did not go on within the limit; nothing restarts the guide's."""
    return f"never (> {limit:g} s)" if case.name.endswith("/guide") else f"> {limit:g} s"


def words(case: Case, found: Found) -> str:
    """A measurement as a line."""
    seconds = f"{found.seconds:.2f} s" if found.seconds is not None else missed(case, found.limit)
    goal = f", goal {case.goal:g} s" if case.goal is not None else ""
    return f"{case.name}: {seconds}{goal}; {found.note or '-'} (step {found.step_seconds:.3f} s, load {found.load:.1f})"


def is_reached(case: Case, values: Sequence[Found]) -> bool:
    return all(each.as_wanted and each.seconds is not None for each in values) and (
        case.goal is None or statistics.median(each.seconds or 0.0 for each in values) <= case.goal
    )


def table(results: dict[str, list[Found]]) -> str:
    """The Markdown table.

    The ratio of a rival is that to our elastic run with the same fault. `all nodes` is the median time until all took
    part again, where Swarm starts what was killed anew.
    """
    rows = [
        "| fault | who | median s | min s | max s | ratio | all nodes s | goal s | reached |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, values in results.items():
        case = CASES[name]
        seconds = [each.seconds for each in values if each.seconds is not None]
        figures, ratio = ["not measured", "", ""], ""
        if seconds and len(seconds) == len(values):
            median = statistics.median(seconds)
            figures = [f"{median:.2f}", f"{min(seconds):.2f}", f"{max(seconds):.2f}"]
            mine = [each.seconds for each in results.get(f"{name.split('/')[0]}/elastic", ()) if each.seconds]
            ratio = f"{median / statistics.median(mine):.1f}" if case.goal is None and mine else ""
        elif any(each.limit for each in values):
            figures = [missed(case, max(each.limit for each in values)), "", ""]
        full = [each.full_seconds for each in values if each.full_seconds is not None]
        all_again = f"{statistics.median(full):.1f}" if full and len(full) == len(values) else ""
        goal = f"{case.goal:g}" if case.goal is not None else ""
        reached = ("yes" if is_reached(case, values) else "no") if case.goal is not None else ""
        rows.append(f"| {' | '.join([*case.title, *figures, ratio, all_again, goal, reached])} |")
    return "\n".join(rows)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("rounds", nargs="?", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[""], metavar="CASE")
    parser.add_argument("--limit", type=float, default=90.0, metavar="SECONDS")
    parser.add_argument("--json", action="store_true", help="also print each measurement as a line of JSON")
    parser.add_argument("--list", action="store_true", help="print the cases and go")
    return parser.parse_args()


def main() -> int:
    """1: a goal was missed."""
    options = arguments()
    chosen = [case for case in CASES.values() if case.name.startswith(tuple(options.only))]
    if options.list or not chosen:
        print("\n".join(CASES))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ.pop("DOCKER_CONTEXT", None)
    os.chdir(HERE)
    bench = Bench()
    bench.clean()
    results: dict[str, list[Found]] = {}
    loads = [os.getloadavg()[0]]
    try:
        for number in range(1, options.rounds + 1):
            for case in chosen:
                if case.goal is None and any(each.seconds is None for each in results.get(case.name, ())):
                    continue
                limit = max(options.limit, case.patience)
                found = measure(bench, case, 2 + number % 2, limit)
                found.case, found.round, found.load = case.name, number, os.getloadavg()[0]
                loads.append(found.load)
                results.setdefault(case.name, []).append(found)
                print(f"round {number}: {words(case, found)}", flush=True)
                if options.json:
                    print(json.dumps(asdict(found)), flush=True)
                if case.goal is not None and not is_reached(case, [found]):
                    for event in found.journal[-12:]:
                        print(f"    {event['t']:.2f} {event['kind']}: {event['text']}", flush=True)
    finally:
        bench.clean()
        if results:
            print(f"\n{table(results)}\n")
            print(
                f"Load average while measuring, on {os.cpu_count()} cores: {min(loads):.1f} to {max(loads):.1f}, "
                f"median {statistics.median(loads):.1f}."
            )
    ours = [(CASES[name], values) for name, values in results.items() if CASES[name].goal is not None]
    return int(not all(is_reached(case, values) for case, values in ours))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
