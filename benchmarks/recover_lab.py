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
import itertools
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from recover_stacks import RIVALS, stack
from recover_stamps import Log, Stuck, Whole, largest_gap

from swarmtrain import Client, Job
from swarmtrain.control.follow import has_ended
from swarmtrain.control.handle import RunHandle
from swarmtrain.errors import ClusterError, SwarmtrainError
from swarmtrain.job import Restart
from swarmtrain.lab.images import ensure_torch_image
from swarmtrain.lab.lab import Lab
from swarmtrain.lab.node import Node
from swarmtrain.launchers import containers
from swarmtrain.launchers.swarm import SwarmLauncher
from swarmtrain.swarm.docker import Docker
from swarmtrain.wire.names import COORDINATOR_SERVICE

HERE = Path(__file__).resolve().parent
JOB = "recover"
NODES = 3
MOUNT = "/lab/bench:/bench"  # /lab in a node is a directory of the host's
START_SECONDS = 240.0
STEADY_SECONDS = 8.0  # of steps before a fault
CALM_SECONDS = 15.0  # after the coordinator's end, in which no step may be lost
OFF_SECONDS = 30.0
HANG_SECONDS = 10.0
FULL_SECONDS = 60.0  # to be on all nodes again


class Training(Protocol):
    """One training on the lab, ours or a rival's."""

    stack: str
    log: Log

    def alive(self) -> None:
        """Raises Stuck when it has ended."""

    def journal(self) -> list[dict[str, Any]]:
        """What it says itself about what happened."""

    def remove(self) -> None:
        """With everything that belongs to it."""


class Bench:
    """The lab, and what is on it."""

    def __init__(self) -> None:
        self.lab = Lab()
        self.lab.up(NODES)
        self.image = ensure_torch_image(self.lab.engine, print)
        self.lab.load(self.image)
        self.docker = Docker(host=self.lab.host)
        self.client = Client(on="swarm", launchers={"swarm": SwarmLauncher(self.docker)})
        self._count = 0

    def stamps(self) -> tuple[str, Log]:
        """A fresh directory for stamps, as containers see it, and the reader of it."""
        self._count += 1
        tag = f"{int(time.time())}-{self._count}"
        directories = [self.lab.names.node_directory(index) / "bench" / tag for index in range(1, NODES + 1)]
        for directory in directories:
            directory.mkdir(parents=True)
            directory.chmod(0o777)
        return f"/bench/{tag}", Log(directories)

    def clean(self) -> None:
        """Make the lab as it was: nodes repaired, trainings and stamps gone."""
        if any(status.machine != "running" or status.swarm != "Ready" for status in self.lab.status()):
            self.lab.up(NODES)
        for handle in self.client.runs():
            if handle.run.job == JOB:
                handle.remove(force=True)
        for rival in RIVALS:
            self.remove_stack(f"rival-{rival}")
        for node in self.lab.nodes():
            node.exec("rm", "-rf", "/lab/bench")

    def remove_stack(self, name: str) -> None:
        self.docker.run("stack", "rm", name)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            left = any(containers.running(node.docker, name) for node in self.lab.nodes())
            if not left and name not in self.docker.run("network", "ls", "--format", "{{.Name}}"):
                return
            time.sleep(0.5)


class Ours:
    """A run of swarmtrain."""

    def __init__(self, bench: Bench, **settings: Any) -> None:
        stamps, self.log = bench.stamps()
        job = Job(
            name=JOB,
            script="recover_train.py",
            args=("trainer",),
            files=("recover_train.py",),
            image=bench.image,
            env={"OMP_NUM_THREADS": "1", "STAMPS": stamps},
            volumes=(MOUNT,),
            workers_per_node=1,
            **settings,
        )
        self.handle: RunHandle = bench.client.run(job)
        self.stack = self.handle.run.stack

    def alive(self) -> None:
        with contextlib.suppress(ClusterError):
            status = self.handle.status()
            if has_ended(status):
                raise Stuck(f"{self.handle.id} {status['state']}: {status['reason']}")

    def journal(self) -> list[dict[str, Any]]:
        deadline = time.monotonic() + 30  # the coordinator may just be starting
        while True:
            try:
                return [dict(event) for event in self.handle.events()]
            except ClusterError as error:
                if time.monotonic() > deadline:
                    return [{"t": time.time(), "kind": "silent", "text": str(error)}]
                time.sleep(0.5)

    def remove(self) -> None:
        self.handle.remove(force=True)


class Rival:
    """A stack of stock torchrun."""

    def __init__(self, bench: Bench, rival: str) -> None:
        self._bench = bench
        self.stack = f"rival-{rival}"
        stamps, self.log = bench.stamps()
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "stack.json"
            path.write_text(stack(rival, bench.image, str(HERE / "recover_train.py"), stamps, MOUNT))
            bench.docker.run("stack", "deploy", "--resolve-image", "never", "-c", str(path), self.stack)

    def alive(self) -> None:
        """Nobody tells."""

    def journal(self) -> list[dict[str, Any]]:
        return []

    def remove(self) -> None:
        self._bench.remove_stack(self.stack)


# ---- faults: each is done to a training on a node, and returns how to undo it -----------------------------------

Undo = Callable[[], object]
Fault = Callable[[Bench, Training, int], Undo]


def nothing() -> None:
    """There is nothing to undo."""


def kill_worker(bench: Bench, training: Training, index: int) -> Undo:
    pid = training.log.worker_at(index - 1).pid
    docker = bench.lab.node(index).docker
    (container,) = containers.running(docker, training.stack)
    docker.run("exec", container, "sh", "-c", f"kill -KILL {pid}")
    return nothing


def kill_container(bench: Bench, training: Training, index: int) -> Undo:
    docker = bench.lab.node(index).docker
    (container,) = containers.running(docker, training.stack)
    docker.run("kill", "--signal", "KILL", container)
    return nothing


def freeze(bench: Bench, training: Training, index: int) -> Undo:
    node = bench.lab.node(index)
    node.pause()
    return node.unpause


def power_off(bench: Bench, training: Training, index: int) -> Undo:
    """The cable first: a machine without power closes no connection, the kernel of a killed container does."""
    node = bench.lab.node(index)
    node.unplug()
    node.kill()
    return lambda: power_on(node)


def power_on(node: Node) -> None:
    if node.machine() != "running":
        node.plug()
        node.start()


def hang(bench: Bench, training: Training, index: int) -> Undo:
    pattern = bench.lab.names.node_directory(index) / "bench"
    for directory in pattern.iterdir():
        (directory / "hang").touch()
    return nothing


# ---- measurements -----------------------------------------------------------------------------------------------


@dataclass
class Found:
    """One measurement. `seconds` is None when training did not go on within the limit."""

    case: str
    round: int = 0
    seconds: float | None = None
    full_seconds: float | None = None  # until all nodes took part again, where that was waited for
    limit: float = 0.0
    as_wanted: bool = True
    note: str = ""
    step_seconds: float = 0.0
    load: float = 0.0
    journal: list[dict[str, Any]] = field(default_factory=list)


def recovery(bench: Bench, training: Training, fault: Fault, index: int, limit: float) -> Found:
    """From the last step of all ranks before a fault to the first one after it."""
    last = training.log.steady(NODES, STEADY_SECONDS, START_SECONDS, training.alive)
    begun = time.time()
    undo = fault(bench, training, index)
    try:
        following = training.log.next_attempt(last, limit)
    finally:
        undo()
    last = training.log.last_of(last.attempt)
    if last.t < begun - 1.0:
        raise Stuck(f"training stood still {begun - last.t:.1f} s before the fault")
    found = _found(training, last, following, last.t, limit)
    if following and fault is kill_container:  # of which Swarm starts another one
        full = training.log.next_attempt(last, FULL_SECONDS, NODES)
        found.full_seconds = full.t - last.t if full else None
        found.note += f", all {NODES} after {found.full_seconds:.1f} s" if full else ", never all again"
    return found


def hung(bench: Bench, training: Training, fault: Fault, index: int, limit: float) -> Found:
    """The same, and whether the journal names the rank that hung."""
    found = recovery(bench, training, fault, index, limit)
    (rank,) = {
        stamp.rank for stamp in training.log.stamps() if stamp.place == index - 1 and stamp.world == NODES
    }
    named = [event["text"] for event in training.journal() if event["kind"] in ("failure", "stall")]
    if not any(f"rank {rank} " in text and "hang_here" in text for text in named):
        found.as_wanted, found.note = False, f"rank {rank} is not named: {named}"
    else:
        found.note = "the rank and its line are named"
    return found


def coordinator_killed(bench: Bench, training: Training, fault: Fault, index: int, limit: float) -> Found:
    """The longest time between two steps while the coordinator is away and comes back; no step may be lost."""
    last = training.log.steady(NODES, 2 * STEADY_SECONDS, START_SECONDS, training.alive)
    containers.kill(bench.docker, training.handle.run, COORDINATOR_SERVICE)  # type: ignore[attr-defined]
    killed = time.time()
    time.sleep(CALM_SECONDS)
    kinds = [event["kind"] for event in training.journal()]
    steps = training.log.whole()
    end = steps[-1].t if time.time() - steps[-1].t < limit else time.time()
    before = largest_gap([s for s in steps if s.attempt == last.attempt], killed - CALM_SECONDS, killed)
    gap = largest_gap(steps, killed, end)
    attempts = {step.attempt for step in steps}
    made = sorted(step.step for step in steps)
    is_whole = len(attempts) == 1 and made == list(range(made[0], made[0] + len(made)))
    is_back = "coordinator" in kinds and kinds.count("generation") == 1
    found = Found("", seconds=gap, limit=limit, as_wanted=is_whole and is_back)
    found.step_seconds = _usual(training, last)
    found.note = f"longest gap between steps; {before:.2f} s in the time before"
    found.note += "; no step lost" if is_whole else f"; STEPS LOST, {len(attempts)} attempts"
    found.note += "" if is_back else f"; journal: {kinds}"
    return found


def coordinator_off(bench: Bench, training: Training, fault: Fault, index: int, limit: float) -> Found:
    """From the start of the coordinator's machine, off for 30 s, to the first step of all ranks."""
    last = training.log.steady(NODES, STEADY_SECONDS, START_SECONDS, training.alive)
    undo = power_off(bench, training, 1)
    try:
        time.sleep(OFF_SECONDS)
        early = training.log.next_attempt(last, 0)
    finally:
        began = time.time()
        undo()
    following = training.log.next_attempt(last, limit)
    found = _found(training, training.log.last_of(last.attempt), following, began, limit)
    if early:
        found.as_wanted, found.note = False, "it went on while the coordinator was away"
    return found


def _found(training: Training, last: Whole, following: Whole | None, since: float, limit: float) -> Found:
    found = Found("", limit=limit, step_seconds=_usual(training, last))
    if following:
        found.seconds = following.t - since
        again = last.step + 1 - following.step
        found.note = f"on {following.world} nodes, {again} steps made again"
        if again < -1:  # one more may have been made without being written down by all
            found.as_wanted, found.note = False, f"{-again} steps were left out"
    return found


def _usual(training: Training, last: Whole) -> float:
    times = [step.t for step in training.log.whole() if step.attempt == last.attempt]
    return statistics.median(late - early for early, late in itertools.pairwise(times))


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


def main() -> None:
    options = arguments()
    chosen = [case for case in CASES.values() if case.name.startswith(tuple(options.only))]
    if options.list or not chosen:
        print("\n".join(CASES))
        return
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


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
