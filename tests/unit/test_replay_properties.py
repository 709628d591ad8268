"""In a simulated world, under all kinds of faults: what a coordinator holds of its run is at every moment what another
one would read from its journal.

The coordinator is the real one; machines, agents and workers are models (world_fakes.py). After each event the lines of
the journal so far, as they lie on the disk, are replayed and compared with the living state. `make test-all` tries
thousands of runs: ``SWARMTRAIN_EXAMPLES=6000 pytest --timeout=3600 tests/unit/test_replay_properties.py``.
"""

from __future__ import annotations

from contextlib import redirect_stderr
from io import StringIO
from typing import Any

import pytest
from drawn import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from world_fakes import Phase
from world_scenes import FAULTS, perform, play, repair, world

from swarmtrain.coordinator.core.state import RunState, replay
from swarmtrain.coordinator.store.journal import Journal
from swarmtrain.protocol.journal.event import E, Event
from swarmtrain.protocol.journal.lines import admit, read_events
from swarmtrain.wire.disk.records import parse

ALL = [*FAULTS, "raise", "stop", "hang", "work", "note", "trouble", "chaos", "restart", "damage"]
SCRIPTS = st.lists(
    st.tuples(st.sampled_from(ALL), st.integers(0, 3), st.sampled_from([0, 0, 1, 2, 5, 12, 40])),
    min_size=1,
    max_size=14,
)
JOBS = st.sampled_from(
    [
        {"nodes_min": 2, "nodes_max": 4},
        {"nodes_min": 3, "nodes_max": 3, "goal": 60},
        {"nodes_min": 1, "nodes_max": 3, "can_pause": False, "max_restarts": 2, "restart_window": 600.0},
        {"nodes_min": 2, "nodes_max": 3, "restart": False},
        {"nodes_min": 2, "nodes_max": 2, "hang_timeout": 60.0, "goal": 300},
    ]
)


class Reader:
    """Another coordinator, which reads the journal's lines as they come to lie on the disk, and compares at each."""

    def __init__(self) -> None:
        self.state, self.offset = RunState(), 0
        self.events: list[Event] = []

    def read(self, book: Journal) -> None:
        with book.path.open("rb") as file:
            file.seek(self.offset)
            for line in file:
                self.offset += len(line)
                known = len(self.events)
                if line.strip():
                    admit(self.events, parse(line) or {})
                for event in self.events[known:]:
                    self.state = self.state.apply(event)
        assert self.state == book.state, f"after {book.events[-1]}"


def watch(patch: pytest.MonkeyPatch) -> None:
    """Let each journal that is opened from now on have its reader."""
    readers: dict[Journal, Reader] = {}
    append = Journal.append

    def watched(book: Journal, event: E) -> E:
        numbered = append(book, event)
        readers.setdefault(book, Reader()).read(book)
        return numbered

    patch.setattr(Journal, "append", watched)


@settings(
    max_examples=examples(200),
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(script=SCRIPTS, job=JOBS, then=st.sampled_from(["stop", "restart", "lift"]))
def test_what_is_replayed_is_what_lives_for_every_prefix(
    script: list[tuple[str, int, int]], job: dict[str, Any], then: str
) -> None:
    with world(4, **job) as it, pytest.MonkeyPatch.context() as patch, redirect_stderr(StringIO()):
        watch(patch)

        def scene() -> None:
            it.until(20.0, lambda: it.trains_on)
            perform(it, script)
            repair(it)
            it.until(60.0, lambda: it.trains_on or it.run.phase is Phase.ENDED)
            it.do(then, it.nodes[0])
            it.until(60.0, lambda: it.run.phase is Phase.ENDED)

        play(scene)
        assert replay(read_events(it.run.journal.path)) == it.run.state
