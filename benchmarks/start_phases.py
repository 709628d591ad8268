"""Where the time from command to first optimizer step goes, of this tree and of others in turns.

    python benchmarks/start_phases.py local|swarm [ROUNDS] [--tree CHECKOUT ...]

The times are those of the run's own journal, and for the first step of all ranks what the script says. With ``swarm``
the lab has to be up, with the demo's image (`start_lab.py` sees to both). Processor seconds of the lab's nodes are what
all of their processes took until the first step, the engines' among them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import first_step, first_step_alone, usual_environment

from swarmtrain.lab.images import ensure_torch_image
from swarmtrain.lab.lab import Lab

HERE = Path(__file__).parent
MAIN = "from swarmtrain.ui.cli import main; main()"
PHASES = {  # to its last event of a kind
    "submitted": "the coordinator is there",
    "joined": "the last node has joined",
    "generation": "the group is formed",
    "warm": "torch is imported on all nodes",
    "started": "all workers have started",
}
FIRST, PROCESSORS = "first step of all ranks", "(processor seconds of the lab)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("where", choices=["local", "swarm"])
    parser.add_argument("rounds", nargs="?", type=int, default=5)
    parser.add_argument("--tree", action="append", default=[], type=Path, help="another checkout")
    args = parser.parse_args()
    trees = [HERE.parent, *args.tree]
    seen: dict[Path, list[dict[str, float]]] = {tree: [] for tree in trees}
    with tempfile.TemporaryDirectory() as home:
        env = usual_environment() | {"SWARMTRAIN_HOME": home, "OMP_NUM_THREADS": "1"}
        flags, lab, script = ["-j", "1x2"], None, str(first_step_alone(home))
        if args.where == "swarm":
            lab = Lab()
            image = ensure_torch_image(lab.engine, print)
            env = {key: value for key, value in env.items() if key != "DOCKER_CONTEXT"}
            env["DOCKER_HOST"] = lab.host
            flags = ["-j", "3x1", "--image", image, "--env", "OMP_NUM_THREADS=1"]
        for tree in trees:
            phases(tree, args.where, [*flags, script], env, lab)  # Python compiles its modules once
        for number in range(args.rounds):
            for tree in trees:
                seen[tree].append(phases(tree, args.where, [*flags, script], env, lab))
                print(f"round {number + 1}: {tree.name}: {seen[tree][-1][FIRST]:.2f} s", flush=True)
    print(f"\n| median s until | {' | '.join(tree.name for tree in trees)} |")
    print("|---|" + "---|" * len(trees))
    for phase in seen[trees[0]][0]:
        medians = (statistics.median(each[phase] for each in seen[tree]) for tree in trees)
        print(f"| {phase} | {' | '.join(f'{median:.2f}' for median in medians)} |")
    for tree in trees[1:]:
        ratios = [ours[FIRST] / its[FIRST] for ours, its in zip(seen[trees[0]], seen[tree], strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(
            f"\nof what {tree.name} takes to the first step: median {statistics.median(ratios):.2f}, {spread}"
        )


def phases(
    tree: Path, where: str, words: list[str], env: dict[str, str], lab: Lab | None
) -> dict[str, float]:
    """Seconds from the command to the end of each phase.

    Args:
        words: the flags of the run, and its script.
    """
    env = env | {"PYTHONPATH": str(tree / "src")}
    ranks = 2 if lab is None else 3

    def swarmtrain(*words: str) -> bytes:
        argv = [sys.executable, "-c", MAIN, *words]
        return subprocess.run(
            argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
        ).stdout

    before = processor_seconds(lab) if lab is not None else 0.0
    began, output = time.time(), b""
    argv = [
        sys.executable,
        "-c",
        MAIN,
        "run",
        "--on",
        where,
        "--name",
        "phases",
        *words,
    ]
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            output += line
            if output.count(b"first step of rank") == ranks:
                break
        took = processor_seconds(lab) - before if lab is not None else 0.0
        output += process.stdout.read()
    found = {phase: float("nan") for phase in PHASES.values()}
    for line in swarmtrain("events", "--on", where, "--json", "phases").splitlines():
        event = json.loads(line)
        if event["kind"] in PHASES:
            found[PHASES[event["kind"]]] = event["t"] - began
    found[FIRST] = first_step(output, ranks) - began
    if lab is not None:
        found[PROCESSORS] = took
    swarmtrain("rm", "--on", where, "phases")
    return found


def processor_seconds(lab: Lab) -> float:
    """What all processes of the nodes have taken since these were powered on."""
    # by the first and by the second version of the kernel's control groups
    script = (
        "cd /sys/fs/cgroup; cat cpuacct/cpuacct.usage || sed -n 's/usage_usec \\(.*\\)/\\1000/p' cpu.stat"
    )
    return sum(int(node.exec("sh", "-c", script)) for node in lab.nodes()) / 1e9


if __name__ == "__main__":
    main()
