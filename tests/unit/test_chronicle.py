"""What befell a run, in sentences and in numbers, and read back from its journal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from run_fakes import Clock

from swarmtrain.coordinator.cause import Failure
from swarmtrain.coordinator.chronicle import Chronicle, Incident, sentence, signature
from swarmtrain.coordinator.healing import Attempt
from swarmtrain.coordinator.journal import Journal
from swarmtrain.wire import clock as clock_module

UNIX = 1_800_050_000.0  # the clock's Unix time when a test begins


class Book:
    """A chronicle and its journal, which can be opened again."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path, self.clock = path, clock
        self.open()

    def open(self) -> None:
        self.journal = Journal(self.path)
        self.chronicle = Chronicle(self.journal)
        self.chronicle.load()

    def again(self) -> None:
        self.journal.close()
        self.open()


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Book]:
    clock = Clock()
    monkeypatch.setattr(clock_module, "time", clock)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    made = Book(tmp_path / "journal.jsonl", clock)
    yield made
    made.journal.close()


def incident(what: str, since: float = UNIX, step: int | None = 100, planned: bool = False) -> Incident:
    return Incident(since, what, step, 3, planned)


def attempt(generation: int, ended: float) -> Attempt:
    return Attempt(generation, "node", "lost", "b", None, 0, 100, 9.0, ended)


@pytest.mark.parametrize(
    ("step", "nodes", "origin", "said"),
    [
        (1840, 3, 1800, "lab-3 was lost at step 1840; continued on 3 nodes from step 1800 after 14.2 s"),
        (1840, 1, 0, "lab-3 was lost at step 1840; continued on 1 node from step 0 after 14.2 s"),
        (None, 2, None, "lab-3 was lost; continued on 2 nodes after 14.2 s"),
    ],
)
def test_a_recovery_is_one_sentence(step: int | None, nodes: int, origin: int | None, said: str) -> None:
    assert sentence(incident("lab-3 was lost", step=step), nodes, origin, 14.24) == said


def test_two_failures_are_the_same_but_for_addresses() -> None:
    words = [
        f"<Tensor at 0x{address:x}>: [10.0.0.{address}:{port}] Connection refused after 3 tries"
        for address, port in ((17, 80), (251, 4711))
    ]
    first, second = (signature(Failure("exception", "a", 0.0, word)) for word in words)
    assert first == second == "<Tensor at #>: [#] Connection refused after 3 tries"
    assert signature(Failure("exception", "a", 0.0, "x" * 9_000)) == "x" * 500


def test_what_a_recovery_cost_is_counted(book: Book) -> None:
    book.chronicle.begin(incident("b was lost"), "generation 1 failed")
    book.chronicle.end(UNIX + 4.5, 2, 90, 2)
    book.chronicle.begin(
        incident("c is there", UNIX + 60.0, 300, planned=True), "generation 2 has saved its work"
    )
    book.chronicle.end(UNIX + 61.0, 3, 300, 3)
    for _ in range(2):
        summary = book.chronicle.summary()
        assert (summary["restarts"], summary["lost_seconds"], summary["lost_steps"]) == (1, 5.5, 10)
        assert [line["seconds"] for line in summary["recoveries"]] == [4.5, 1.0]
        assert summary["healing"] is None
        book.again()


def test_what_is_not_over_costs_more_with_time(book: Book) -> None:
    book.chronicle.begin(incident("b was lost"), "generation 1 failed")
    for _ in range(2):
        book.clock.turn(10.0)
        book.again()
        assert book.chronicle.summary()["healing"] == "b was lost"
    assert book.chronicle.summary()["lost_seconds"] == 20.0
    book.journal.append("ended", "failed")
    book.clock.turn(500.0)
    assert book.chronicle.summary()["lost_seconds"] == 20.0


def test_a_failure_within_a_recovery_prolongs_it(book: Book) -> None:
    book.chronicle.begin(incident("b was lost"), "generation 1 failed")
    book.chronicle.begin(incident("c was lost", UNIX + 5.0, step=None), "generation 2 failed")
    book.again()
    book.chronicle.end(UNIX + 9.0, 2, 90, 3)
    text = book.journal.all("recovered")[-1]["text"]
    assert text == "c was lost at step 100; continued on 2 nodes from step 90 after 9.0 s"
    assert book.chronicle.summary()["restarts"] == 1


def test_without_an_incident_nothing_is_over(book: Book) -> None:
    book.chronicle.end(UNIX, 2, 90, 3)
    assert book.journal.events == []


def test_attempts_are_read_back_on_the_clock_of_the_new_process(book: Book) -> None:
    now = book.clock.now
    book.chronicle.note(attempt(1, now))
    book.chronicle.note(attempt(1, now + 1.0))  # said twice
    book.chronicle.begin(incident("b was lost"), "generation 1 failed")
    book.chronicle.begin(incident("c is there", planned=True), "generation 2 has saved its work")
    book.clock.turn(30.0)
    book.clock.now, book.clock.unix = 12.0, book.clock.time() - 12.0  # the machine was started anew
    book.again()
    assert [(each.generation, round(each.ended)) for each in book.chronicle.history] == [(1, 12 - 30)]
    book.clock.unix -= 5_000.0
    book.again()
    assert book.chronicle.history[0].ended == 12.0  # no failure lies in the future


def test_the_next_generation_is_waited_for_until_it_is_formed(book: Book) -> None:
    formed = book.journal.append("generation", "generation 1")
    assert not book.chronicle.waits(formed)
    book.chronicle.begin(incident("b was lost"), "generation 1 failed")
    assert book.chronicle.waits(formed)
    assert not book.chronicle.waits(book.journal.append("generation", "generation 2"))
