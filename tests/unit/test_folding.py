"""What only echoes another rank's failure is folded; nothing else is, and nothing is held back for long."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmtrain.control.views.folding import HOLD, Folded, Folding, RootCauses
from swarmtrain.protocol.journal.event import Event
from swarmtrain.protocol.journal.events import load
from swarmtrain.protocol.replies import Line

CLOSED = (
    "RuntimeError: [/__w/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer "
    "[127.0.0.1]:57541. This is typically caused by a remote worker crashing."
)
FRAMES = [
    "Traceback (most recent call last):",
    '  File "/data/t.1/node0/work/train.py", line 11, in <module>',
    "    step(i)",
    "    ^^^^^^^",
    '  File "/data/t.1/node0/work/train.py", line 9, in step',
    "    dist.all_reduce(t)",
    '  File "/usr/lib/python3.11/site-packages/torch/distributed/distributed_c10d.py", line 3252, in all_reduce',
    "    work.wait()",
]
ECHO = [*FRAMES, CLOSED]
CAUSE = [*FRAMES[:5], "    raise ValueError", "ValueError: loss is", "not a number"]
DURING = ["", "During handling of the above exception, another exception occurred:", ""]
SAID = "RuntimeError: Connection closed by peer [127.0.0.1]:57541, in train.py:9 in step"


def lines(texts: list[str], rank: int = 0, time: float = 1.0) -> list[Line]:
    return [Line(time, 1, rank, "node0", text) for text in texts]


def shown(given: list[Line], *, spared: int | None = None) -> list[str | Folded]:
    folding = Folding(lambda generation, rank: rank == spared)
    found = [*folding.take(given, 1.0), *folding.rest()]
    return [each if isinstance(each, Folded) else each.text for each in found]


def test_an_echo_becomes_a_word_and_what_is_around_it_stays() -> None:
    found = shown(lines(["before", *ECHO, "after"]))
    assert found == ["before", "after", Folded((0,), len(ECHO), SAID)]


def test_echoes_of_several_ranks_become_one_word_that_says_how_to_see_them() -> None:
    prefixed = [f"[rank2]: {text}" for text in ECHO]  # as torch prints it
    mixed = [each for two in zip(lines(ECHO, 1), lines(prefixed, 2), strict=True) for each in two]
    assert shown([*mixed, *lines(ECHO, 4)]) == [Folded((1, 2, 4), 3 * len(ECHO), SAID)]
    assert Folded((1, 2, 4), 27, "E").sentence("t.1") == (
        "ranks 1-2,4 only echo another rank's failure (E); `swarmtrain logs t.1 --rank 1-2,4 --all` shows 27 lines more"
    )
    assert Folded((1,), 9, "E").sentence("t.1").startswith("rank 1 only echoes another")


def test_the_cause_comes_first_and_whole_though_its_echo_came_before() -> None:
    given = [*lines(ECHO, 0), *lines(CAUSE, 1), *lines(ECHO, 2)]
    assert shown(given) == [*CAUSE, Folded((0, 2), 2 * len(ECHO), SAID)]


@pytest.mark.parametrize(
    "texts",
    [
        CAUSE,
        [*ECHO, *DURING, *CAUSE],
        [*CAUSE, *DURING, *ECHO],
        [*ECHO, *DURING, *CAUSE, *DURING, *ECHO],
        FRAMES,
        [*FRAMES, "", CLOSED],
        [*FRAMES, "ConnectionResetError: [Errno 104] Connection reset by peer"],
        [*FRAMES, "RuntimeError: NCCL error: Duplicate GPU detected"],
        [*FRAMES, "Connection closed by peer"],
        [f"log: {CLOSED}", "Broken pipe", "Socket Timeout"],
        ["terminate called after throwing an instance of 'std::bad_alloc'", "  what():  std::bad_alloc"],
        ["terminate called without an active exception"],
    ],
)
def test_what_is_no_echo_alone_is_shown_whole(texts: list[str]) -> None:
    assert shown(lines(texts)) == texts


@pytest.mark.parametrize(
    "texts",
    [
        [*ECHO, *DURING, *ECHO],
        [
            *ECHO,
            "Exception raised from wait at unbound_buffer.cc:80 (most recent call first):",
            "frame #0: c10::E",
        ],
        [
            "terminate called after throwing an instance of 'gloo::IoException'",
            "  what():  [gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.0.0.2]:1",
        ],
        [f"\x1b[31m{text}\x1b[0m" for text in ECHO],
    ],
)
def test_what_is_an_echo_as_a_whole_is_folded_as_a_whole(texts: list[str]) -> None:
    (found,) = shown(lines(texts))
    assert isinstance(found, Folded) and found.lines == len(texts)


def test_the_only_words_about_a_failure_are_shown() -> None:
    given = [*lines(ECHO, 0), *lines(ECHO, 1)]
    assert shown(given, spared=1) == [*ECHO, Folded((0,), len(ECHO), SAID)]


def test_nothing_is_held_back_for_longer_than_a_moment() -> None:
    folding = Folding(lambda generation, rank: False)
    assert list(folding.take(lines(FRAMES), 10.0)) == []
    assert folding.due() == 10.0 + HOLD < 11.0
    assert list(folding.settle(10.0 + HOLD - 0.1)) == []
    assert list(folding.settle(10.0 + HOLD)) == lines(FRAMES)
    assert list(folding.take(lines([CLOSED]), 10.8)) == lines([CLOSED])
    assert folding.due() is None


def test_echoes_wait_for_each_other_no_longer_than_that() -> None:
    folding = Folding(lambda generation, rank: False)
    assert list(folding.take(lines(ECHO, 0), 10.0)) == []
    assert list(folding.take(lines(ECHO, 1), 10.5)) == []
    assert list(folding.settle(10.0 + HOLD)) == [Folded((0, 1), 2 * len(ECHO), SAID)]


def test_lines_of_long_ago_go_by_their_own_time() -> None:
    folding = Folding(lambda generation, rank: False)
    given = [*lines(FRAMES, 0, 1.0), *lines(["tick"], 1, 1.0 + HOLD), *lines(ECHO, 2, 5.0)]
    assert [*folding.take(given), *folding.rest()] == [
        *lines(FRAMES, 0, 1.0),
        *lines(["tick"], 1, 1.0 + HOLD),
        Folded((2,), len(ECHO), SAID),
    ]


def test_a_million_lines_cost_little_more_than_to_look_at_them() -> None:
    given = lines(["loss 0.123 at step 12345, 120 samples a second"] * 100_000)
    began = time.process_time()
    assert sum(1 for _ in Folding(lambda generation, rank: False).take(given, 1.0)) == len(given)
    assert time.process_time() - began < 1.0


_SOME = st.sampled_from([*CAUSE, *ECHO, *DURING, "loss 0.1", "frame #0: x", "  what():  Broken pipe"])


@given(st.lists(st.tuples(st.integers(0, 2), _SOME), max_size=60), st.integers(1, 60))
def test_no_line_is_lost_doubled_or_out_of_its_ranks_order(given: list[tuple[int, str]], cut: int) -> None:
    every = [Line(float(number), 1, rank, "n", text) for number, (rank, text) in enumerate(given)]
    folding = Folding(lambda generation, rank: False)
    pieces = [every[at : at + cut] for at in range(0, len(every), cut)]
    found = [each for piece in pieces for each in folding.take(piece, 1.0)]
    found += folding.rest()
    for rank in range(3):
        mine = [each for each in found if isinstance(each, Line) and each.rank == rank]
        assert mine == sorted(mine, key=lambda line: line.time)
        assert len(set(mine)) == len(mine)
    assert sum(1 if isinstance(each, Line) else each.lines for each in found) == len(every)
    assert not [each for each in every if each.text in ("loss 0.1", *CAUSE[-2:]) and each not in found]


def event(kind: str, **more: object) -> Event:
    return load({"seq": 1, "t": 1.0, "kind": kind, "text": "", **more})


def formed(generation: int) -> Event:
    master = {"node": "a", "address": "", "port": 1}
    return event("generation", generation=generation, parts={}, backend="gloo", master=master)


def failed(rank: int | None, summary: str) -> Event:
    kind = "node" if rank is None else "exception"
    return event(
        "failure", failure={"kind": kind, "node": "a", "time": 1.0, "summary": summary, "rank": rank}
    )


def test_of_failures_that_are_echoes_the_first_is_spared() -> None:
    causes = RootCauses([formed(1), failed(2, CLOSED), failed(0, CLOSED), formed(2)])
    assert [causes.spares(1, rank) for rank in range(3)] == [False, False, True]
    assert causes.knows(1) and not causes.knows(2) and not causes.spares(2, 2)


def test_where_anything_else_tells_of_the_failure_no_echo_is_spared() -> None:
    for other in (failed(1, "ValueError: no"), failed(None, "was lost")):
        for heard in ([other, failed(2, CLOSED)], [failed(2, CLOSED), other]):
            causes = RootCauses([formed(1), *heard])
            assert not any(causes.spares(1, rank) for rank in range(3))
