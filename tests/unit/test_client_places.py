"""Which launcher a job goes to, and which run a name means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from client_fakes import FakeLauncher, fixed, status

from swarmtrain import ClusterError, Job, RequestError
from swarmtrain.control.client import Client
from swarmtrain.control.places import Places
from swarmtrain.docker.command import NOT_IN_SWARM
from swarmtrain.job import LoadedJob
from swarmtrain.launchers.base import Run

NO_SWARM = ClusterError("this Docker engine is not in a Swarm", "docker swarm init")


def places(
    error: ClusterError | None,
    *launchers: FakeLauncher,
    on: str | None = None,
    pointer: str = "",
    warn: Callable[[str], None] | None = None,
) -> Places:
    known = {launcher.name: launcher for launcher in launchers}
    return Places(on, known, ask=lambda: error, pointer=lambda: pointer, warn=warn)


def loaded(**keys: Any) -> LoadedJob:
    return LoadedJob.of(Job(command=["true"], **keys))


def test_a_swarm_manager_is_used_where_docker_speaks_to_one() -> None:
    launcher, notice = places(None, FakeLauncher("swarm")).choose(loaded())
    assert launcher.name == "swarm" and "Swarm manager" in notice.text


def test_without_a_swarm_the_run_is_here_and_the_reason_is_said() -> None:
    launcher, notice = places(NO_SWARM, FakeLauncher("local")).choose(loaded())
    assert launcher.name == "local" and "not in a Swarm" in notice.text


def test_named_nodes_never_run_on_one_machine_silently() -> None:
    with pytest.raises(
        ClusterError, match="names nodes \\(a, b\\), but this Docker engine is not in a Swarm"
    ) as caught:
        places(NO_SWARM, FakeLauncher("local")).choose(loaded(nodes=["a", "b"]))
    assert caught.value.hint == "docker swarm init; to train on this machine: --on local"


@pytest.mark.parametrize(
    ("keys", "pointer", "message"),
    [
        (
            {},
            "DOCKER_HOST is ssh://bob",
            "DOCKER_HOST is ssh://bob, but this Docker engine is not in a Swarm",
        ),
        ({"image": "me:1"}, "", "the job names an image (me:1), but this Docker engine is not in a Swarm"),
    ],
)
def test_what_asks_for_a_swarm_is_never_run_here_silently(
    keys: dict[str, object], pointer: str, message: str
) -> None:
    with pytest.raises(ClusterError) as caught:
        places(NO_SWARM, FakeLauncher("local"), pointer=pointer).choose(loaded(**keys))
    assert caught.value.message == message
    assert caught.value.hint.endswith("--on local")


def test_a_named_launcher_is_not_questioned() -> None:
    launcher, _ = places(NO_SWARM, FakeLauncher("docker"), on="docker").choose(loaded(nodes=["a", "b"]))
    assert launcher.name == "docker"


def test_an_unknown_launcher_is_refused() -> None:
    with pytest.raises(RequestError, match="no launcher 'slurm'"):
        Client("slurm")


def test_a_bare_name_is_the_latest_run_anywhere() -> None:
    here = FakeLauncher("local", digits_1=fixed(status()), other_1=fixed(status("other.1")))
    there = FakeLauncher("swarm", digits_4=fixed(status("digits.4")))
    there.kept = [Run("digits", 4, "swarm", created=0.5)]
    known = places(None, here, there)
    assert known.find("digits").id == "digits.1"
    assert known.find("digits.4").on == "swarm"


def test_an_unknown_run_gets_the_nearest_name() -> None:
    with pytest.raises(RequestError, match=r"^there is no run digit\n") as caught:
        places(None, FakeLauncher("local", digits_1=fixed(status()))).find("digit")
    assert caught.value.hint == "did you mean digits?"


def test_the_same_name_in_two_places_is_refused() -> None:
    here = FakeLauncher("local", digits_1=fixed(status()), digits_2=fixed(status("digits.2")))
    there = FakeLauncher("swarm", digits_1=fixed(status()))
    known = places(None, here, there)
    with pytest.raises(RequestError, match=r"^digits\.1 is on local and on swarm\n") as caught:
        known.find("digits.1")
    assert caught.value.hint == "say which: --on local or --on swarm"
    assert known.find("digits").id == "digits.2"
    with pytest.raises(RequestError, match=r"^digits is on local and on swarm\n"):
        known.find("digits", in_one_place=True)


class Dead(FakeLauncher):
    """A launcher whose engine does not answer."""

    error = ClusterError("the Docker daemon does not answer")

    def runs(self) -> list[Run]:
        raise self.error


def test_a_docker_that_is_pointed_at_and_silent_is_warned_of_once() -> None:
    told: list[str] = []
    dead = (Dead("docker"), Dead("swarm"))
    known = places(None, *dead, pointer="DOCKER_HOST is ssh://bob", warn=told.append)
    assert known.runs() == known.runs() == []
    assert told == [
        "Docker was not asked for runs: DOCKER_HOST is ssh://bob, but the Docker daemon does not answer"
    ]
    places(None, *dead, pointer="", warn=told.append).runs()  # nobody said that there is a Docker
    assert len(told) == 1


def test_an_engine_outside_of_any_swarm_is_no_reason_to_warn() -> None:
    class Alone(Dead):
        error = ClusterError(NOT_IN_SWARM)

    told: list[str] = []
    places(None, FakeLauncher("docker"), Alone("swarm"), pointer="x", warn=told.append).runs()
    assert told == []


def test_a_launcher_that_cannot_say_hides_no_other() -> None:
    assert len(places(None, Dead("swarm"), FakeLauncher("local", digits_1=fixed(status()))).runs()) == 1
    with pytest.raises(ClusterError):
        places(None, Dead("swarm"), on="swarm").runs()
