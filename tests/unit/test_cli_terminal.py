"""Words reach the person whatever becomes of the output."""

from __future__ import annotations

import os
import shlex
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
