"""Who a hanging training waits for, and who slows one down.

The dumps in tests/unit/hangs are real: tests/local/test_worker_hangs.py has recorded them, of three ranks over gloo.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from swarmtrain.coordinator.core.hang import Rank, Straggler, culprit, straggler
from swarmtrain.coordinator.core.stack_dumps import place
from swarmtrain.coordinator.run.stall import outlook
from swarmtrain.wire.pulse import Activity

HANGS = Path(__file__).parent / "hangs"
_RANK = re.compile(r"^rank (\d+) step (\d+) mark (\d+) stopped (True|False)\n", re.MULTILINE)


def recorded(name: str) -> list[Rank]:
    _, *parts = _RANK.split((HANGS / f"{name}.txt").read_text())
    return [
        Rank(int(rank), int(step), int(mark), 0, stopped == "True", stack.strip("\n"))
        for rank, step, mark, stopped, stack in zip(*[iter(parts)] * 5, strict=True)
    ]


def blind(group: list[Rank]) -> list[Rank]:
    """The same, of a script whose steps nobody counts."""
    return [replace(each, step=0, mark=0) for each in group]


OTHERS = "while the others wait in backward (hangs.py:61 in train)"
CASES = [
    ("between", (1,), f"rank 1 is at hangs.py:57 in train, {OTHERS}", "hangs.py:57 in train"),
    ("forward", (1,), f"rank 1 is at hangs.py:36 in forward, {OTHERS}", "hangs.py:36 in forward"),
    (
        "loader",
        (1,),
        f"rank 1 is in the data loader (hangs.py:23 in __getitem__), {OTHERS}",
        "hangs.py:23 in __getitem__",
    ),
    (
        "loader-process",
        (1,),
        f"rank 1 is in the data loader (hangs.py:54 in train), {OTHERS}",
        "hangs.py:54 in train",
    ),
    (
        "left",
        (1,),
        f"rank 1 waits in barrier (hangs.py:68 in train), {OTHERS}: not all ranks call the same collectives",
        "hangs.py:68 in train",
    ),
    ("stopped", (1,), "rank 1 does not run: its process is stopped (SIGSTOP, a debugger) or frozen", ""),
    ("skipped", (), "all ranks wait in backward (hangs.py:61 in train)", "hangs.py:61 in train"),
]


@pytest.mark.parametrize(("name", "ranks", "reason", "extract"), CASES)
def test_a_real_hang_is_explained(name: str, ranks: tuple[int, ...], reason: str, extract: str) -> None:
    for group in (recorded(name), recorded(name)[::-1]):
        verdict = culprit(group)
        assert (verdict.ranks, verdict.reason, verdict.extract) == (ranks, reason, extract)


@pytest.mark.parametrize(("name", "ranks", "reason", "extract"), CASES)
def test_stacks_alone_explain_as_much(name: str, ranks: tuple[int, ...], reason: str, extract: str) -> None:
    assert culprit(blind(recorded(name))).ranks == ranks


@pytest.mark.parametrize(("name", "ranks"), [(case[0], case[1]) for case in CASES if case[0] != "stopped"])
def test_progress_alone_names_the_same_rank(name: str, ranks: tuple[int, ...]) -> None:
    verdict = culprit([replace(each, stack="") for each in recorded(name)])
    assert verdict.ranks == ranks
    assert verdict.extract == ""


def test_fewer_steps_weigh_more_than_the_stack() -> None:
    group = recorded("between")
    group[2] = replace(group[2], step=4, stack=group[1].stack)
    verdict = culprit(group)
    assert verdict.ranks == (2,)
    assert verdict.reason == "rank 2 has made 4 steps, the others 5, and is at hangs.py:57 in train"


def test_what_the_rank_says_of_itself_is_told() -> None:
    group = recorded("between")
    group[1] = replace(group[1], activity=Activity.EVALUATION)
    assert culprit(group).reason.endswith("(it is evaluating)")
    assert culprit([replace(group[1], activity=99), group[0]]).ranks == (1,)


def test_several_at_fault_are_named_together() -> None:
    group = recorded("between")
    group.append(replace(group[1], rank=3))
    verdict = culprit(group)
    assert verdict.ranks == (1, 3)
    assert verdict.reason.startswith("ranks 1 and 3 are at hangs.py:57 in train, while")


def test_the_one_that_went_ahead_is_at_fault_when_all_others_wait_for_it_behind() -> None:
    behind, _, ahead = recorded("left")[1], recorded("left")[0], recorded("left")[2]
    group = [replace(behind, rank=0), ahead, replace(behind, rank=1)]
    verdict = culprit(group)
    assert verdict.ranks == (2,)
    assert verdict.reason == (
        "rank 2 waits in backward (hangs.py:61 in train), while the others wait in barrier (hangs.py:68 in train): "
        "not all ranks call the same collectives"
    )


def test_of_two_that_wait_in_different_places_without_progress_nobody_is_named() -> None:
    first, second, _ = blind(recorded("left"))
    verdict = culprit([first, second])
    assert verdict.ranks == ()
    assert verdict.reason == (
        "rank 0 waits in backward (hangs.py:61 in train); rank 1 waits in barrier (hangs.py:68 in train)"
    )


def test_nothing_known_is_said() -> None:
    assert (
        culprit([Rank(0, 5, 10), Rank(1, 5, 10)]).reason == "no rank makes steps, and none tells where it is"
    )
    assert culprit([]).ranks == ()
    (only,) = recorded("between")[1:2]
    assert culprit([only]).reason == "all ranks are at hangs.py:57 in train"


TORCH = "/usr/lib/python3/dist-packages/torch"


@pytest.mark.parametrize(
    ("innermost", "waits"),
    [
        (f"{TORCH}/distributed/distributed_c10d.py:all_reduce", "all_reduce"),
        (f"{TORCH}/distributed/_functional_collectives.py:wait_tensor", "wait_tensor"),
        (f"{TORCH}/distributed/rendezvous.py:_create_c10d_store", "_create_c10d_store"),
        (f"{TORCH}/distributed/fsdp/_fully_shard/_fsdp_param_group.py:unshard", "unshard"),
        (
            f"{TORCH}/nn/parallel/distributed.py:_distributed_broadcast_coalesced",
            "the forward pass of DistributedDataParallel",
        ),
        (f"{TORCH}/autograd/graph.py:_engine_run_backward", "backward"),
        (f"{TORCH}/cuda/__init__.py:synchronize", "synchronize"),
        (f"{TORCH}/distributed/optim/zero_redundancy_optimizer.py:step", None),
        (f"{TORCH}/distributed/checkpoint/filesystem.py:write_data", None),
        (f"{TORCH}/nn/modules/linear.py:forward", None),
        ("/usr/lib/python3.12/threading.py:wait", None),
        ("/home/ada/train.py:step", None),
    ],
)
def test_places_that_wait_are_known(innermost: str, waits: str | None) -> None:
    file, function = innermost.split(":")
    at = place(
        "Thread 0x00007f3a1c7fe6c0 [pt_main_thread] (most recent call first):\n"
        f'  File "{file}", line 7 in {function}\n'
        '  File "/home/ada/train.py", line 9 in main\n'
    )
    assert at is not None
    assert at.waits == waits
    assert at.user is not None and at.user.file == "/home/ada/train.py"


def test_a_script_that_has_ended_is_nowhere() -> None:
    at = place(
        "Current thread 0x00007f3a1c7fe6c0 (most recent call first):\n"
        '  File "/usr/lib/python3.12/threading.py", line 1624 in _shutdown\n'
        '  File "/opt/swarmtrain/bundle.zip/swarmtrain/worker/user.py", line 100 in run_and_end\n'
    )
    assert at is not None
    assert (at.user, at.of(False)) == (None, "is at the end of the script")
    assert place("") is None and place("garbage\n") is None


@pytest.mark.parametrize(
    ("busy", "step", "steps", "named"),
    [
        ({0: 0.1, 1: 0.4, 2: 0.1}, 0.5, 50, (1, 4.0)),
        ({0: 0.1, 1: 0.4}, 0.5, 20, (1, 4.0)),
        ({0: 0.1, 1: 0.4, 2: 0.1}, 0.5, 19, None),  # too few steps
        ({0: 0.1, 1: 0.15, 2: 0.1}, 0.2, 50, None),  # not more than 1.5 times
        ({0: 0.01, 1: 0.09, 2: 0.01}, 0.5, 50, None),  # the step is spent otherwise
        ({0: 0.4, 1: 0.4, 2: 0.1}, 0.5, 50, (0, 1.6)),
        ({0: 0.3, 1: 0.3, 2: 0.3, 3: 0.1}, 0.4, 50, None),  # one that is fast makes the others no stragglers
        ({0: 0.0, 1: 0.4}, 0.5, 50, None),  # the other's work is not timed
        ({0: 0.4}, 0.5, 50, None),
        ({}, 0.5, 50, None),
    ],
)
def test_a_straggler_is_named_when_it_matters(
    busy: dict[int, float], step: float, steps: int, named: tuple[int, float] | None
) -> None:
    found = straggler(busy, step, steps)
    assert (found and (found.rank, found.factor)) == named


def test_a_straggler_is_described() -> None:
    assert straggler({0: 0.11, 1: 1.32, 2: 0.13}, 1.5, 200) == Straggler(
        1, 11.0, "rank 1 takes 1.3 s a step for its own work, 11.0 times as long as the others (120 ms)"
    )


WORKS = (980.0, 1, "processor time")


@pytest.mark.parametrize(
    ("alive", "quiet", "limit", "sure", "said"),
    [
        (None, 30.0, 300.0, False, ""),
        (WORKS, 30.0, 300.0, False, "; rank 1 works (processor time)"),
        (
            WORKS,
            300.0,
            300.0,
            True,
            "; rank 1 works (processor time), so it is left alone. The process group's own",
        ),
        ((900.0, 1, "processor time"), 300.0, 300.0, True, ""),  # it is begun anew, and that is told then
        (
            None,
            300.0,
            300.0,
            False,
            "; no rank shows a sign of life. The script takes no snapshots, so it is not",
        ),
        (WORKS, 30.0, None, False, ""),  # a person's limit is kept whatever else moves
    ],
)
def test_what_becomes_of_a_stand_still_is_told(
    alive: tuple[float, int, str] | None, quiet: float, limit: float | None, sure: bool, said: str
) -> None:
    told = outlook(alive, 1_000.0, quiet, limit, sure)
    assert told.startswith(said) and bool(told) is bool(said)
