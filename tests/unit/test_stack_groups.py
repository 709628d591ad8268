"""The stacks of all ranks laid together, and what a person reads of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from swarmtrain.control.look.stacks import ask_for_stacks, laid_together
from swarmtrain.control.views.stacks import lines
from swarmtrain.diagnosis.stacks import group
from swarmtrain.protocol.codec import dump as dump_message
from swarmtrain.protocol.evidence.seen import (
    FlightFinding,
    FlightRecord,
    FlightReport,
    RankStacks,
    StackReport,
)
from swarmtrain.protocol.replies import Done, RunReply
from swarmtrain.wire.frames import Message

LIBRARY = "/usr/lib/python3.11/site-packages/torch"


def dump(*frames: tuple[str, int, str], others: str = "") -> str:
    text = "".join(f'  File "{file}", line {line} in {function}\n' for file, line, function in frames)
    return f"{others}Current thread 0x00007f0000000001 (most recent call first):\n{text}"


def reduces(node: str) -> str:
    return dump(
        (f"{LIBRARY}/distributed/distributed_c10d.py", 3252, "all_reduce"),
        (f"{LIBRARY}/distributed/c10d_logger.py", 83, "wrapper"),
        (f"/home/u/.local/share/swarmtrain/data/t.1/{node}/work/train.py", 41, "step"),
        (f"/home/u/.local/share/swarmtrain/data/t.1/{node}/work/train.py", 60, "<module>"),
    )


SLEEPS = dump(("/swarmtrain/data/t.1/node1/work/train.py", 37, "main"))
LISTENS = (
    "Thread 0x00007f0000000002 (most recent call first):\n"
    '  File "/opt/bundle.zip/swarmtrain/worker/instruments/flight.py", line 70 in _serve\n\n'
)
PINS = f'Thread 0x00007f0000000003 [pin] (most recent call first):\n  File "{LIBRARY}/utils/pin.py", line 3 in run\n\n'
LOADS = dump(
    ("/swarmtrain/data/t.1/node0/work/data.py", 12, "__getitem__"),
    (f"{LIBRARY}/utils/data/_utils/worker.py", 349, "_worker_loop"),
    ("/usr/lib/python3.11/multiprocessing/process.py", 314, "_bootstrap"),
    ("/usr/lib/python3.11/multiprocessing/popen_fork.py", 71, "_launch"),
    ("/swarmtrain/data/t.1/node0/work/train.py", 55, "<module>"),
)
MISSING = FlightFinding("missing", [1], "0", 4, "all_reduce", "rank 1 is not in all_reduce #4")


def test_what_is_at_the_same_place_is_one_group_on_whatever_node_and_the_odd_one_is_first() -> None:
    reports = {0: StackReport(reduces("node0")), 1: StackReport(SLEEPS), 2: StackReport(reduces("node2"))}
    found = [(each.ranks, each.what, [frame.user for frame in each.frames]) for each in group(reports)]
    assert found == [([1], "main thread", [True]), ([0, 2], "main thread", [False, False, True, True])]


def test_the_rank_that_records_name_is_first_though_more_are_like_it() -> None:
    reports = {rank: StackReport(SLEEPS if rank < 3 else reduces("n")) for rank in range(4)}
    assert [each.ranks for each in group(reports)] == [[3], [0, 1, 2]]
    assert [each.ranks for each in group(reports, {1})] == [[0, 1, 2], [3]]


def test_other_threads_and_forked_processes_come_behind_and_our_own_thread_does_not() -> None:
    report = StackReport(dump(("/w/a.py", 1, "f"), others=LISTENS + PINS), children={70: LOADS, 71: LOADS})
    found = [(each.what, each.threads, each.frames[-1].function) for each in group({0: report})]
    assert found == [("main thread", 1, "f"), ("thread", 1, "run"), ("process", 2, "_bootstrap")]


def test_a_person_reads_the_finding_then_the_groups_then_what_is_not_known() -> None:
    ranks = [
        RankStacks(0, "a", StackReport(reduces("a"), flight=FlightReport(), children={7: LOADS}, unseen=2)),
        RankStacks(1, "b", StackReport(SLEEPS, flight=FlightReport(reason="it has made no process group"))),
        RankStacks(2, "c", StackReport(reduces("c"))),
        RankStacks(3, "d", StackReport(stopped=True, halted=True)),
        RankStacks(4, "e\x1b", None),
    ]
    assert lines(laid_together(ranks, [MISSING])) == [
        "rank 1 is not in all_reduce #4",
        "",
        "rank 1 on b: main thread",
        "  > train.py:37 in main",
        "",
        "ranks 0,2: main threads",
        "    distributed_c10d.py:3252 in all_reduce",
        "    (1 frame of libraries)",
        "  > train.py:41 in step",
        "  > train.py:60 in <module>",
        "",
        "rank 0 on a: 1 process that it has forked",
        "  > data.py:12 in __getitem__",
        "",
        "rank 0 on a: 2 processes below it have no handler that could be asked (started anew, or no Python)",
        "rank 1 on b: no records of collectives: it has made no process group",
        "rank 3 on d: its process is stopped by a signal, so it tells nothing",
        "rank 4 on 'e\\x1b': its node did not answer",
    ]


def test_threads_in_libraries_alone_are_counted_and_shown_with_all() -> None:
    found = laid_together([RankStacks(0, "a", StackReport(dump(("/w/a.py", 1, "f"), others=PINS)))], [])
    short, whole = lines(found), lines(found, whole=True)
    assert short[-1] == "(1 group of threads and processes in libraries alone: --all shows it)"
    assert whole[-2:] == ["rank 0 on a: 1 other thread", f"    {LIBRARY}/utils/pin.py:3 in run"]


class Coordinator:
    """A link to one that answers, at each question, what its ranks do next."""

    def __init__(self, *answers: list[RankStacks]) -> None:
        self._answers = iter(answers)
        self._replies: list[Message] = []
        self.asked: list[object] = []

    @contextlib.contextmanager
    def connect(self, run: object) -> Iterator[Coordinator]:
        yield self

    def send(self, message: Message) -> None:
        self.asked.append(message.get("children", False))
        self._replies = [dump_message(RunReply(stacks=next(self._answers), done=Done()))]

    def receive(self) -> Message | None:
        return self._replies.pop(0) if self._replies else None


def in_step(seq: int, *, behind: int) -> list[RankStacks]:
    """Ranks in their collective of that number, but one that is behind by so many."""
    reports = []
    for rank in range(3):
        begun = seq - behind * (rank == 1)
        records = [FlightRecord("0", each, "all_reduce", done=each < seq) for each in range(1, begun + 1)]
        reports.append(
            RankStacks(rank, "a", StackReport(SLEEPS, flight=FlightReport(records, {"0": [0, 1, 2]})))
        )
    return reports


def test_what_records_say_counts_if_they_say_it_again() -> None:
    hung = Coordinator(in_step(4, behind=1), in_step(4, behind=1))
    assert [each.ranks for each in ask_for_stacks(hung, None).findings] == [[1]]  # type: ignore[arg-type]
    assert hung.asked == [True, False]
    well = Coordinator(in_step(4, behind=1), in_step(5, behind=1))
    assert ask_for_stacks(well, None).findings == []  # type: ignore[arg-type]


def test_one_rank_alone_is_shown_when_it_is_asked_for() -> None:
    ranks = [RankStacks(0, "a", StackReport(SLEEPS)), RankStacks(1, "b", StackReport(reduces("b")))]
    found = laid_together(ranks, [MISSING]).of((1,))
    assert [each.ranks for each in found.groups] == [[1]] and found.findings == [MISSING]
    assert found.dump()["findings"] == [
        {"kind": "missing", "ranks": [1], "group": "0", "seq": 4, "op": "all_reduce", "text": MISSING.text}
    ]
