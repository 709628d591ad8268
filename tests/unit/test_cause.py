"""Which of many failures is the root cause."""

from __future__ import annotations

import signal

import pytest

from swarmtrain.coordinator.core.root_cause import (
    describe_exit,
    early_end,
    root_cause,
    with_evidence,
)
from swarmtrain.diagnosis.echoes import is_consequence
from swarmtrain.protocol.facts import Failure

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


MISMATCH = (
    "Received data size doesn't match expected size. Is there a distributed collective mismatch in your code?"
)


@pytest.mark.parametrize(
    "words",
    [
        f"RuntimeError: [/gloo/transport/tcp/pair.cc:446] {MISMATCH}",
        "RuntimeError: [enforce fail at /gloo/transport/tcp/pair.cc:446] op.preamble.length <= op.nbytes. 24 vs 16",
        "RuntimeError: Detected mismatch between collectives on ranks. Rank 1 is running collective: ALLREDUCE",
        (
            "torch.distributed.DistBackendError: NCCL error in: x.cpp:3690, invalid usage, ncclInvalidUsage: ... "
            "Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 1000"
        ),
        "torch.distributed.DistBackendError: NCCL error in: x.cpp:2, unhandled cuda error, ncclUnhandledCudaError",
        "ConnectionResetError: [Errno 104] Connection reset by peer",  # Python's own: the script's, not torch's
        "BrokenPipeError: [Errno 32] Broken pipe",
        "OSError: [Errno 28] No space left on device",
        "ValueError: no data in /data/train",
        "FileNotFoundError: [Errno 2] No such file or directory: 'gloo.data'",
    ],
)
def test_words_that_name_a_mistake_are_never_an_echo(words: str) -> None:
    mistake = failure("exception", 1, 11.0, words)
    assert not is_consequence(mistake)
    assert root_cause([failure("exception", 0, 10.0, GLOO), mistake])[0] is mistake


@pytest.mark.parametrize(
    "words",
    [
        GLOO,
        (
            "RuntimeError: [/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 20000ms for recv operation to "
            "complete"
        ),
        "RuntimeError: Application timeout caused pair closure",
        "torch.distributed.DistNetworkError: failed to recv, got 0 bytes",
        (
            "torch.distributed.DistNetworkError: Failed to recv, got 0 bytes. Connection was likely closed. Did the "
            "remote server shutdown or crash?"
        ),
        "torch.distributed.DistBackendError: NCCL error in: x.cpp:1, remote process exited, ncclRemoteError",
    ],
)
def test_what_torch_says_of_a_peer_that_has_gone_is_an_echo(words: str) -> None:
    assert is_consequence(failure("exception", 0, 1.0, words))


def test_an_abort_with_a_mistake_in_its_last_words_is_the_cause_and_says_it() -> None:
    log = ["terminate called after throwing an instance of 'gloo::EnforceNotMet'", f"  what():  {MISMATCH}"]
    aborted = failure("signal", 0, 10.4, "killed by SIGABRT", signal=int(signal.SIGABRT))
    reset = failure("exception", 1, 10.1, "RuntimeError: [x.cc:1] Read error: Connection reset by peer")
    first, second = root_cause([reset, with_evidence(aborted, log)])
    assert (first.rank, second.rank) == (0, 1)
    assert first.summary == f"killed by SIGABRT: {MISMATCH}"
    assert root_cause([reset, with_evidence(aborted, [log[0], f"  what():  {GLOO}"])])[0] is reset


def test_a_rank_that_ended_too_early_is_the_cause_of_echoes_and_of_nothing_else() -> None:
    early = early_end(1, "lab-1", 10.0, 12)
    assert early.sentence() == "rank 1 on lab-1: ended with 0 after 12 steps while the others went on"
    assert early_end(1, "lab-1", 10.0, None).summary == "ended with 0 while the others went on"
    echo = failure("exception", 0, 9.9, GLOO)
    assert root_cause([echo, early]) == [early, echo]
    aborted = failure("signal", 0, 10.1, "killed by SIGABRT", signal=int(signal.SIGABRT), log=["epoch 1"])
    assert root_cause([aborted, early])[0] is early
    crashed = with_evidence(aborted, ["epoch 1", "free(): invalid pointer"])
    assert root_cause([crashed, early])[0] is crashed
    planted = failure("exception", 2, 12.0, "ValueError: planted")
    assert root_cause([echo, early, planted]) == [planted, early, echo]
