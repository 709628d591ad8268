"""Which launcher a job goes to, and which run a name means."""

from __future__ import annotations

import pytest
from client_fakes import FakeLauncher, fixed, status

from swarmtrain import ClusterError, Job, RequestError
from swarmtrain.control.client import Client
from swarmtrain.control.place import Places
from swarmtrain.job import LoadedJob
from swarmtrain.launchers.base import Run

NO_SWARM = ClusterError("this Docker engine is not in a Swarm", "docker swarm init")


def places(error: ClusterError | None, *launchers: FakeLauncher, on: str | None = None) -> Places:
    return Places(on, {launcher.name: launcher for launcher in launchers}, ask=lambda: error)


def loaded(**keys: object) -> LoadedJob:
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
    assert caught.value.hint == "docker swarm init"


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
    with pytest.raises(RequestError, match=r"there is no run digit$") as caught:
        places(None, FakeLauncher("local", digits_1=fixed(status()))).find("digit")
    assert caught.value.hint == "did you mean digits?"


def test_a_launcher_that_cannot_say_hides_no_other() -> None:
    class Dead(FakeLauncher):
        def runs(self) -> list[Run]:
            raise NO_SWARM

    assert len(places(None, Dead("swarm"), FakeLauncher("local", digits_1=fixed(status()))).runs()) == 1
    with pytest.raises(ClusterError):
        places(None, Dead("swarm"), on="swarm").runs()
