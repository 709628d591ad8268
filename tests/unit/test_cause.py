"""Which of many failures is the root cause."""

from __future__ import annotations

import signal

from swarmtrain.coordinator.cause import Failure, describe_exit, is_consequence, root_cause

GLOO = (
    "RuntimeError: [gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.0.1.3]:34538. "
    "This is typically caused by a remote worker crashing."
)


def failure(kind: str, rank: int, time: float, summary: str = "", **fields: object) -> Failure:
    return Failure(kind, f"lab-{rank}", time, summary, rank, **fields)  # type: ignore[arg-type]


def test_a_broken_collective_is_a_consequence_even_when_it_is_reported_first() -> None:
    planted = failure("exception", 1, 10.2, "ValueError: planted")
    first, second = root_cause([failure("exception", 0, 10.0, GLOO), planted])
    assert first is planted
    assert is_consequence(second)


def test_a_quiet_exit_beats_a_loud_consequence() -> None:
    quiet = failure("exit", 1, 10.5, "exited with code 3", code=3)
    assert root_cause([failure("exception", 0, 10.1, GLOO), quiet])[0] is quiet


def test_a_kill_beats_a_consequence_without_an_error_file() -> None:
    killed = failure("signal", 2, 10.5, "killed by SIGKILL", signal=int(signal.SIGKILL))
    others = [failure("exit", 0, 10.0, "exited with code 1", code=1, log=["noise", GLOO])]
    assert root_cause([*others, killed])[0] is killed


def test_an_abort_of_the_watchdog_is_a_consequence() -> None:
    aborted = failure(
        "signal", 0, 1.0, "killed by SIGABRT", signal=int(signal.SIGABRT), log=["NCCL error: x"]
    )
    assert is_consequence(aborted)
    assert not is_consequence(
        failure("signal", 0, 1.0, "killed by SIGABRT", signal=int(signal.SIGABRT), log=["oops"])
    )


def test_among_equals_the_earliest_wins() -> None:
    early, late = failure("exception", 3, 1.0, "KeyError: 'x'"), failure("exception", 0, 2.0, "KeyError: 'x'")
    assert root_cause([late, early])[0] is early


def test_a_single_consequence_is_still_the_cause() -> None:
    only = failure("exception", 0, 1.0, GLOO)
    assert root_cause([only]) == [only]


def test_exits_in_words() -> None:
    assert describe_exit(3, None) == "exited with code 3"
    assert describe_exit(None, 11) == "killed by SIGSEGV"
    assert describe_exit(None, 99) == "killed by signal 99"


def test_a_lost_node_is_the_cause_of_what_broke_with_it() -> None:
    lost = Failure("node", "lab-2", 11.0, "was lost with rank 2: its connection closed")
    assert root_cause([failure("exception", 0, 10.9, GLOO), lost])[0] is lost
