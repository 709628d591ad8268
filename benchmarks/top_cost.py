"""What `swarmtrain top` costs who is watched and who watches: processor time of the coordinator, and of the screen.

    python benchmarks/top_cost.py [SECONDS]     (30 seconds)

First a training of two ranks on this machine, for so long without the screen and for so long with it, looking once a
second. Then 300 ranks, of which six parts of a step are measured, on 38 nodes with 8 GPUs each: what one look at the
newest values of them all takes a coordinator's store, which happens every four seconds at most, and what drawing them
takes. Printed are parts of one core.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle
from swarmtrain.control.look.feed import OF_ALL
from swarmtrain.coordinator.store.series.head import Batch, Reading
from swarmtrain.coordinator.store.series.query import Query
from swarmtrain.coordinator.store.series.store import SeriesStore
from swarmtrain.launchers.local import LocalLauncher
from swarmtrain.protocol.codec import dump
from swarmtrain.protocol.requests import SeriesRequest
from swarmtrain.protocol.series.table import NODE

SCRIPT = """
import time, torch, torch.distributed as dist
from torch import nn
from swarmtrain.trainer import report

dist.init_process_group("gloo")
model = nn.parallel.DistributedDataParallel(nn.Linear(64, 64))
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
for step in range(1_000_000):
    time.sleep(0.05)
    loss = model(torch.randn(8, 64)).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    report(loss=loss, total_steps=1_000_000)
"""
PARTS = ("step", "data", "forward", "backward", "communication", "optimizer")
GPU = [each for each in NODE if each.name.startswith("gpu/")]
RANKS, EACH = 300, 8
LOOKS = 20


def burnt(pid: int) -> float:
    """Seconds of a processor that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def coordinator_of(handle: RunHandle) -> int:
    init = LocalLauncher().roots(handle.run)[""]
    (child,) = Path(f"/proc/{init}/task/{init}/children").read_text().split()
    return int(child)


def on_screen(handle: RunHandle) -> subprocess.Popen[bytes]:
    """The live screen, on a terminal that somebody reads."""
    master, slave = pty.openpty()
    words = [str(Path(sys.executable).with_name("swarmtrain")), "top", handle.id]
    screen = subprocess.Popen(words, stdin=slave, stdout=slave, env={**os.environ, "TERM": "xterm-256color"})
    os.close(slave)

    def read() -> None:
        try:
            while os.read(master, 1 << 16):
                pass
        except OSError:
            os.close(master)

    threading.Thread(target=read, daemon=True).start()
    return screen


def watched(seconds: float) -> None:
    """A real run, watched and not."""
    handle = Client("local").run(
        Job(script="train.py", files=("train.py",), nodes=2, env={"OMP_NUM_THREADS": "1"})
    )
    try:
        while (handle.status().step or 0) < 20:
            time.sleep(0.2)
        pid = coordinator_of(handle)
        begin = burnt(pid)
        time.sleep(seconds)
        alone = (burnt(pid) - begin) / seconds
        screen = on_screen(handle)
        time.sleep(3.0)  # it is imported and drawn
        begin, drawn = burnt(pid), burnt(screen.pid)
        time.sleep(seconds)
        print(
            f"a coordinator of 2 ranks: {alone:.2%} of a core alone, {(burnt(pid) - begin) / seconds:.2%} watched"
        )
        print(f"the screen itself: {(burnt(screen.pid) - drawn) / seconds:.2%}")
        screen.terminate()
        screen.wait()
    finally:
        handle.stop()


def many() -> None:
    """A look at hundreds of ranks."""
    with tempfile.TemporaryDirectory() as directory:
        store = SeriesStore(Path(directory))
        for rank in range(RANKS):
            values = {f"train/{part}_seconds": 0.01 for part in PARTS}
            readings = tuple(Reading(1e9 + at, at, values) for at in range(50))
            store.append(Batch(f"1-{rank}", 1, f"lab-{rank // EACH}", 1, (("rank", str(rank)),), readings))
        for number in range(-(-RANKS // EACH)):
            node = f"lab-{number}"
            values = {f"gpu/{each.name[4:]}{{gpu={gpu}}}": 0.5 for each in GPU for gpu in range(EACH)}
            values |= {each.name: 0.5 for each in NODE if each not in GPU}
            readings = tuple(Reading(1e9 + at, None, values) for at in range(50))
            store.append(Batch(f"{node}#1", 1, node, 0, (("node", node),), readings))
        request = SeriesRequest(OF_ALL, points=False)
        begin = time.process_time()
        for _ in range(LOOKS):
            count = sum(1 for each in Query(store, request, 1e9).answers() if json.dumps(dump(each)))
        print(
            f"a look at {count} series of {RANKS} ranks: {(time.process_time() - begin) / LOOKS * 1e3:.0f} ms"
        )
        store.close()


def main() -> None:
    """Print both."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    many()
    with tempfile.TemporaryDirectory() as directory:
        os.environ["SWARMTRAIN_HOME"] = str(Path(directory) / "home")
        os.chdir(directory)
        Path("train.py").write_text(SCRIPT)
        watched(seconds)


if __name__ == "__main__":
    main()
