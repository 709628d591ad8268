"""Scripts in the manner of the common frameworks, as torchrun runs them and here: healthy, and with what breaks them.

They heal with the checkpoints that they write themselves, on nodes that share no disk. What their ranks tell is
compared with an undisturbed training under torchrun, on one node. A fault comes between two checkpoints, at a moment
that is drawn from a seed; `SWARMTRAIN_TEST_SEED` draws others. `make test-corpus` installs the packages.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import pytest
from corpus_harness import Attempt, Report, Swarmtrain, Torchrun, break_between_checkpoints, told
from corpus_places import Place

SCRIPTS = (
    *("ddp_tutorial", "elastic_imagenet", "fsdp2_dcp", "mingpt", "nanogpt"),
    *("accelerated", "deepspeed_zero", "hf_trainer", "hydra_app", "lightning_fabric", "lightning_trainer"),
)
# What ZeRO has written is read by as many ranks as wrote it.
OF_ANY_SIZE = tuple(script for script in SCRIPTS if script != "deepspeed_zero")

pytestmark = pytest.mark.timeout(1200)  # the first test on a lab also brings it up, with its images
EACH = pytest.mark.parametrize("script", SCRIPTS)
HERE = pytest.mark.parametrize("place", ["local"], indirect=True)

Undisturbed = Callable[..., dict[int, Report]]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """What the ranks of a script tell under torchrun, on one node and left alone."""

    @cache
    def trained(script: str, ranks: int = 2) -> dict[int, Report]:
        training = Torchrun(script, tmp_path_factory.mktemp(script), nodes=1, workers=ranks)
        training.wait()
        (attempt,) = told(training)
        assert len(attempt.saved) >= 7
        return attempt.reports

    return trained


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(f"{os.environ.get('SWARMTRAIN_TEST_SEED', '9')} {request.node.name}")


def check_healthy(found: list[Attempt], expected: dict[int, Report]) -> None:
    (attempt,) = found
    assert attempt.reports == expected
    assert len({report.weights for report in expected.values()}) == 1


def check_resumed(found: list[Attempt], *, late: int = 0) -> Attempt:
    """The last of several attempts; it went on from the newest checkpoint, or from one up to `late` saves older."""
    *broken, healed = found
    newest = [0]
    for attempt in broken:
        newest = sorted({*newest, *attempt.saved})[-1 - late :]
    (resumed,) = {report.resumed for report in healed.reports.values()}
    assert resumed in newest
    assert len({report.weights for report in healed.reports.values()}) == 1
    return healed


def check_exact(healed: Attempt, expected: dict[int, Report]) -> None:
    """It ended as if nothing had happened."""
    check_close(healed, expected, 0.0)
    assert {rank: report.weights for rank, report in healed.reports.items()} == {
        rank: report.weights for rank, report in expected.items()
    }


def check_close(healed: Attempt, expected: dict[int, Report], within: float) -> None:
    """Its losses are those of a training in which nothing has happened, but for so much of each."""
    assert sorted(healed.reports) == sorted(expected)
    for rank, report in healed.reports.items():
        undisturbed = expected[rank].losses[-len(report.losses) :]
        assert report.losses == pytest.approx(undisturbed, rel=within, abs=0.0)


@EACH
def test_torchrun_on_two_nodes_trains_as_on_one(
    script: str, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    training = Torchrun(script, tmp_path, nodes=2, workers=1)
    training.wait()
    check_healthy(told(training), undisturbed(script))


@EACH
def test_torchrun_heals_on_one_node(
    script: str, undisturbed: Undisturbed, tmp_path: Path, chance: random.Random
) -> None:
    counts = [chance.randint(1, 3)]
    training = Torchrun(script, tmp_path, nodes=1, workers=2, counts=counts)
    break_between_checkpoints(training, counts, [partial(training.kill_worker, chance.randrange(2))], chance)
    check_exact(check_resumed(told(training)), undisturbed(script))


@pytest.mark.parametrize("layout", [(1, 2), (2, 1)], ids=["1x2", "2x1"])
@EACH
def test_healthy(script: str, layout: tuple[int, int], undisturbed: Undisturbed, place: Place) -> None:
    nodes, workers = layout
    training = Swarmtrain(place, script, (nodes, nodes), workers)
    training.wait()
    check_healthy(told(training), undisturbed(script))


@EACH
def test_a_killed_worker_on_one_node(
    script: str, undisturbed: Undisturbed, place: Place, chance: random.Random
) -> None:
    counts = [chance.randint(1, 3)]
    training = Swarmtrain(place, script, (1, 1), 2, counts=counts)
    break_between_checkpoints(training, counts, [partial(training.kill_worker, chance.randrange(2))], chance)
    check_exact(check_resumed(told(training)), undisturbed(script))


def kill_and_replace(script: str, nodes: int, place: Place, chance: random.Random) -> Attempt:
    """On several nodes a worker is killed, and when that has healed, the node of rank 0 loses all that it holds."""
    counts = [chance.randint(1, 3), chance.randint(1, 2)]
    training = Swarmtrain(place, script, (nodes, nodes), counts=counts)
    faults = [partial(training.kill_worker, chance.randrange(nodes)), partial(training.replace_node, 0)]
    break_between_checkpoints(training, counts, faults, chance)
    return check_resumed(told(training), late=1)


@EACH
def test_on_two_nodes_a_killed_worker_and_then_an_empty_node_for_that_of_rank_0(
    script: str, undisturbed: Undisturbed, place: Place, chance: random.Random
) -> None:
    check_exact(kill_and_replace(script, 2, place, chance), undisturbed(script))


@HERE
@EACH
def test_on_three_nodes_a_killed_worker_and_then_an_empty_node_for_that_of_rank_0(
    script: str, undisturbed: Undisturbed, place: Place, chance: random.Random
) -> None:
    # In what order gloo adds what three ranks have depends on where in a bucket it lies, and DDP lays its buckets out
    # anew after the first step of each generation: under torchrun, too, one that was resumed has other last bits.
    check_close(kill_and_replace(script, 3, place, chance), undisturbed(script, 3), 1e-4)


@pytest.mark.parametrize("script", OF_ANY_SIZE)
def test_the_node_of_rank_0_is_lost_and_the_other_goes_on(
    script: str, place: Place, chance: random.Random
) -> None:
    counts = [chance.randint(1, 3)]
    training = Swarmtrain(place, script, (1, 2), counts=counts)
    break_between_checkpoints(training, counts, [partial(training.lose_node, 0)], chance)
    (report,) = check_resumed(told(training), late=1).reports.values()
    assert report.world == 1 and report.losses
