"""``make demo``: train the digits example on three nodes, by the same command line that everybody uses.

scripts/demo            on a lab Swarm where Docker can be had, otherwise with processes on this machine
scripts/demo swarm      on a lab Swarm, or not at all
scripts/demo local      with processes on this machine
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from swarmtrain.errors import ClusterError, RequestError, SwarmtrainError, in_short
from swarmtrain.ui import terminal
from swarmtrain.ui.cli import cli

NODES = 3
JOB = Path("examples/digits/swarmtrain.yaml")
PLACES = ("", "local", "swarm")
HERE = ("local", ["--gpus", "0"])  # a machine rarely has a GPU for each of three nodes


def main(argv: list[str]) -> int:
    """Run the demo; return its exit code."""
    try:
        return demo(argv[0] if argv else "")
    except SwarmtrainError as error:
        terminal.error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def demo(on: str) -> int:
    """Train on ``on``; empty to choose.

    Raises:
        SwarmtrainError: it cannot be done there.
    """
    if on not in PLACES:
        raise RequestError(f"the demo runs on local or on swarm, not on {on}", "make demo ON=local")
    where, words = HERE if on == "local" else lab(may_fall_back=not on)
    line = ["run", "--on", where, "-f", str(JOB), "--replace", "-j", f"{NODES}x1", *words]
    terminal.words(f"\n$ swarmtrain {shlex.join(line)}", terminal.BOLD)
    try:
        cli.main(line, prog_name="swarmtrain")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    if code == 0:
        look_around(where)
    return code


def lab(*, may_fall_back: bool) -> tuple[str, list[str]]:
    """Bring the lab up with an image that has torch; the launcher to use, and the flags that it needs."""
    from swarmtrain.lab.images import ensure_torch_image
    from swarmtrain.lab.lab import Lab

    try:
        the_lab = Lab()
        terminal.say(f"the demo is on a lab: a real Swarm of {NODES} Docker engines on this machine")
        the_lab.up(NODES)
        image = ensure_torch_image(the_lab.engine, terminal.say)
        the_lab.load(image)
    except ClusterError as error:
        if not may_fall_back:
            raise
        terminal.say(f"the demo is on local, with processes on this machine: {in_short(error)}")
        return HERE
    os.environ["DOCKER_CONTEXT"] = the_lab.context
    os.environ.pop("DOCKER_HOST", None)
    return "swarm", ["--image", image]


def look_around(where: str) -> None:
    """What can be tried next."""
    lines = ["swarmtrain status digits", "swarmtrain logs digits --rank 0", "swarmtrain ps -a"]
    if where == "swarm":
        lines.insert(0, f"export DOCKER_CONTEXT={os.environ['DOCKER_CONTEXT']}")
        lines.append("swarmtrain lab down")
    ours = Path(sys.executable).with_name("swarmtrain")
    if Path(shutil.which("swarmtrain") or "").resolve() != ours.resolve():
        activate = os.path.relpath(ours.with_name("activate"))
        lines.insert(0, f". {activate}")
    terminal.words("\nlook around:")
    for line in lines:
        terminal.words(f"  {line}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
