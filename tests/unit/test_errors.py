"""The tree of errors: one root, hints that are a part of each, and copies that are whole."""

from __future__ import annotations

import copy
import importlib
import pickle
import pkgutil
from collections.abc import Iterator

import pytest

import swarmtrain
from swarmtrain.control.chaos.plan_file import PlanError
from swarmtrain.control.files.transfer import OutOfReach
from swarmtrain.control.startup import CannotStart
from swarmtrain.docker.command import DockerFailed
from swarmtrain.errors import (
    ChannelError,
    ClusterError,
    DriftError,
    RequestError,
    Stopped,
    SwarmtrainError,
    TrainerError,
    TrainingError,
    in_short,
)
from swarmtrain.job.problems import JobError, Problem
from swarmtrain.launchers.base import Run
from swarmtrain.worker import error_file

# One of each class that is made of something else than a message and a hint.
MADE_OTHERWISE = [
    DriftError([1, 2], 4, 7),
    JobError([Problem(("nodes",), "is empty", "job.yaml:3")], "give a number"),
    PlanError([Problem(("faults", 1), "is empty")]),
    DockerFailed(["docker", "info"], 1, "no such host"),
    CannotStart(Run("digits", 3, "swarm"), "no node has the image"),
    OutOfReach("lab-2"),
]
PLAIN = [
    kind("it is so", "do that")
    for kind in (
        SwarmtrainError,
        TrainingError,
        TrainerError,
        RequestError,
        ClusterError,
        ChannelError,
        Stopped,
    )
]


def _defined() -> Iterator[type[BaseException]]:
    """Every exception class that a module of the package defines."""
    for info in pkgutil.walk_packages(swarmtrain.__path__, "swarmtrain."):
        module = importlib.import_module(info.name)
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, BaseException) and value.__module__ == info.name:
                yield value


@pytest.mark.torch
def test_every_exception_is_of_the_one_tree_or_says_why_nobody_sees_it() -> None:
    defined = set(_defined())
    assert {type(error) for error in (*MADE_OTHERWISE, *PLAIN)} <= defined, "the walk finds what there is"
    strange = [
        kind
        for kind in defined
        if not issubclass(kind, SwarmtrainError) and "\n    Outside of the tree: " not in (kind.__doc__ or "")
    ]
    assert strange == []


@pytest.mark.torch
def test_every_class_that_is_made_otherwise_is_tried_here() -> None:
    with_their_own = {
        kind for kind in _defined() if issubclass(kind, SwarmtrainError) and "__init__" in vars(kind)
    } - {SwarmtrainError}
    tried = {ancestor for error in MADE_OTHERWISE for ancestor in type(error).__mro__}
    assert with_their_own <= tried


@pytest.mark.parametrize("error", [*PLAIN, *MADE_OTHERWISE], ids=lambda error: type(error).__name__)
def test_an_error_outlives_a_copy_and_a_pickle_whole(error: SwarmtrainError) -> None:
    vars(error)["__notes__"] = ["seen on lab-1"]  # what add_note leaves from Python 3.11 on
    for again in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(again) is type(error)
        assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
        assert again.exit_code == error.exit_code


def test_an_error_says_its_hint_once_behind_an_empty_line() -> None:
    error = ClusterError("there is no node lab-9", "its nodes are lab-1 and lab-2")
    assert str(error) == "there is no node lab-9\n\nhint: its nodes are lab-1 and lab-2"
    assert str(RequestError("it is so")) == "it is so"
    drift = DriftError([1], 2, 7)
    assert str(drift).count(drift.hint) == 1


def test_a_sentence_that_quotes_an_error_has_no_hint_in_it() -> None:
    error = ClusterError("there is no node lab-9", "its nodes are lab-1 and lab-2")
    assert in_short(error) == "there is no node lab-9"
    assert in_short(ValueError("x")) == "x"
    assert error_file.summary(error) == "ClusterError: there is no node lab-9"
