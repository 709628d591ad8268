"""What agents and the coordinator say of many files: in messages that fit into a frame, and put together again."""

from __future__ import annotations

from functools import reduce

from swarmtrain.coordinator.core.sharing.large import too_large
from swarmtrain.protocol.codec import dump
from swarmtrain.protocol.shared_files import (
    MOST_OF_ONE,
    BringShared,
    HeldVersion,
    SetReport,
    SetVersion,
    SharedFile,
    SharedReport,
)
from swarmtrain.wire import frames

FILES = 5_000
LONGEST = "\x01" * 240  # six bytes each, as JSON has them


def files(count: int, prefix: str = LONGEST) -> list[SharedFile]:
    return [SharedFile(f"{prefix}{number:05}", 1, f"{number:064}", 1.5, 1, 0) for number in range(count)]


def report(path: str) -> SetReport:
    """As large as that of one set can be."""
    version = SetVersion(path, 1, 1, files(MOST_OF_ONE))
    whole = SetVersion(path, 1, 2, files(MOST_OF_ONE))
    held = [HeldVersion(version, ["store"] * MOST_OF_ONE), HeldVersion(whole, ["work"] * MOST_OF_ONE)]
    names = [file.name for file in files(MOST_OF_ONE // 2)]
    return SetReport(path, held, files(MOST_OF_ONE), names, names, writing=False)


def test_a_report_of_as_many_files_as_there_may_be_is_sent_in_parts_that_fit() -> None:
    said = SharedReport(7, "10.0.0.1:1", 3, [report(f"c{n}") for n in range(FILES // MOST_OF_ONE)], True, 9.5)
    parts = list(said.parts())
    assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
    for part in parts:
        frames.pack(dump(part))
    assert reduce(SharedReport.joined, parts) == said


def test_an_order_of_as_many_files_as_there_may_be_is_sent_in_parts_that_fit() -> None:
    versions = [SetVersion(f"c{n}", 1, 1, files(MOST_OF_ONE)) for n in range(FILES // MOST_OF_ONE)]
    sources = {file.sha256: [f"10.0.0.{n}:65535" for n in range(4)] for file in files(MOST_OF_ONE)}
    order = BringShared(7, "place", versions, sources)
    parts = list(order.parts())
    for part in parts:
        frames.pack(dump(part))
    assert reduce(BringShared.joined, parts) == order


def test_what_is_small_is_one_message_and_so_is_nothing() -> None:
    small = SharedReport(1, "", 1, [SetReport(f"{n}", [], files(1, "a"), [], [], False) for n in range(9)])
    assert list(small.parts()) == [small]
    nothing = SharedReport(1, "", 1, [])
    assert list(nothing.parts()) == [nothing]


def test_a_set_that_nodes_have_made_too_large_together_is_named() -> None:
    half = MOST_OF_ONE // 2

    def node(prefix: str, count: int) -> list[SetReport]:
        return [SetReport("c", [], files(count, prefix), [], [], False)]

    assert too_large([node("a", half), node("b", half)]) == []
    assert too_large([node("a", half), node("a", half + 1)]) == []
    assert too_large([node("a", half), node("b", half + 1)]) == ["c"]


def test_files_of_an_older_version_make_no_set_too_large() -> None:
    versions = [SetVersion("c", 1, number, files(600, f"{number}")) for number in (1, 2)]
    reports = [[SetReport("c", [HeldVersion(each, ["work"] * 600)], [], [], [], False)] for each in versions]
    assert too_large(reports) == []
