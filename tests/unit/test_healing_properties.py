"""What is always true of a run that heals itself, in a simulated world and under faults that nobody has thought of.

The run and its decisions are the real ones; machines, agents and workers are models (world_fakes.py). More examples:
``SWARMTRAIN_EXAMPLES=2000 pytest tests/unit/test_healing_properties.py``.
"""

from __future__ import annotations

import pytest
from drawn import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from world_fakes import Phase, World
from world_scenes import FAULTS, perform, play, repair, world

from swarmtrain.coordinator.clients import actions
from swarmtrain.protocol.facts import Outcome
from swarmtrain.protocol.journal.events import Ended, GenerationFormed
from swarmtrain.protocol.journal.remarks import NodeLeftOut

BEATS = st.sampled_from([0, 0, 1, 2, 5, 12, 40])
SCRIPTS = st.lists(st.tuples(st.sampled_from(FAULTS), st.integers(0, 3), BEATS), max_size=10)
fast = settings(
    max_examples=examples(40),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def gave_up(it: World) -> bool:
    """Whether the run ended for a reason for which it may."""
    return it.run.state.outcome is Outcome.FAILED and any(
        words in it.run.state.reason
        for words in ("times in a row", "the limit is", "did not join", "nodes joined")
    )


@fast
@given(low=st.integers(2, 3), script=SCRIPTS, can_pause=st.booleans())
def test_when_the_faults_are_over_the_run_trains_on_all_its_nodes(
    low: int, script: list[tuple[str, int, int]], can_pause: bool
) -> None:
    with world(4, nodes_min=low, nodes_max=4, can_pause=can_pause, max_restarts=50) as it:

        def scene() -> None:
            it.until(30.0, lambda: it.trains_on)
            perform(it, script)
            repair(it)

            def well() -> bool:
                few = 0 < it.trains_on < 4 and not can_pause  # it grows when it starts again
                return it.trains_on == 4 or few or it.run.phase is Phase.ENDED

            assert it.until(1_500.0, well), it.run.phase
            assert it.run.state.outcome is None or gave_up(it), it.run.state.reason

        play(scene)


@fast
@given(script=SCRIPTS, goal=st.sampled_from([50, 400]))
def test_a_run_of_fixed_size_ends_with_its_work_done(script: list[tuple[str, int, int]], goal: int) -> None:
    with world(3, nodes_min=3, nodes_max=3, goal=goal, max_restarts=50) as it:

        def scene() -> None:
            perform(it, script)
            repair(it)
            assert it.until(2_500.0, lambda: it.run.phase is Phase.ENDED), it.run.phase
            assert it.run.state.outcome is Outcome.SUCCEEDED or gave_up(it), it.run.state.reason
            assert len(it.run.journal.all(Ended)) == 1
            assert bool(it.run.state.reason) is (it.run.state.outcome is not Outcome.SUCCEEDED)
            it._restart(it.nodes[0])  # the archive says the same
            assert it.run.phase is Phase.ENDED

        play(scene)


@fast
@given(script=SCRIPTS, limit=st.integers(0, 4))
def test_no_more_failures_are_healed_than_the_job_allows(
    script: list[tuple[str, int, int]], limit: int
) -> None:
    with world(3, nodes_min=2, nodes_max=3, max_restarts=limit, restart_window=600.0) as it:

        def scene() -> None:
            perform(it, script)
            repair(it)
            it.until(60.0, lambda: it.run.phase is Phase.ENDED)
            ended = [attempt.ended for attempt in it.run.state.history]
            assert all(len([e for e in ended if moment - 600.0 < e <= moment]) <= limit for moment in ended)
            actions.stop(it.run)
            assert it.until(120.0, lambda: it.run.phase is Phase.ENDED)
            assert it.run.state.reason

        play(scene)


def test_a_node_that_keeps_dying_is_left_out_and_does_not_spin_the_run() -> None:
    with world(3, nodes_min=2, nodes_max=3) as it:

        def scene() -> None:
            b = it.nodes[1]
            for _ in range(1_200):  # ten minutes
                it.beat()
                if b.live and it.clock.now > b.live[0].born + 1.5:
                    it.do("die", b)
            assert it.run.phase is not Phase.ENDED, it.run.state.reason
            assert len(it.run.journal.all(NodeLeftOut)) >= 3
            assert len(it.run.journal.all(GenerationFormed)) < 20

        play(scene)


@pytest.mark.parametrize("can_pause", [True, False])
@pytest.mark.parametrize("minutes", [2, 12])
def test_a_rank_that_works_alone_for_long_is_told_of_and_let_work(can_pause: bool, minutes: int) -> None:
    with world(2, nodes_min=2, nodes_max=2, can_pause=can_pause) as it:

        def scene() -> None:
            it.run.progress.saves = can_pause
            it.until(30.0, lambda: it.steps.get(1, 0) >= 50)
            it.works_until = it.clock.now + 60 * minutes
            it.until(60 * minutes, lambda: it.run.current.failures)
            assert it.until(10, lambda: it.trains_on == 2)
            assert (it.run.current.generation.number, it.run.current.failures) == (1, ())
            assert it.looks() == (1 if minutes == 2 else 2)

        play(scene)


@pytest.mark.parametrize(
    ("saves", "hang_timeout", "begun_anew"),
    [(True, None, True), (False, None, False), (False, 100.0, True), (True, 0.0, False)],
)
def test_a_group_that_does_nothing_is_begun_anew_where_that_costs_little_or_a_person_said_when(
    saves: bool, hang_timeout: float | None, begun_anew: bool
) -> None:
    with world(2, nodes_min=2, nodes_max=2, can_pause=saves, hang_timeout=hang_timeout) as it:

        def scene() -> None:
            it.run.progress.saves = saves
            it.until(30.0, lambda: it.steps.get(1, 0) >= 50)
            it.hangs_until = it.clock.now + 600.0
            it.until(590.0, lambda: it.run.current.generation.number > 1)
            assert (it.run.current.generation.number > 1) is begun_anew
            assert bool(it.looks()) is (hang_timeout != 0.0)

        play(scene)


def test_a_program_that_always_fails_ends_soon() -> None:
    for at in (0, 60):
        with world(2, nodes_min=2, nodes_max=2) as it:

            def scene(it: World = it, at: int = at) -> None:
                while it.run.phase is not Phase.ENDED and it.clock.now < 51_000:
                    it.beat()
                    rank = it.nodes[1].live[0] if it.nodes[1].live else None
                    if rank is not None and it.steps.get(rank.g, 0) >= at:
                        rank.ended, rank.code, rank.error = True, 1, "ValueError: always"
                assert it.run.state.outcome is Outcome.FAILED
                assert it.run.current.generation.number == (2 if at else 1)
                assert "ValueError: always" in it.run.state.reason

            play(scene)
