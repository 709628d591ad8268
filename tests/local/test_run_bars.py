"""Progress bars of several ranks: they move on a terminal, and each costs one line anywhere else."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from screen_fake import Screen

from swarmtrain import Client, Job

SWARMTRAIN = str(Path(sys.executable).with_name("swarmtrain"))

# As tqdm draws it: no newline until the end. The moment of each drawing tells how late it is seen.
BAR = """
import os, sys, time
rank = int(os.environ["RANK"])
print("before", flush=True)
for i in range(1, 41):
    sys.stderr.write(f"\\r{i*100//40:3d}%|{'█'*(i//4):<10}| {i}/40 [{time.time():.2f}]")
    sys.stderr.flush()
    if rank == 1 and i == 20:
        os.write(2, "\\r 50%|█████".encode()[:-1])  # torn in the middle of a character
    time.sleep(0.1)
sys.stderr.write("\\n")
print("after", flush=True)
sys.stdout.write("no newline")
"""

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(autouse=True)
def _script(tmp_path: Path) -> None:
    (tmp_path / "bar.py").write_text(BAR)


def check_lines(lines: list[str]) -> None:
    """Each rank's lines: one for its bar, and all others."""
    for rank in (0, 1):
        mine = [line.partition("] ")[2] for line in lines if line.startswith(f"[{rank}] ")]
        assert [re.sub(r"\[.*", "", line) for line in mine] == [
            "before",
            "100%|██████████| 40/40 ",
            "after",
            "no newline",
        ]


def test_bars_of_two_ranks_move_on_one_terminal_and_leave_one_line_each() -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {"TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "100", "LINES": "30"}
        os.execv(SWARMTRAIN, [SWARMTRAIN, "run", "--on", "local", "-j", "2x1", "--start", "cold", "bar.py"])
    screen, late, both = Screen(), [], 0
    seen: dict[int, set[str]] = {0: set(), 1: set()}
    while True:
        try:
            data = os.read(terminal, 1 << 16)
        except OSError:  # the program has ended
            break
        screen.write(data.decode(errors="replace").replace("\r\n", "\n"))
        bars = [row for row in screen.shown() if re.match(r"\[\d\] +\d+%", row)]
        both += sum("100%" not in bar for bar in bars) == 2
        for bar in bars:
            if bar not in seen[int(bar[1])]:
                seen[int(bar[1])].add(bar)
                late += [time.time() - float(moment) for moment in re.findall(r"\[(\d+\.\d+)\]", bar)]
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)
    assert min(len(bars) for bars in seen.values()) >= 5 and both
    assert sorted(late)[len(late) // 2] < 1.0
    check_lines(screen.shown())
    assert not [row for row in screen.shown() if "�" in row]


def test_a_pipe_and_the_log_have_one_line_a_bar(home: Path) -> None:
    command = [SWARMTRAIN, "run", "--on", "local", "-j", "2x1", "--start", "cold", "bar.py"]
    piped = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout.decode()
    assert "\r" not in piped
    check_lines(piped.splitlines())
    kept = Client("local").get("bar")
    check_lines([f"[{line.rank}] {line.text}" for batch in kept.logs() for line in batch])
    followed = subprocess.run(
        [SWARMTRAIN, "logs", "bar", "-f", "--json"], capture_output=True, check=True, timeout=60
    )
    assert followed.stdout.count(b"\n") == 8
    (stored,) = home.glob("runs/*/coordinator/output.jsonl")
    assert stored.stat().st_size < 2000


def test_what_goes_on_is_in_the_logs_of_a_run_that_trains(tmp_path: Path) -> None:
    (tmp_path / "asks.py").write_text(
        "import sys, time; sys.stdout.write('so far'); sys.stdout.flush(); time.sleep(60)"
    )
    handle = Client("local").run(Job(script="asks.py", nodes=1, start="cold"))
    limit = time.monotonic() + 30
    while not (found := [line.text for batch in handle.logs() for line in batch]):
        assert time.monotonic() < limit
        time.sleep(0.05)
    assert found == ["so far"]
    handle.stop()
    assert [line.text for batch in handle.logs() for line in batch] == ["so far"]
