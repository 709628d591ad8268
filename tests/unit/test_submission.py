"""A submission that was cut off, because its client was killed: its coordinator notices, and waits for nobody."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hand_clock import HandClock
from run_fakes import Theatre, join

from swarmtrain.coordinator.core.model import Phase
from swarmtrain.protocol.facts import Outcome
from swarmtrain.protocol.journal.remarks import Warned
from swarmtrain.wire.disk import submission
from swarmtrain.wire.disk.submission import MARK, SubmissionMark

WORDS = "the client that submitted the run went before it had started all of it"


def by_another_process(place: Path) -> None:
    """Have a run be submitted by a process that has ended since."""
    code = "from swarmtrain.wire.disk.submission import by_this_process; print(by_this_process().popitem()[1].decode())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    (place / "submitter.json").write_bytes(done.stdout)


def by_this_process(place: Path) -> None:
    for name, data in submission.by_this_process().items():
        (place / name).write_bytes(data)


def test_whoever_submits_a_run_lives_or_has_said_that_it_is_whole(tmp_path: Path) -> None:
    assert not submission.is_known(tmp_path) and not submission.is_under_way(tmp_path)
    by_this_process(tmp_path)
    assert submission.is_known(tmp_path) and submission.is_under_way(tmp_path)
    assert not SubmissionMark(str(tmp_path / MARK)).was_cut_off()
    by_another_process(tmp_path)
    assert submission.is_known(tmp_path) and not submission.is_under_way(tmp_path)
    watched = SubmissionMark(str(tmp_path / MARK))
    assert watched.was_cut_off()
    (tmp_path / MARK).touch()
    assert not watched.was_cut_off()
    assert not SubmissionMark().was_cut_off()  # where nobody says so


def test_a_client_elsewhere_has_a_minute(tmp_path: Path) -> None:
    clock = HandClock()
    watched = SubmissionMark(str(tmp_path / MARK), clock)
    clock.turn(59.0)
    assert not watched.was_cut_off()
    clock.turn(2.0)
    assert watched.was_cut_off()
    (tmp_path / MARK).touch()
    assert not watched.was_cut_off()


def test_a_run_that_was_submitted_in_part_ends_within_seconds_and_says_why(
    stage: Theatre, tmp_path: Path
) -> None:
    by_another_process(tmp_path)
    run = stage.make(submission=SubmissionMark(str(tmp_path / MARK)))

    def scene() -> None:
        peer = join(run, stage.agent("a")[0])
        for second in range(5):
            assert run.phase is Phase.GATHERING, second
            stage.clock.turn(1.0)
            peer.heard = stage.clock.now
            run.tick()

    stage.play(scene)
    assert (run.state.outcome, run.state.reason) == (Outcome.FAILED, f"1 of 2 nodes joined (a): {WORDS}")
    assert [event.text for event in run.journal.all(Warned)] == [WORDS]


def test_a_run_that_was_submitted_whole_waits_for_its_nodes(stage: Theatre, tmp_path: Path) -> None:
    by_another_process(tmp_path)
    (tmp_path / MARK).touch()
    run = stage.make(submission=SubmissionMark(str(tmp_path / MARK)))

    def scene() -> None:
        for _ in range(100):
            stage.clock.turn(1.0)
            run.tick()

    stage.play(scene)
    assert run.phase is Phase.GATHERING and run.journal.last(Warned) is None
