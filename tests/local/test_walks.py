"""From a run that fails to one that succeeds, as somebody new walks it: by what the screen says, and nothing else.

Each walk starts a run with the command line, finds on its screen the sentence and a command, does what these say, and
comes to a run that succeeds.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from healed import reach
from healed_local import worker_of
from waiting import until

from swarmtrain import Client

RUN = "swarmtrain run --on local -j 2x1"
SCRIPT = """
import argparse, os, time
from pathlib import Path
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, required=True)
steps = parser.parse_args().steps
dist.init_process_group()
rank, saved = dist.get_rank(), Path("model.pt")
model, first = nn.Linear(4, WIDTH), 0
if saved.exists():
    state = torch.load(saved)
    model.load_state_dict(state["model"])
    first = state["step"]
    print("goes on at step", first)
model = DistributedDataParallel(model)
for step in range(first, steps):
    BODY
    model(torch.ones(2, 4)).sum().backward()
    if rank == 0:
        torch.save({"model": model.module.state_dict(), "step": step + 1}, "model.new")
        os.replace("model.new", saved)
    time.sleep(0.05)
print("trained", steps)
"""


def write(body: str = "", width: int = 2) -> None:
    Path("train.py").write_text(SCRIPT.replace("BODY", body or "pass").replace("WIDTH", str(width)))


def screen(line: str, code: int) -> str:
    """What a command shows; its exit code is as expected."""
    first, *words = shlex.split(line)
    command = str(Path(sys.executable).with_name(first)) if first in ("swarmtrain", "python") else first
    done = subprocess.run([command, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def follows(shown: str, sentence: str, command: str) -> str:
    """The command that stands below a sentence on a screen."""
    assert sentence in " ".join(shown.split()), shown
    commands = [line.strip() for line in shown.splitlines() if line.startswith("       ")]
    assert command in commands, shown
    return command


@pytest.mark.usefixtures("home")
def test_an_error_in_the_script_is_mended_and_the_training_goes_on() -> None:
    write("if step == 7 and rank == 1: raise ValueError('label 12 of 10 classes')")
    shown = screen(f"{RUN} train.py --steps 20", 1)
    command = follows(shown, "rank 1 on node1", "swarmtrain run --resume")
    assert "label 12 of 10 classes" in shown
    write()
    shown = screen(command, 0)
    assert "goes on at step" in shown and "trained 20" in shown


@pytest.mark.long
@pytest.mark.usefixtures("home")
def test_arguments_that_the_script_refuses_are_looked_up_and_given() -> None:
    write()
    shown = screen(f"{RUN} train.py", 1)
    command = follows(shown, "the following arguments are required: --steps", "python train.py --help")
    assert "--steps STEPS" in screen(command, 0)
    assert "trained 5" in screen(f"{RUN} train.py --steps 5", 0)


@pytest.mark.usefixtures("home")
@pytest.mark.long
def test_a_file_that_was_not_sent_is_found_and_named() -> None:
    write("assert Path('lab.pem').read_text()")
    Path("lab.pem").write_text("a certificate that is no secret")
    shown = screen(f"{RUN} train.py --steps 5", 1)
    command = follows(shown, "lab.pem is here, but it was not sent", "swarmtrain run --dry-run train.py")
    assert "lab.pem" in screen(command, 0)
    assert "trained 5" in screen(f"{RUN} --files train.py --files lab.pem train.py --steps 5", 0)


@pytest.mark.long
@pytest.mark.usefixtures("home")
def test_a_checkpoint_of_another_model_is_left_behind_under_another_name() -> None:
    write()
    screen(f"{RUN} train.py --steps 5", 0)
    write(width=3)
    shown = screen(f"{RUN} --resume train.py --steps 9", 1)
    sentence = "the weights in the file are of a model, or an optimizer, of another shape"
    command = follows(shown, sentence, "swarmtrain run --name train-2 ...")
    command = command.replace("swarmtrain run", RUN).replace("...", "train.py --steps 9")
    shown = screen(command, 0)
    assert "trained 9" in shown and "goes on" not in shown


@pytest.mark.long
@pytest.mark.usefixtures("home")
def test_a_worker_that_somebody_killed_goes_on_where_it_was() -> None:
    write()
    line = [str(Path(sys.executable).with_name("swarmtrain")), *shlex.split(RUN)[1:]]
    run = subprocess.Popen(
        [*line, "--restart", "never", "train.py", "--steps", "200"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until(lambda: bool(Client("local").runs()), 30, "the run")
    (handle,) = Client("local").runs()
    reach(handle, 10)
    os.kill(worker_of(handle, 1), signal.SIGKILL)
    shown, _ = run.communicate(timeout=60)
    assert run.returncode == 1
    command = follows(shown, "rank 1 on node1: killed by SIGKILL", "swarmtrain run --resume")
    shown = screen(command, 0)
    assert "goes on at step" in shown and "trained 200" in shown
