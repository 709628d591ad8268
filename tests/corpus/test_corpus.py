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

SCRIPTS = (
    *("ddp_tutorial", "elastic_imagenet", "fsdp2_dcp", "mingpt", "nanogpt"),
    *("accelerated", "deepspeed_zero", "hf_trainer", "hydra_app", "lightning_fabric", "lightning_trainer"),
)
pytestmark = pytest.mark.timeout(900)
EACH = pytest.mark.parametrize("script", SCRIPTS)

# Each node of these writes all that it needs; the ranks of the first one even agree on whose is the newest.
AGREE = ("elastic_imagenet",)
EACH_NODE_WRITES = (*AGREE, "mingpt")

# What ZeRO has written is read by as many ranks as wrote it.
FIXED_SIZE = ("deepspeed_zero",)


Undisturbed = Callable[[str], dict[int, Report]]


def all_fail_but(*names: str, leave_out: tuple[str, ...] = ()) -> pytest.MarkDecorator:
    """Each script; as yet only those that are named pass."""
    mark = pytest.mark.xfail(
        strict=True, reason="without `share: auto`, what one node has written no other has"
    )
    scripts = [script for script in SCRIPTS if script not in leave_out]
    return pytest.mark.parametrize(
        "script", [pytest.param(script, marks=[] if script in names else mark) for script in scripts]
    )


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """What the ranks of a script tell under torchrun, on one node and left alone."""

    @cache
    def trained(script: str) -> dict[int, Report]:
        training = Torchrun(script, tmp_path_factory.mktemp(script), nodes=1, workers=2)
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
    """The second of two attempts; it went on from the newest checkpoint, or from one up to `late` saves older."""
    broken, healed = found
    (resumed,) = {report.resumed for report in healed.reports.values()}
    assert resumed in sorted(broken.saved)[-1 - late :]
    assert len({report.weights for report in healed.reports.values()}) == 1
    return healed


def check_exact(healed: Attempt, expected: dict[int, Report]) -> None:
    """It ended as if nothing had happened."""
    assert sorted(healed.reports) == sorted(expected)
    for rank, report in healed.reports.items():
        assert report.losses == expected[rank].losses[-len(report.losses) :]
        assert report.weights == expected[rank].weights


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
    training = Torchrun(script, tmp_path, nodes=1, workers=2)
    break_between_checkpoints(training, chance, partial(training.kill_worker, chance.randrange(2)))
    check_exact(check_resumed(told(training)), undisturbed(script))


@pytest.mark.parametrize("layout", [(1, 2), (2, 1)], ids=["1x2", "2x1"])
@EACH
def test_healthy(script: str, layout: tuple[int, int], undisturbed: Undisturbed, home: Path) -> None:
    training = Swarmtrain(script, *layout)
    training.wait()
    check_healthy(told(training), undisturbed(script))


@EACH
def test_a_killed_worker_on_one_node(
    script: str, undisturbed: Undisturbed, home: Path, chance: random.Random
) -> None:
    training = Swarmtrain(script, 1, 2)
    break_between_checkpoints(training, chance, partial(training.kill_worker, chance.randrange(2)))
    check_exact(check_resumed(told(training)), undisturbed(script))


@all_fail_but(*EACH_NODE_WRITES)
def test_a_killed_worker_on_one_of_two_nodes(
    script: str, undisturbed: Undisturbed, home: Path, chance: random.Random
) -> None:
    training = Swarmtrain(script, 2, 1)
    break_between_checkpoints(training, chance, partial(training.kill_worker, chance.randrange(2)))
    check_exact(check_resumed(told(training), late=1), undisturbed(script))


@all_fail_but(*AGREE)
def test_the_node_of_rank_0_is_replaced_by_an_empty_one(
    script: str, undisturbed: Undisturbed, home: Path, chance: random.Random
) -> None:
    training = Swarmtrain(script, 2, 1)
    break_between_checkpoints(training, chance, partial(training.lose_node, 0, replace=True))
    check_exact(check_resumed(told(training), late=1), undisturbed(script))


@all_fail_but(*EACH_NODE_WRITES, leave_out=FIXED_SIZE)
def test_the_node_of_rank_0_is_lost_and_the_other_goes_on(
    script: str, home: Path, chance: random.Random
) -> None:
    training = Swarmtrain(script, "1..2", 1)
    break_between_checkpoints(training, chance, partial(training.lose_node, 0, replace=False))
    (report,) = check_resumed(told(training), late=1).reports.values()
    assert report.world == 1 and report.losses
