"""Command to first optimizer step on three nodes of the lab, the image present, against the hand-written stack.

Goal: no slower.

    python benchmarks/start_lab.py [ROUNDS]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import command_to_first_step, first_step, first_step_alone, interleaved, table, usual_environment

from swarmtrain.lab.images import ensure_torch_image
from swarmtrain.lab.lab import Lab

BIN = Path(sys.executable).parent
HERE = Path(__file__).parent
STACK = "handwritten"

rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
lab = Lab()
lab.up()
image = ensure_torch_image(lab.engine, print)
lab.load(image)
env = {key: value for key, value in usual_environment().items() if key != "DOCKER_CONTEXT"}
env |= {"DOCKER_HOST": lab.host, "IMAGE": image}


def docker(*words: str) -> bytes:
    return subprocess.run(["docker", *words], env=env, check=True, capture_output=True).stdout


def swarmtrain() -> float:
    argv = [str(BIN / "swarmtrain"), "run", "--on", "swarm", "-j", "3x1", "--image", image]
    argv += ["--env", "OMP_NUM_THREADS=1", "--name", "bench", script]
    seconds = command_to_first_step(argv, 3, env)
    subprocess.run([str(BIN / "swarmtrain"), "rm", "--on", "swarm", "bench"], env=env, check=True)
    return seconds


def handwritten() -> float:
    began = time.time()
    docker("stack", "deploy", "--resolve-image", "never", "-c", str(HERE / "handwritten.yml"), STACK)
    limit = time.monotonic() + 180
    while True:
        logs = b"".join(docker("service", "logs", "--raw", f"{STACK}_node{number}") for number in range(3))
        if logs.count(b"first step of rank") == 3 or time.monotonic() > limit:
            break
        time.sleep(0.2)
    seconds = first_step(logs, 3) - began
    docker("stack", "rm", STACK)
    while STACK.encode() in docker("network", "ls"):
        time.sleep(0.5)
    return seconds


with tempfile.TemporaryDirectory() as directory:
    script = str(first_step_alone(directory))
    seconds = interleaved(
        rounds, {"hand-written stack": handwritten, "swarmtrain run --on swarm -j 3x1": swarmtrain}
    )
print()
print(table(seconds, "hand-written stack"))
