"""A soak of lives, not of one run: afterwards nothing is lost, nothing is left, and nothing burns."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from burning import burnt, told
from lives import Clock, ThisMachine, drawn, live_for
from waiting import processes_of

from swarmtrain import Client

_NOBODY = 65534


def check_nobody_gets_in(home: Path) -> None:
    """Another user of this machine neither reads nor speaks to what is here."""
    paths = [str(path) for path in home.rglob("*") if path.name in ("ticket.json", "journal.jsonl", "socket")]
    assert paths
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(_NOBODY)
            os.setuid(_NOBODY)
            code = sum(os.access(path, os.R_OK) or os.access(path, os.W_OK) for path in paths)
        finally:
            os._exit(min(code, 100))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def check_rest(directory: Path, seconds: float) -> None:
    """All runs have ended: what they left, if anything, is at rest, and so is this client."""
    shares = burnt((int(each.split()[0]) for each in processes_of(directory)), seconds)
    assert sum(shares.values()) < 0.001, told(shares)


@pytest.mark.parametrize(
    ("seconds", "rest"),
    [pytest.param(60, 10, id="a minute"), pytest.param(3300, 60, id="an hour", marks=pytest.mark.long)],
)
@pytest.mark.timeout(4500)
def test_lives_leave_nothing_behind_and_lose_nothing(
    home: Path, tmp_path: Path, seconds: float, rest: float
) -> None:
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    apple, others = ThisMachine(home, Clock(tmp_path)), ThisMachine(home)
    seed = int(os.environ.get("SWARMTRAIN_TEST_SEED", "9"))
    jobs = drawn(seed, tmp_path, {"apple": apple, "pear": others, "plum": others})
    live_for(seconds, jobs)
    for job in jobs:
        job.load_all()
    if os.getuid() == 0:
        check_nobody_gets_in(home)
    check_rest(tmp_path, rest)
    for handle in Client("local").runs():
        handle.remove()
    assert not list((home / "runs").iterdir()) and not list((home / "data").iterdir())
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors
