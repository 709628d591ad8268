"""What ranks wrote last is read once, from where their generation began, and never more than the end of a long output:
the coordinator hears nobody meanwhile."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from run_fakes import Theatre, WireMessages, exited, join

from swarmtrain.coordinator.run.evidence import Evidence
from swarmtrain.coordinator.store import output
from swarmtrain.coordinator.store.output import OutputStore
from swarmtrain.protocol.facts import Failure

ABORTED = Failure("signal", "a", 5.0, "killed by SIGABRT", rank=0, signal=6)
PIECE = "x" * 99 + "\n"


def write(store: OutputStore, generation: int, rank: int, text: str) -> None:
    offset = store.offsets.get((generation, rank), 0)
    store.append((generation, rank), "a", 1.0, offset, text)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The records that were read."""
    found: list[bytes] = []
    parse = vars(output)["parse"]

    def counted(line: bytes) -> Any:
        found.append(line)
        return parse(line)

    monkeypatch.setattr(output, "parse", counted)
    return found


def test_ranks_that_fail_together_cost_one_reading_of_what_their_generation_wrote(
    stage: Theatre, read: list[bytes]
) -> None:
    run = stage.make(nodes=1, workers=8, restart=False)

    def scene() -> None:
        for _ in range(500):
            write(run.output, 0, 0, PIECE)  # of before
        agent, _ = stage.agent("a", workers=8)
        join(run, agent)
        for rank in range(8):
            write(run.output, 1, rank, f"begin\nthe last of rank {rank}\n")
        for rank in range(8):
            WireMessages(run).worker(agent, exited(rank, None, signal=6))
        WireMessages(run).idle(agent, 1, 20_002)
        WireMessages(run).drained(agent, 1)

    stage.play(scene)
    assert [cause.log for cause in run.state.causes] == [
        ["begin", f"the last of rank {rank}"] for rank in range(8)
    ]
    assert len(read) == 8


def test_of_a_long_output_the_end_alone_is_read(tmp_path: Path, read: list[bytes]) -> None:
    with closing(OutputStore(tmp_path / "output.jsonl")) as store:
        write(store, 1, 0, "of long ago\n")
        for _ in range(40):
            write(store, 1, 1, PIECE * 5000)
        write(store, 1, 0, "its last words\n")
        evidence = Evidence(store, 1)
        assert evidence.of(ABORTED).log == ["its last words"]
        assert 30 < len(read) < 40 and store.path.stat().st_size > 20_000_000


def test_what_comes_later_is_added_and_nothing_is_read_again(tmp_path: Path, read: list[bytes]) -> None:
    with closing(OutputStore(tmp_path / "output.jsonl")) as store:
        evidence = Evidence(store, 1)
        write(store, 1, 0, "".join(f"line {number}\n" for number in range(30)))
        assert evidence.of(ABORTED).log == [f"line {number}" for number in range(10, 30)]
        write(store, 1, 0, "the last\n")
        assert evidence.of(ABORTED).log == [*(f"line {number}" for number in range(11, 30)), "the last"]
        write(store, 2, 0, "of another\n")
        assert evidence.of(ABORTED).log[-1] == "the last" and len(read) == 2
        assert Evidence(store, 2).of(ABORTED).log == ["of another"]
