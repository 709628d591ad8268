"""What workers print arrives: every line once, whole, by the right rank, in order, whatever it looks like."""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest
from healed_local import agent_of

from swarmtrain import Client, Job, Line
from swarmtrain.control.handle import RunHandle
from swarmtrain.job import Restart
from swarmtrain.wire import frames

LINES = 100_000

TALKER = f"""
import os, sys
rank = int(os.environ["RANK"])
out = sys.stdout.buffer
for number in range({LINES}):
    head = b"%d:%d:" % (rank, number)
    if number % 1000 == 0:
        out.write(head + bytes([97 + number // 1000 % 26]) * 65536 + b"\\n")
    elif number % 777 == 0:
        out.write(b"drawn over\\r" + head + b"\\xff\\xfe\\x80 not utf-8 tab\\t\\n")
    else:
        out.write(head + b"x" * (number % 60) + b"\\n")
out.write(b"%d:last line without newline" % rank)
out.flush()
"""

ENDLESS = """
import os, time
rank, number = int(os.environ["RANK"]), 0
while True:
    if number % 20 == 0:
        time.sleep(0.005)
    os.write(1, b"%d:%d:%s\\n" % (rank, number, b"y" * (number % 5000)))
    number += 1
"""


pytestmark = pytest.mark.usefixtures("home")


def expected(rank: int, number: int) -> bytes:
    head = b"%d:%d:" % (rank, number)
    if number % 1000 == 0:
        return head + bytes([97 + number // 1000 % 26]) * 65536
    if number % 777 == 0:
        return head + b"\xff\xfe\x80 not utf-8 tab\t"
    return head + b"x" * (number % 60)


def by_rank(batches: Iterable[Iterable[Line]]) -> dict[int, list[bytes]]:
    found: dict[int, list[bytes]] = defaultdict(list)
    for batch in batches:
        for line in batch:
            found[line.rank].append(frames.raw(line.text))
    return found


def test_every_line_of_three_talkative_ranks_arrives_once_whole_and_in_order(tmp_path: Path) -> None:
    (tmp_path / "talk.py").write_text(TALKER)
    handle = Client(on="local").run(Job(script="talk.py", nodes=3, start="cold"))
    live = by_rank(handle.logs(follow=True))
    assert handle.wait(timeout=240).state == "succeeded"
    kept = by_rank(handle.logs())
    for found in (live, kept):
        assert sorted(found) == [0, 1, 2]
        for rank in range(3):
            lines = found[rank]
            assert len(lines) == LINES + 1
            wrong = next((n for n in range(LINES) if lines[n] != expected(rank, n)), None)
            assert wrong is None, f"rank {rank}, line {wrong}: {lines[wrong or 0][:80]!r}"
            assert lines[-1] == b"%d:last line without newline" % rank


def test_what_a_killed_worker_had_written_arrives(tmp_path: Path, home: Path) -> None:
    handle = talk_for_ever(tmp_path, home, Restart(max=0))
    os.kill(_pid_of(handle, 1) or 0, signal.SIGKILL)
    result = handle.wait(timeout=120)
    assert result.state == "failed"
    assert "rank 1 on node1: killed by SIGKILL" in result.reason
    check_all_is_here(handle, home)


def test_what_the_workers_of_a_killed_agent_had_written_arrives_though_the_run_is_stopped_at_once(
    tmp_path: Path, home: Path
) -> None:
    handle = talk_for_ever(tmp_path, home, Restart(max=10))
    os.kill(agent_of(handle, "node1"), signal.SIGKILL)
    handle.stop()
    assert handle.wait(timeout=120).state == "stopped"
    check_all_is_here(handle, home)
    assert not [event for event in handle.events() if "has not delivered" in event.text]


def talk_for_ever(directory: Path, home: Path, restart: Restart) -> RunHandle:
    """A run of two ranks that write more than is carried away at once."""
    (directory / "endless.py").write_text(ENDLESS)
    handle = Client(on="local").run(Job(script="endless.py", nodes=2, start="cold", restart=restart))
    deadline = time.monotonic() + 60
    while not _pid_of(handle, 1) or not handle_has_output(home):
        assert time.monotonic() < deadline, "the worker did not start"
        time.sleep(0.1)
    time.sleep(0.5)
    return handle


def check_all_is_here(handle: RunHandle, home: Path) -> None:
    """What both ranks have written has arrived, up to its last byte."""
    found = by_rank(handle.logs())
    for rank in (0, 1):
        written = b"".join(
            path.read_bytes() for path in home.glob(f"runs/*/node{rank}/output/g1-r{rank}.out")
        )
        assert found[rank] == written.removesuffix(b"\n").split(b"\n")
        whole = found[rank][:-1]
        assert whole == [b"%d:%d:%s" % (rank, n, b"y" * (n % 5000)) for n in range(len(whole))]
        assert len(whole) > 100


def handle_has_output(home: Path) -> bool:
    return all(path.stat().st_size for path in home.glob("runs/*/node*/output/*.out"))


def _pid_of(handle: object, rank: int) -> int | None:
    workers = handle.status().workers  # type: ignore[attr-defined]
    return next((w.pid for w in workers if w.rank == rank and w.state == "running"), None)
