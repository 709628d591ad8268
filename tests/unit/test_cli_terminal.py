"""Words reach the person whatever becomes of the output."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys

import pytest

from swarmtrain.ui import terminal

PROGRAM = """
import sys
from swarmtrain.ui import terminal
sys.stdout.write("what nobody reads")
terminal.say("it goes on")
"""


def test_words_are_said_also_when_what_was_put_out_before_is_read_by_nobody() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    line = [sys.executable, "-c", PROGRAM]
    try:
        done = subprocess.run(line, stdout=writing, stderr=subprocess.PIPE, env=buffered, timeout=60)
    finally:
        os.close(writing)
    assert done.stderr.startswith(b"swarmtrain: it goes on\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_stream_that_is_closed_is_one_that_nobody_reads(closed: str) -> None:
    line = f"{shlex.quote(sys.executable)} -c 'from swarmtrain.ui.cli import main; main()' schema {closed}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_a_signal_says_in_the_middle_of_a_write_comes_behind_it(
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    with terminal._above():
        terminal.say_between("stopping digits.1")
        assert capsysbinary.readouterr().err == b""
    assert capsysbinary.readouterr().err == b"swarmtrain: stopping digits.1\n"
    terminal.say_between("stopping digits.2")
    assert capsysbinary.readouterr().err == b"swarmtrain: stopping digits.2\n"


COMMAND = """
import signal, sys
from swarmtrain.control.places import Places
from swarmtrain.ui.cli import main

def runs(self):
    try:
        signal.raise_signal(int(sys.argv[1]))
    finally:
        print("undone", flush=True)

Places.runs = runs
main(["ps"])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_whatever_signal_ends_a_command_it_undoes_what_it_has_begun(number: signal.Signals) -> None:
    """A half of a file that is fetched, a terminal in raw mode, a node that is frozen on purpose."""
    done = subprocess.run([sys.executable, "-c", COMMAND, str(int(number))], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (128 + number, b"undone\n")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("stderr", ["/dev/full", "a pipe that nobody reads"])
def test_the_exit_code_says_what_the_words_cannot(stderr: str) -> None:
    line = [sys.executable, "-c", "from swarmtrain.ui.cli import main; main()", "nonsense"]
    reading, writing = os.pipe()
    os.close(reading)
    with open("/dev/full", "wb") as full:
        done = subprocess.run(line, stderr=full if stderr == "/dev/full" else writing, timeout=60)
    os.close(writing)
    assert done.returncode == 2
