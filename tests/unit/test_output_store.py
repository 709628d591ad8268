"""The output store: exactly once, whole lines, any bytes."""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from swarmtrain.coordinator.store import drawing
from swarmtrain.coordinator.store.journal import Journal
from swarmtrain.coordinator.store.metrics import MetricsStore, TrainingPosition
from swarmtrain.coordinator.store.output import Filter, OutputStore, Reader, in_order, tail
from swarmtrain.protocol.journal.lines import read_events
from swarmtrain.protocol.journal.remarks import Chosen
from swarmtrain.protocol.replies import Line
from swarmtrain.protocol.status import Resumed, SnapshotState
from swarmtrain.wire import frames
from swarmtrain.wire.disk.records import Record, Records, RecordsReader

Store = TypeVar("Store", Journal, OutputStore, MetricsStore)


class Opened(Protocol):
    """Opens a store for the length of a test."""

    def __call__(self, store: Store) -> Store: ...


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Closes what it was given when the test is over."""
    with ExitStack() as stack:

        def open_it(store: Store) -> Store:
            return stack.enter_context(closing(store))

        yield open_it


@pytest.fixture
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals that need no disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def lines(path: Path, wanted: Filter = Filter()) -> list[tuple[int, str]]:  # noqa: B008 - frozen
    reader = Reader(path, wanted)
    return [(rank, text) for _, _, rank, _, text in (*reader.lines(), *reader.rest())]


def test_a_piece_that_comes_twice_is_stored_once(tmp_path: Path, opened: Opened) -> None:
    store = opened(OutputStore(tmp_path / "output.jsonl"))
    assert store.append((1, 0), "a", 1.0, 0, "one\ntwo\n") == 8
    assert store.append((1, 0), "a", 1.1, 0, "one\ntwo\n") == 8
    assert store.append((1, 0), "a", 1.2, 4, "two\nthree\n") == 14
    assert lines(store.path) == [(0, "one"), (0, "two"), (0, "three")]


def test_a_gap_is_not_stored_but_asked_for_again(tmp_path: Path, opened: Opened) -> None:
    store = opened(OutputStore(tmp_path / "output.jsonl"))
    assert store.append((1, 0), "a", 1.0, 5, "later\n") == 0
    assert lines(store.path) == []


def test_offsets_survive_a_restart_and_a_torn_record(tmp_path: Path, opened: Opened) -> None:
    path = tmp_path / "output.jsonl"
    store = opened(OutputStore(path))
    store.append((1, 0), "a", 1.0, 0, "eins\n")
    store.append((2, 1), "b", 1.0, 0, "zwei\n")
    store.close()
    with path.open("ab") as file:
        file.write(b'{"t":1.0,"g":1,"r":0,"n":"a","o":5,"d":"dr')
    again = opened(OutputStore(path))
    assert again.offsets == {(1, 0): 5, (2, 1): 5}
    again.append((1, 0), "a", 2.0, 5, "drei\n")
    assert lines(path) == [(0, "eins"), (1, "zwei"), (0, "drei")]


def test_a_line_that_came_in_pieces_is_whole(tmp_path: Path, opened: Opened) -> None:
    store = opened(OutputStore(tmp_path / "output.jsonl"))
    store.append((1, 0), "a", 1.0, 0, "x" * 70_000)
    store.append((1, 1), "a", 1.0, 0, "between\n")
    assert store.append((1, 0), "a", 1.1, 70_000, "y\nend") == 70_002
    assert store.append((1, 0), "a", 1.1, 70_002, "end", last=True) == 70_005
    assert lines(store.path) == [(1, "between"), (0, "x" * 70_000 + "y"), (0, "end")]


def test_a_line_that_fits_into_no_message_comes_in_pieces(tmp_path: Path, opened: Opened) -> None:
    store = opened(OutputStore(tmp_path / "output.jsonl"))
    known = 0
    for _ in range(5):
        known += len(frames.raw(piece := "\x01" * ((1 << 20) + 1)))
        assert store.append((1, 0), "a", 1.0, known - len(piece), piece) == known
    store.append((1, 0), "a", 1.0, known, "\nnext\n")
    found = [text for _, text in lines(store.path)]
    assert "".join(found) == "\x01" * known + "next"
    assert max(map(len, found)) <= 1 << 19


def test_a_record_that_a_full_disk_has_torn_hides_no_later_one(tmp_path: Path, opened: Opened) -> None:
    store = opened(OutputStore(tmp_path / "output.jsonl"))
    store.append((1, 0), "a", 1.0, 0, "one\n")
    with store.path.open("ab") as file:
        file.write(b'{"t":1.0,"g"\n')
    store.append((1, 0), "a", 1.0, 4, "two\n")
    assert lines(store.path) == [(0, "one"), (0, "two")]


@pytest.mark.parametrize("blow", ["write", "ftruncate"])
def test_what_a_full_disk_did_not_take_is_there_once_it_has_room(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch, blow: str
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    journal = opened(Journal(tmp_path / "journal.jsonl"))
    journal.append(Chosen(text="one"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        if blow == "ftruncate":  # a disk that has become read-only refuses that, too
            patch.setattr(os, "ftruncate", full)
        journal.append(Chosen(text="two"))
        journal.append(Chosen(text="three"))
    journal.append(Chosen(text="four"))
    again = opened(Journal(tmp_path / "journal.jsonl"))
    assert [(event.seq, event.text) for event in again.events] == [
        (1, "one"),
        (2, "two"),
        (3, "three"),
        (4, "four"),
    ]


def test_any_bytes_come_back_as_they_were(tmp_path: Path, opened: Opened) -> None:
    noise = random.Random(5).randbytes(5000).replace(b"\n", b"").replace(b"\r", b"") + "é€".encode()
    store = opened(OutputStore(tmp_path / "output.jsonl"))
    store.append((1, 0), "a", 1.0, 0, frames.text(noise + b"\n"))
    assert frames.raw(lines(store.path)[0][1]) == noise


def piecewise(store: OutputStore, data: bytes, chance: random.Random, shown: list[str]) -> None:
    """Deliver a rank's whole output in pieces, some of them again; what went on in between is in ``shown``."""
    sent, stored = 0, 0
    while stored < len(data):
        back = chance.choice([0, 0, 0, sent - stored])
        start = sent - chance.randint(0, back)
        end = min(len(data), sent + chance.randint(1, 12))
        last = end == len(data)
        start = stored if last else start
        stored = store.append((1, 0), "a", 1.0, start, frames.text(data[start:end]), last=last)
        sent = end
        shown += [text for *_, text in store.unfinished(Filter())]


@pytest.mark.parametrize("seed", range(20))
def test_a_progress_bar_costs_one_line_however_it_is_torn(tmp_path: Path, opened: Opened, seed: int) -> None:
    drawings = [f"{percent:3d}%|{'█' * (percent // 10):<10}| ünï [€ {percent}]" for percent in range(101)]
    data = ("begin\n" + "\r".join(["", *drawings]) + "\nend " + "\r50\r" + "\n\rno newline").encode()
    store, shown = opened(OutputStore(tmp_path / "output.jsonl")), list[str]()
    piecewise(store, data, random.Random(seed), shown)
    assert [text for _, text in lines(store.path)] == ["begin", drawings[-1], "50", "no newline"]
    assert store.unfinished(Filter()) == []
    assert store.path.stat().st_size < 1000
    assert len(set(shown) & set(drawings)) > 5  # it has been seen to move
    assert not any("\udc80" <= each <= "\udcff" for each in "".join(shown))  # no character was torn


def test_bars_below_each_other_cost_a_line_each(tmp_path: Path, opened: Opened) -> None:
    """tqdm with ``position=1`` goes a line down for each drawing and up again, and so does not end a line."""
    outer = "\r".join(f"epoch {epoch}" for epoch in range(3))
    inner = "".join(f"\n\rbatch {batch}\x1b[A" for batch in range(500))
    deeper = "".join(f"\n\n\rdeep {batch}\x1b[A\x1b[A" for batch in range(500))
    store = opened(OutputStore(tmp_path / "output.jsonl"))
    data = f"{outer}{inner}{deeper}\n".encode()
    piecewise(store, data, random.Random(1), [])
    assert len(lines(store.path)) <= 3
    assert lines(store.path)[0] == (0, "epoch 2")


AGAIN = re.compile(rb"\x1b\[A\r*\n")


def joined(data: bytes) -> bytes:
    """What `drawing.join` makes of it, one layer of bars after the other: it takes long where there are many."""
    while (once := AGAIN.sub(b"\r", data)) != data:
        data = once
    return data


@pytest.mark.parametrize("seed", range(10))
def test_steps_up_and_down_are_undone_in_one_pass_as_layer_by_layer(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(500):
        pieces = chance.choices(
            [b"\x1b[A", b"\n", b"\r", b"x", b"\x1b"], [5, 5, 3, 1, 1], k=chance.randint(0, 16)
        )
        assert drawing.join(b"".join(pieces)) == joined(b"".join(pieces))


def test_any_number_of_steps_costs_time_in_proportion() -> None:
    began = time.process_time()
    assert drawing.join(b"bar" + 32_000 * b"\x1b[A" + 32_000 * b"\n") == b"bar\r"
    assert drawing.last("bar" + 300_000 * "\x1b[A") == "bar"
    assert time.process_time() - began < 1


def test_a_line_that_goes_on_is_neither_lost_nor_doubled_when_the_coordinator_dies(
    tmp_path: Path, opened: Opened
) -> None:
    path = tmp_path / "output.jsonl"
    store = opened(OutputStore(path))
    # what goes on is its agent's to keep
    assert store.append((1, 0), "a", 1.0, 0, "one\ntwo: 1\rtwo: 2") == 4
    store.close()
    again = opened(OutputStore(path))
    assert again.offsets == {(1, 0): 4}
    assert again.append((1, 0), "a", 2.0, 4, "two: 1\rtwo: 2\rtwo: 3\nthr") == 25
    assert again.append((1, 0), "a", 2.0, 25, "three", last=True) == 30
    assert again.append((1, 0), "a", 2.0, 25, "three", last=True) == 30
    assert lines(path) == [(0, "one"), (0, "two: 3"), (0, "three")]


def test_a_line_that_goes_on_for_long_is_stored_from_time_to_time(tmp_path: Path, opened: Opened) -> None:
    path, bar, known = tmp_path / "output.jsonl", "\r 50%|█████     | 1/2 [€]", 0
    store, size = opened(OutputStore(path)), len(bar.encode())
    for number in range(100_000):  # an hour of thirty drawings a second
        store.append((1, 0), "a", float(number), number * size, bar)
        known = max(known, store.offsets.get((1, 0), 0))
    assert known > 100_000 * size - (2 << 20)  # an agent waits for no more than its window
    assert path.stat().st_size < 1000
    store.append((1, 0), "a", 1e5, 100_000 * size, "\r100%\n")
    assert lines(path) == [(0, "100%")]


def test_what_a_lost_rank_had_begun_is_its_last_line(tmp_path: Path, opened: Opened) -> None:
    store = opened(OutputStore(tmp_path / "output.jsonl"))
    store.append((1, 0), "a", 1.0, 0, "its last wor")
    store.append((2, 0), "a", 1.0, 0, "goes on")
    store.finish(before=2)
    assert lines(store.path) == [(0, "its last wor")]
    assert [text for *_, text in store.unfinished(Filter())] == ["goes on"]
    assert store.unfinished(Filter(ranks=frozenset({1}))) == []


def test_filters_and_tail(tmp_path: Path, opened: Opened) -> None:
    store = opened(OutputStore(tmp_path / "output.jsonl"))
    offsets = {0: 0, 1: 0}
    for number in range(1000):
        rank = number % 2
        text = f"line {number}\n"
        offsets[rank] = store.append((1, rank), f"n{rank}", float(number), offsets[rank], text)
    assert len(lines(store.path, Filter(ranks=frozenset({1})))) == 500
    assert len(lines(store.path, Filter(nodes=frozenset({"n0"}), since=500.0))) == 250
    assert [text for *_, text in tail(store.path, Filter(ranks=frozenset({0})), 2)] == [
        "line 996",
        "line 998",
    ]
    assert tail(store.path, Filter(), 0) == []


def test_order_is_that_of_time_and_each_ranks_own() -> None:
    mixed = [(3.0, 1, 0, "a", "c"), (1.0, 1, 1, "b", "a"), (2.0, 1, 1, "b", "b"), (2.5, 1, 0, "a", "d")]
    assert [text for *_, text in in_order(Line(*each) for each in mixed)] == ["a", "b", "c", "d"]


def test_order_takes_time_and_memory_in_proportion() -> None:
    arrived = [(number / 1e5, 1, number % 3, "a", str(number)) for number in range(60_000)]
    late = arrived[1::2] + arrived[::2]
    assert list(in_order(Line(*each) for each in late)) != late
    assert [line[0] for line in in_order(Line(*each) for each in arrived)] == [line[0] for line in arrived]


def test_the_journal_drops_a_torn_line_and_goes_on(tmp_path: Path, opened: Opened) -> None:
    path = tmp_path / "journal.jsonl"
    journal = opened(Journal(path))
    journal.append(Chosen(text="first"))
    journal.append(Chosen(text="second", node="a"))
    journal.close()
    with path.open("ab") as file:
        file.write(b'{"seq": 3, "t": 1')
    again = opened(Journal(path))
    again.append(Chosen(text="third"))
    assert [(event.seq, event.text) for event in again.events] == [
        (1, "first"),
        (2, "second"),
        (3, "third"),
    ]


def test_what_another_archive_adds_to_a_torn_journal_while_it_is_read_stays(tmp_path: Path) -> None:
    """Two clients may look at a run at once whose coordinator was killed, and one may conclude it."""
    path = tmp_path / "journal.jsonl"
    path.write_text('{"n": 1}\n{"n": 2}\n{"n": 3, "to')

    def conclude(record: Record, summed: bool) -> None:
        if record["n"] == 2:
            with closing(Records(path, lambda *_: None)) as other:
                other.append({"n": 3})

    Records(path, conclude).close()
    assert [record["n"] for record in RecordsReader(path).read(9)] == [1, 2, 3]


DAMAGE = [
    b"\0\0\0\n",
    b"[]\n",
    b'{"seq": "two"}\n',
    b'{"seq": 2, "t": 1.0, "kin{"seq": 3, "t"\n',
    b"[" * 9000 + b"\n",
]


@pytest.mark.parametrize("bad", DAMAGE)
def test_a_bad_line_in_the_middle_costs_the_journal_that_line_alone(
    tmp_path: Path, opened: Opened, bad: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "journal.jsonl"
    journal = opened(Journal(path))
    for text in ("one", "two", "three", "four"):
        journal.append(Chosen(text=text))
    journal.close()
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(whole[0] + bad + b"".join(whole[2:]) + b'{"seq": 5, "torn')
    again = opened(Journal(path))
    assert [event.seq for event in again.events] == [1, 2, 3, 4]
    assert [event.text for event in again.events][2:] == ["three", "four"]
    assert again.events[1].kind == "damaged" and again.events[1].time == again.events[2].time
    said = "journal.jsonl had a damaged line, set aside in journal.damaged"
    assert again.damage == said and capsys.readouterr().err == f"{said}\n"
    assert (tmp_path / "journal.damaged").read_bytes() == bad
    again.append(Chosen(text="five"))
    again.close()
    third = opened(Journal(path))
    assert [event.text for event in third.events][2:] == ["three", "four", "five"]
    assert third.events[:2] == again.events[:2] and not third.damage


@pytest.mark.usefixtures("no_disk")
def test_many_bad_lines_in_a_row_cost_the_journal_and_its_copies_those_alone(
    tmp_path: Path, opened: Opened
) -> None:
    path = tmp_path / "journal.jsonl"
    first = opened(Journal(path))
    for number in range(1, 401):
        first.append(Chosen(text=f"event {number}"))
    first.close()
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*whole[:10], *300 * [b"\0\0\0\n"], *whole[310:]]))
    copy = read_events(path)
    again = opened(Journal(path))
    assert again.damage.startswith("journal.jsonl had 300 damaged lines")
    for events in (again.events, copy):
        assert [event.seq for event in events] == list(range(1, 401))
        assert {event.kind for event in events[10:310]} == {"damaged"}
        assert events[310:] == first.events[310:]


def test_a_number_that_leaves_out_many_events_is_damaged_where_no_checksum_holds(
    tmp_path: Path, opened: Opened
) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(
        '{"seq":1,"t":1.0,"kind":"choice","text":"one"}\n{"seq":2000000000,"t":1.0,"kind":"choice","text":"two"}\n'
    )
    book = opened(Journal(path))
    assert [event.text for event in book.events] == ["one"] and "a damaged line" in book.damage


@pytest.mark.parametrize("bad", DAMAGE)
def test_a_bad_line_in_the_middle_costs_output_and_metrics_that_line_alone(
    tmp_path: Path, opened: Opened, bad: bytes
) -> None:
    store, progress = (
        opened(OutputStore(tmp_path / "o.jsonl")),
        opened(MetricsStore(tmp_path / "m.jsonl", time.time)),
    )
    for number in range(4):
        offset = store.offsets.get((1, 0), 0)
        store.append((1, 0), "a", float(number), offset, f"line {number}\n")
        tell(progress, 1, kind="step", step=number)
    for each in (store, progress):
        each.close()
        whole = each.path.read_bytes().splitlines(keepends=True)
        each.path.write_bytes(b"".join([*whole[:1], bad, *whole[2:]]))
    store, progress = opened(OutputStore(store.path)), opened(MetricsStore(progress.path, time.time))
    assert store.damage and progress.damage
    assert store.append((1, 0), "a", 9.0, 28, "line 4\n") == 35
    assert [text for _, text in lines(store.path)] == ["line 0", "line 2", "line 3", "line 4"]
    assert progress.step_of(0, 1) == 3
    assert [record["step"] for record in RecordsReader(progress.path).read(9)] == [0, 2, 3]
    assert not opened(OutputStore(store.path)).damage


def test_a_metric_that_makes_no_sense_is_its_workers_affair(tmp_path: Path, opened: Opened) -> None:
    """It is never stored: a coordinator that is started again must be able to read what it has written."""
    progress = opened(MetricsStore(tmp_path / "metrics.jsonl", time.time))
    tell(progress, 1, kind="snapshot", step="forty")
    tell(progress, 1, kind="step", step=[], loss=None)
    tell(progress, 1, kind="snapshot_failed", tier="disk", step="forty", error="full")
    tell(progress, 1, kind="snapshot_skipped", step=[40])
    assert progress.unsaved() == ""  # and so the run can end
    text = '{"kind": ' + "[" * 5000 + "\n"
    progress.append(1, 0, "a", progress.offsets[1, 0], text)
    tell(progress, 1, kind="step", step=7, loss="low", lr=True, samples=3)
    assert progress.step_of(0, 1) == 7
    assert progress.report(1).position == TrainingPosition(step=7, samples=3)
    tell(progress, 1, kind="resume", step=7, path=["a"])
    tell(progress, 1, kind="eval", metrics=["good"])
    tell(progress, 1, kind="snapshot", step=7, bytes="many", seconds=1)
    report = progress.report(1)
    assert (report.resumed, report.eval) == (Resumed(step=7), None)
    assert report.snapshot == SnapshotState(step=7, seconds=1, node="a")
    again = opened(MetricsStore(progress.path, time.time))
    assert again.step_of(0, 1) == 7 and not again.damage


def test_metrics_are_counted_once_and_nonsense_is_passed_over(tmp_path: Path, opened: Opened) -> None:
    progress = opened(MetricsStore(tmp_path / "metrics.jsonl", time.time))
    text = '{"kind":"step","step":3,"loss":0.5}\nnot json\n[1]\n{"kind":"eval","metrics":{"accuracy":0.97}}\n'
    assert progress.append(1, 0, "a", 0, text) == len(text)
    assert progress.append(1, 0, "a", 0, text) == len(text)
    assert progress.append(1, 0, "a", len(text) + 5, text) == len(text)
    again = opened(MetricsStore(tmp_path / "metrics.jsonl", time.time))
    for each in (progress, again):
        assert len(RecordsReader(each.path).read(1000)) == 2
        assert each.report(1).position.step == 3
        assert each.report(1).eval == {"accuracy": 0.97}
        assert each.step_of(0, 1) == 3


def test_what_was_long_on_its_way_is_kept_and_not_taken_for_news(tmp_path: Path, opened: Opened) -> None:
    progress = opened(MetricsStore(tmp_path / "metrics.jsonl", time.time))
    tell(progress, 1, kind="step", step=40)
    tell(progress, 2, kind="step", step=30)
    tell(progress, 1, kind="step", step=41)
    assert progress.report(2).position.step == 30 and progress.step_of(0, 2) == 30
    assert len(RecordsReader(progress.path).read(10)) == 3


def test_how_far_an_earlier_generation_came_is_not_where_the_next_one_is(
    tmp_path: Path, opened: Opened
) -> None:
    progress = opened(MetricsStore(tmp_path / "metrics.jsonl", time.time))
    tell(progress, 1, kind="step", step=40, loss=0.5)
    tell(progress, 1, kind="snapshot", step=39)
    assert (progress.report(2).position, progress.step_of(0, 2)) == (TrainingPosition(), None)
    assert progress.report(2).snapshot == SnapshotState(step=39, node="a")  # which is the run's
    tell(progress, 2, kind="start")
    assert (progress.report(2).position, progress.step_of(0, 2)) == (TrainingPosition(), None)
    tell(progress, 2, kind="step", step=7)
    assert (progress.report(2).position, progress.step_of(0, 2)) == (TrainingPosition(step=7), 7)


def test_a_node_that_takes_no_snapshots_is_told_of_once_until_it_does_again(
    tmp_path: Path, opened: Opened
) -> None:
    told: list[tuple[str, str]] = []
    path = tmp_path / "metrics.jsonl"
    progress = opened(MetricsStore(path, time.time, lambda kind, node, text: told.append((kind.kind, node))))
    for _ in range(2):
        tell(progress, 1, kind="snapshot_failed", tier="disk", step=10, error="No space left on device")
    assert progress.report(1).snapshots_failing == {"a": "No space left on device"}
    tell(progress, 1, kind="snapshot", step=20)
    tell(progress, 1, kind="snapshot_skipped", step=31)
    tell(progress, 1, kind="snapshot", step=30)  # that for which the next one was left out
    assert progress.report(1).snapshots_failing == {"a": "the disk is too slow for that of step 31"}
    tell(progress, 1, kind="snapshot_skipped", step=51)
    tell(progress, 1, kind="snapshot", step=40)
    assert len(told) == 3  # it is still too slow
    tell(progress, 1, kind="snapshot", step=60)
    assert progress.report(1).snapshots_failing == {}
    kinds = ["snapshot_failed", "snapshot_again", "snapshot_skipped", "snapshot_again"]
    assert told == [(kind, "a") for kind in kinds]
    tell(progress, 1, kind="snapshot_skipped", step=70)
    tell(progress, 2, kind="snapshot", step=65)  # after a failure, steps are made again
    assert progress.report(1).snapshots_failing == {}


NOBODY = "no node could write the snapshot of step {} (a: No space left on device): "
FULL = {"kind": "snapshot_failed", "tier": "disk", "error": "No space left on device"}


@pytest.mark.parametrize(
    ("told", "unsaved"),
    [
        ([(1, 0, {"kind": "snapshot", "step": 100})], ""),
        ([(1, 0, {"kind": "snapshot", "step": 60}), (1, 0, {"kind": "step", "step": 100})], ""),  # on purpose
        ([(1, 0, FULL | {"step": 60}), (1, 0, {"kind": "snapshot", "step": 100})], ""),
        # Another node has it.
        ([(1, 0, FULL | {"step": 100}), (1, 1, {"kind": "snapshot", "step": 100})], ""),
        (
            [(1, 1, {"kind": "snapshot", "step": 60}), (1, 0, FULL | {"step": 100})],
            NOBODY.format(100) + "the newest there is of step 60, without the last 40 steps",
        ),
        (
            [(1, 0, FULL | {"step": 100})],
            NOBODY.format(100) + "there is none of this training",
        ),
        # What the first generation wrote behind the place from which the second one went on does not count.
        (
            [
                (1, 0, {"kind": "snapshot", "step": 99}),
                (2, 0, {"kind": "resume", "step": 60}),
                (2, 0, FULL | {"step": 99}),
                (2, 0, {"kind": "end", "step": 100}),
            ],
            NOBODY.format(99) + "the newest there is of step 60, without the last 40 steps",
        ),
        ([(1, 0, FULL | {"step": 100}), (2, 0, {"kind": "snapshot", "step": 70})], ""),
        ([(1, 0, FULL | {"step": 100, "tier": "memory"})], ""),
    ],
)
def test_what_no_snapshot_holds_of_a_training_is_known_at_its_end(
    tmp_path: Path, opened: Opened, told: list[tuple[int, int, dict[str, object]]], unsaved: str
) -> None:
    progress = opened(MetricsStore(tmp_path / "metrics.jsonl", time.time))
    for generation, rank, metric in told:
        tell(progress, generation, rank, **metric)
    assert progress.unsaved() == unsaved
    archive = opened(MetricsStore(tmp_path / "metrics.jsonl", time.time))
    assert archive.unsaved() == unsaved


def test_the_snapshot_that_a_run_names_is_the_newest_on_any_node(tmp_path: Path, opened: Opened) -> None:
    progress = opened(MetricsStore(tmp_path / "metrics.jsonl", time.time))

    def newest(generation: int) -> tuple[int | None, str | None]:
        snapshot = progress.report(generation).snapshot
        assert snapshot is not None
        return snapshot.step, snapshot.node

    tell(progress, 1, 0, kind="snapshot", step=10)
    tell(progress, 1, 1, kind="snapshot", step=10)
    assert newest(1) == (10, "a")
    tell(progress, 1, 1, kind="snapshot", step=20)  # where the disk of node a is full
    assert newest(1) == (20, "b")
    tell(progress, 2, 1, kind="snapshot", step=15)
    assert newest(2) == (15, "b")


def tell(progress: MetricsStore, generation: int, rank: int = 0, **metric: object) -> None:
    """One more line of a rank on its node, a or b."""
    offset = progress.offsets.get((generation, rank), 0)
    progress.append(generation, rank, "ab"[rank], offset, json.dumps(metric) + "\n")


def test_records_are_read_piece_by_piece_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"n": 0}\n{"n": 1}\n{"n": 2}\n{"n"')
    reader = RecordsReader(path, after=1)
    assert [record["n"] for record in reader.read(1)] == [1]
    assert [record["n"] for record in reader.read(10)] == [2]
    assert reader.read(10) == []
    with path.open("a") as file:
        file.write(": 3}\n")
    assert [record["n"] for record in reader.read(10)] == [3]
    assert reader.after == 4
