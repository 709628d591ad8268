"""Runs of which a diagnosis must claim nothing false: healthy ones, asked again and again, and unforeseen failures."""

from __future__ import annotations

import re
import shlex
import shutil
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from swarmtrain import Client, Diagnosis, Job, RunHandle

LOCAL = Path(__file__).parents[1] / "local"
# A long evaluation, a slow first step, a compiler, uneven nodes, downloads, and other ways to be slow or silent.
HEALTHY = (
    *(
        "sleeping_evaluation",
        "slow_first_step",
        "compiled_model",
        "slow_rank",
        "download",
        "data_preparation",
    ),
    *(
        "loader_workers",
        "uneven_inputs_joined",
        "gan",
        "subprocess_evaluation",
        "progress_bar",
        "elastic_loop",
    ),
)
FINE = frozenset({"healthy", "starting", "succeeded"})
TRUE_BESIDES: Mapping[str, Collection[str]] = {"slow_rank": {"slow-rank"}}
UNFORESEEN: Mapping[str, Collection[str]] = {
    "deep": {"exception"},
    "own_words": {"exception"},
    "own_signal": {"exit-code", "deterministic", "unknown"},  # it does so at each start
    "a_tool": {"exception"},
    "a_thread": {"exit-code", "unknown"},
    "a_peer": {"exception"},
}
_HEADER = re.compile(r"^# -j (?P<nodes>\d+)x(?P<workers>\d+)(?: : (?P<args>.*))?$", re.MULTILINE)


def healthy(name: str, every: float = 1.0) -> tuple[int, list[Diagnosis]]:
    """Run a healthy script from the current directory, and ask what is wrong all the while.

    Returns:
        how often it was asked, and what was claimed.
    """
    text = (LOCAL / "healthy" / f"{name}.py").read_text()
    Path(f"{name}.py").write_text(text)
    header = _HEADER.search(text)
    assert header is not None, f"{name} does not say how it is run"
    job = Job(
        name=name.replace("_", "-"),
        script=f"{name}.py",
        files=(f"{name}.py",),
        args=tuple(shlex.split(header["args"] or "")),
        nodes=int(header["nodes"]),
        workers_per_node=int(header["workers"]),
    )
    handle = Client(on="local").run(job)
    asked, claimed = 0, list[Diagnosis]()
    while True:
        over = handle.status().has_ended
        found = handle.explain()
        asked += 1
        if found.code not in FINE | set(TRUE_BESIDES.get(name, ())):
            claimed.append(found)
        if over:
            return asked, claimed
        time.sleep(every)


def unforeseen(how: str) -> Diagnosis:
    """Let a run fail in a way that nobody foresaw, and ask what it was."""
    shutil.copy(LOCAL / "scripts" / "unforeseen.py", "unforeseen.py")
    job = Job(
        name=how.replace("_", "-"),
        script="unforeseen.py",
        files=("unforeseen.py",),
        args=(how,),
        nodes=2,
        workers_per_node=1,
    )
    handle: RunHandle = Client(on="local").run(job)
    handle.wait(timeout=120)
    return handle.explain()


def false_of(how: str, found: Diagnosis) -> str:
    """What a diagnosis of an unforeseen failure claims that is not so; empty where it claims nothing false."""
    if found.code not in UNFORESEEN[how]:
        return f"{found.code}: {found.cause}"
    return "" if found.rank == 1 else f"rank {found.rank} is not to blame"
