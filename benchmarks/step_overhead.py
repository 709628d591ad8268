"""What a plain script's step costs more than under torchrun, two workers on this machine. Goal: at most 1 %.

python benchmarks/step_overhead.py [TURNS [STEPS]]     (60 turns of 25 steps)

The rivals train in turns, each while the processes of all others are stopped by a signal. A turn of all rivals takes
some seconds, so what slows the machine down for longer than that slows all of them, and each turn gives one ratio.
The ranks' own processor time is compared, too: others who use the machine hardly change that. Exits with 1 where more
than the goal is shown: where the lower end of the 95 % confidence interval of the median ratio is above it.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

BIN = Path(sys.executable).parent
SCRIPT = str(Path(__file__).with_name("step_train.py"))
GOAL = 1.01
RANKS = 2
SETTLE = 0.3  # seconds for what a stopped process does first when it goes on


class Rival:
    """One way to run the training. It stands still but for its turns.

    Args:
        commands: what to start, with what to add to the environment.
    """

    def __init__(
        self, name: str, home: Path, commands: Sequence[tuple[Sequence[str], dict[str, str]]]
    ) -> None:
        self.name = name
        self.seconds: list[float] = []
        self.processor: list[float] = []
        self._home = home
        home.mkdir()
        for rank in range(RANKS):
            os.mkfifo(home / f"go-{rank}")
            os.mkfifo(home / f"told-{rank}")
        env = os.environ | {
            "STEP_TURNS": str(home),
            "SWARMTRAIN_HOME": str(home / "swarmtrain"),
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo",
        }
        with (home / "output").open("w") as output:
            self._started = [
                subprocess.Popen([*argv, SCRIPT], env=env | more, stdout=output, stderr=subprocess.STDOUT)
                for argv, more in commands
            ]
        try:
            self._go = [self._begun(rank) for rank in range(RANKS)]
            self._told = [(home / f"told-{rank}").open() for rank in range(RANKS)]
            self.turn(1)
        except BaseException:
            self.kill()
            raise
        self.seconds.clear()
        self.processor.clear()
        self.signal(signal.SIGSTOP)

    def _begun(self, rank: int) -> TextIO:
        """The FIFO by which a rank is asked, once it reads; SystemExit where the training has ended before."""
        while all(each.poll() is None for each in self._started):
            try:
                number = os.open(self._home / f"go-{rank}", os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # nobody reads it yet
                time.sleep(0.1)
                continue
            os.set_blocking(number, True)
            return os.fdopen(number, "w", buffering=1)
        raise SystemExit(f"{self.name} failed:\n{(self._home / 'output').read_text()}")

    def turn(self, steps: int) -> None:
        """Make steps, and note the seconds that one took, and those of processor time: the means of the ranks."""
        for go in self._go:
            print(steps, file=go)
        answers = [told.readline().split() for told in self._told]
        if not all(answers):
            raise SystemExit(f"{self.name} failed:\n{(self._home / 'output').read_text()}")
        self.seconds.append(statistics.mean(float(wall) for wall, _ in answers))
        self.processor.append(statistics.mean(float(busy) for _, busy in answers))

    def signal(self, number: signal.Signals) -> None:
        """Stop all its processes, whoever has started them, or have them go on."""
        mark = f"STEP_TURNS={self._home}".encode()
        for process in Path("/proc").iterdir():
            try:
                if process.name.isdecimal() and mark in (process / "environ").read_bytes().split(b"\0"):
                    os.kill(int(process.name), number)
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue

    def end(self) -> None:
        """Let it come to its end."""
        self.signal(signal.SIGCONT)
        for go in self._go:
            print(0, file=go)
        for process in self._started:
            process.wait(60)

    def kill(self) -> None:
        """End whatever of it is left, stopped or not."""
        self.signal(signal.SIGKILL)
        for process in self._started:
            process.wait()


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % confidence interval of the median, by bootstrap (Efron, 1979)."""
    chance = random.Random(0)
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(2000))
    return medians[50], medians[1949]


def main() -> int:
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 25
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and nothing that stands still is left behind
    bare = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517"}
    ranks = [([sys.executable], bare | {"RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(RANKS)]
    run = [str(BIN / "swarmtrain"), "run", "--on", "local", "-j", "1x2"]
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as started:
        rivals = []
        for number, (name, commands) in enumerate(
            [
                ("torchrun --nproc-per-node 2", [([str(BIN / "torchrun"), "--nproc-per-node", "2"], {})]),
                ("two bare processes", ranks),
                ("swarmtrain run --on local -j 1x2", [(run, {})]),
                ("the same, --start cold", [([*run, "--start", "cold"], {})]),
            ]
        ):
            rivals.append(Rival(name, Path(directory) / str(number), commands))
            started.callback(rivals[-1].kill)
        for turn in range(turns):
            for rival in random.Random(turn).sample(rivals, len(rivals)):
                rival.signal(signal.SIGCONT)
                time.sleep(SETTLE)
                rival.turn(steps)
                rival.signal(signal.SIGSTOP)
            told = ", ".join(f"{1000 * rival.seconds[-1]:.1f}" for rival in rivals)
            print(f"turn {turn + 1}: {told} ms", file=sys.stderr, flush=True)
        for rival in rivals:
            rival.end()
    print("| what | median ms a step | ratio, 95 % interval | processor ms | ratio, 95 % interval |")
    print("|---|---|---|---|---|")
    worst = 0.0
    for rival in rivals:
        ratios = _ratios(rival.seconds, rivals[0].seconds)
        if rival in rivals[2:]:
            worst = max(worst, interval(ratios)[0])
        cells = [_median(rival.seconds), _said(ratios)]
        cells += [_median(rival.processor), _said(_ratios(rival.processor, rivals[0].processor))]
        print(f"| {' | '.join([rival.name, *cells])} |")
    return 0 if worst <= GOAL else 1


def _ratios(mine: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(mine, theirs, strict=True)]


def _median(seconds: Sequence[float]) -> str:
    return f"{1000 * statistics.median(seconds):.1f}"


def _said(ratios: Sequence[float]) -> str:
    return "{:.3f}, {:.3f} to {:.3f}".format(statistics.median(ratios), *interval(ratios))


if __name__ == "__main__":
    sys.exit(main())
