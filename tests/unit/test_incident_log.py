"""What befell a run, in sentences and in numbers, and read back from its journal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hand_clock import HandClock

from swarmtrain.coordinator.core import incident_log
from swarmtrain.coordinator.core.generation import Generation
from swarmtrain.coordinator.core.incident_log import generation_ended, recovered, sentence, signature
from swarmtrain.coordinator.core.model import Assignment, Candidate, Formation, Phase
from swarmtrain.coordinator.store.journal import Journal
from swarmtrain.protocol.facts import Attempt, Failure, Incident, Outcome
from swarmtrain.protocol.journal.events import Ended, Recovered

UNIX = 1_800_050_000.0  # the clock's Unix time when a test begins


class Book:
    """A journal, which can be opened again."""

    def __init__(self, path: Path, clock: HandClock) -> None:
        self.path, self.clock = path, clock
        self.journal = Journal(self.path, self.clock)

    def again(self) -> None:
        """Another coordinator goes on with it, and knows the same."""
        before = self.journal.state
        self.journal.close()
        self.journal = Journal(self.path, self.clock)
        assert self.journal.state == before

    def begin(self, incident: Incident, text: str, attempt: Attempt | None = None) -> None:
        self.journal.append(generation_ended(self.journal.state, incident, text, attempt))

    def end(self, begun: float, nodes: int, step: int, generation: int) -> None:
        open_one = self.journal.state.incident
        assert open_one is not None
        self.journal.append(recovered(open_one, begun, nodes, step, generation, True))

    def summary(self) -> incident_log.Summary:
        return incident_log.summary(self.journal.state, self.journal.clock.now())


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    made = Book(tmp_path / "journal.jsonl", HandClock())
    yield made
    made.journal.close()


def incident(what: str, since: float = UNIX, step: int | None = 100, planned: bool = False) -> Incident:
    return Incident(since, what, step, 3, planned)


def attempt(generation: int, ended: float) -> Attempt:
    return Attempt(generation, "node", "lost", "b", None, 0, 100, 9.0, ended)


@pytest.mark.parametrize(
    ("step", "nodes", "origin", "saves", "said"),
    [
        (1840, 3, 1800, True, " at step 1840; continued on 3 nodes from step 1800 after 14.2 s"),
        (
            *(1840, 1, 0, True),
            " at step 1840; begun anew on 1 node after 14.2 s: no snapshot had been taken; 1840 steps lost",
        ),
        (0, 1, 0, True, " at step 0; continued on 1 node from step 0 after 14.2 s"),
        (None, 2, None, True, "; continued on 2 nodes after 14.2 s"),
        (
            *(264, 2, None, False),
            (
                " at step 264; begun anew on 2 nodes after 14.2 s: the script takes no snapshots; 264 steps lost "
                "but for what it saves by itself"
            ),
        ),
        (None, 2, None, False, "; begun anew on 2 nodes after 14.2 s: the script takes no snapshots"),
    ],
)
def test_a_recovery_is_one_sentence(
    step: int | None, nodes: int, origin: int | None, saves: bool, said: str
) -> None:
    told = sentence(incident("lab-3 was lost", step=step), nodes, origin, 14.24, saves)
    assert told == f"lab-3 was lost{said}"


def test_two_failures_are_the_same_but_for_addresses() -> None:
    words = [
        f"<Tensor at 0x{address:x}>: [10.0.0.{address}:{port}] Connection refused after 3 tries"
        for address, port in ((17, 80), (251, 4711))
    ]
    first, second = (signature(Failure("exception", "a", 0.0, word)) for word in words)
    assert first == second == "<Tensor at #>: [#] Connection refused after 3 tries"
    assert signature(Failure("exception", "a", 0.0, "x" * 9_000)) == "x" * 500


GLOO = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (f"RuntimeError: {GLOO} [10.0.1.3]:34538", f"RuntimeError: {GLOO} [10.0.1.4]:8123"),
        (f"RuntimeError: {GLOO} [fe80::1%eth0]:345", f"RuntimeError: {GLOO} [::1]:34538"),
        ("DataLoader worker (pid 41) is killed", "DataLoader worker (pid 12345) is killed"),
        ("DataLoader worker (pid(s) 41, 42) exited", "DataLoader worker (pid(s) 7) exited"),
        ("no file /tmp/tmpa1_x/part", "no file /tmp/tmpzz9/part"),
        ("loss is tensor(nan, grad_fn=<A>)", "loss is tensor([1, 2], grad_fn=<A>)"),
        ("loss 1.25e-3 is too high", "loss 17.0 is too high"),
        ("ran for 600049 milliseconds", "ran for 600132 milliseconds"),
        ("stopped at 2026-11-26 10:22:33", "stopped at 2026-11-27 01:02:03"),
        ("MIG-123e4567-e89b-12d3-a456-426614174000 fell", "MIG-923e4567-e89b-12d3-a456-426614174fff fell"),
    ],
)
def test_what_changes_from_one_attempt_to_the_next_is_not_part_of_a_failure(first: str, second: str) -> None:
    assert first != second
    assert signature(Failure("exception", "a", 0.0, first)) == signature(
        Failure("exception", "b", 9.0, second)
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("IndexError: index 12 is out of range", "IndexError: index 13 is out of range"),
        ("KeyError: 'a'", "KeyError: 'b'"),
        ("mat1 and mat2 shapes (64x32 and 16x4)", "mat1 and mat2 shapes (64x32 and 16x5)"),
    ],
)
def test_what_tells_two_failures_apart_stays(first: str, second: str) -> None:
    assert signature(Failure("exception", "a", 0.0, first)) != signature(
        Failure("exception", "a", 0.0, second)
    )


def test_what_a_recovery_cost_is_counted(book: Book) -> None:
    book.begin(incident("b was lost"), "generation 1 failed")
    book.end(UNIX + 4.5, 2, 90, 2)
    book.begin(incident("c is there", UNIX + 60.0, 300, planned=True), "generation 2 has saved its work")
    book.end(UNIX + 61.0, 3, 300, 3)
    for _ in range(2):
        summary = book.summary()
        assert (summary.restarts, summary.lost_seconds, summary.lost_steps) == (1, 5.5, 10)
        assert [line.seconds for line in summary.recoveries] == [4.5, 1.0]
        assert summary.healing is None
        book.again()


def test_what_is_not_over_costs_more_with_time(book: Book) -> None:
    book.begin(incident("b was lost"), "generation 1 failed")
    for _ in range(2):
        book.clock.turn(10.0)
        book.again()
        assert book.summary().healing == "b was lost"
    assert book.summary().lost_seconds == 20.0
    book.journal.append(Ended(text="failed", outcome=Outcome.FAILED, reason="", generation=1, workers=[]))
    book.clock.turn(500.0)
    assert book.summary().lost_seconds == 20.0


def test_a_failure_within_a_recovery_prolongs_it(book: Book) -> None:
    book.begin(incident("b was lost"), "generation 1 failed")
    book.begin(incident("c was lost", UNIX + 5.0, step=None), "generation 2 failed")
    book.again()
    book.end(UNIX + 9.0, 2, 90, 3)
    text = book.journal.all(Recovered)[-1].text
    assert text == "c was lost at step 100; continued on 2 nodes from step 90 after 9.0 s"
    assert book.summary().restarts == 1


def test_attempts_are_read_back_on_the_clock_of_the_new_process(book: Book) -> None:
    now = book.journal.clock.now()
    book.begin(incident("b was lost"), "generation 1 failed", attempt(1, now))
    book.begin(incident("b was lost"), "generation 1 failed", attempt(1, now + 1.0))  # said twice
    book.begin(incident("c is there", planned=True), "generation 2 has saved its work")
    book.clock.turn(30.0)
    # the machine was started anew
    book.clock.now, book.clock.epoch, book.clock.boot_id = 12.0, book.clock.unix() - 12.0, "another"
    book.again()
    (told,), moment = book.journal.state.history, book.journal.clock.moment
    assert (told.generation, round(moment(told.ended))) == (1, 12 - 30)
    assert moment(told.ended + 5_000.0) == 12.0  # no failure lies in the future


def test_the_next_generation_is_waited_for_until_it_is_formed(book: Book) -> None:
    member = Candidate("a", 0, 1, "10.0.0.1", 20_000, 0.0)
    formation = Formation((Assignment("a", 0, (0,)),), member)

    def form(number: int) -> None:
        book.journal.append(Generation.of(number, formation, {"a": member}).formed())

    phases = []
    for number in (1, 2):
        form(number)
        phases.append(book.journal.state.phase)
        book.begin(incident("b was lost"), f"generation {number} failed")
        phases.append(book.journal.state.phase)
    assert phases == [Phase.RUNNING, Phase.GATHERING] * 2
