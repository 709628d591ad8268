"""A command beside a rank is given much, takes it late, and nobody on the way has to hold it."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from healed_local import agent_of
from waiting import until

from swarmtrain import Client, Job
from swarmtrain.control.exec_session import Streams

SIZE = 64 << 20
MOST = 16 << 20  # that may be on its way

LATE = (
    "import sys, time; time.sleep(3); print(sum(map(len, iter(lambda: sys.stdin.buffer.read(1 << 16), b''))))"
)


def most_memory(pid: int) -> int:
    """The most that a process has ever had at a time, in bytes."""
    (line,) = (
        each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("VmHWM")
    )
    return int(line.split()[1]) << 10


def test_a_command_that_reads_late_gets_all_of_a_large_input_and_nobody_holds_it(
    home: Path, tmp_path: Path
) -> None:
    handle = Client("local").run(Job(command=["sleep", "600"], name="late"))
    try:
        until(lambda: "started" in [event.kind for event in handle.events()])
        pids = [agent_of(handle, node) for node in ("", "node0")]
        before = [most_memory(pid) for pid in pids]
        said = io.BytesIO()
        source = io.BytesIO(bytes(SIZE))
        assert handle.exec([sys.executable, "-c", LATE], rank=0, streams=Streams(source, said, said)) == 0
        assert said.getvalue() == f"{SIZE}\n".encode()
        grown = [most_memory(pid) - was for pid, was in zip(pids, before, strict=True)]
        assert max(grown) < MOST, grown
    finally:
        handle.remove(force=True)
