"""How a lab's things are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmtrain.errors import RequestError
from swarmtrain.lab.names import LabNames, default_name, node_index, pretend_gpus, state_directory


def test_names_carry_the_lab_and_the_number() -> None:
    names = LabNames("f2af6c", Path("/state"))
    assert names.project == "swarmtrain-lab-f2af6c"
    assert names.container(2) == "swarmtrain-lab-f2af6c-2"
    assert names.host(2) == "unix:///state/f2af6c/2/docker.sock"


@pytest.mark.parametrize("name", ["", "Upper", "a_b", "-a", "a-", "x" * 21])
def test_impossible_name_is_refused(name: str) -> None:
    with pytest.raises(RequestError):
        LabNames(name, Path("/state"))


def test_path_too_long_for_a_socket_is_refused_with_the_way_out() -> None:
    with pytest.raises(RequestError) as caught:
        LabNames("f2af6c", Path("/" + "long/" * 20))
    assert "XDG_STATE_HOME" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "index"),
    [("1", 1), ("lab-2", 2), ("swarmtrain-lab-f2af6c-3", 3), ("swarmtrain-lab-my-own-12", 12)],
)
def test_node_is_found_by_any_of_its_names(text: str, index: int) -> None:
    assert node_index(text) == index


@pytest.mark.parametrize("text", ["", "0", "lab", "lab-", "lab-0", "node-1", "one"])
def test_what_is_no_node_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        node_index(text)


def test_checkout_names_its_lab_from_anywhere_in_it(tmp_path: Path) -> None:
    deep = tmp_path / "checkout" / "src" / "deep"
    deep.mkdir(parents=True)
    (tmp_path / "checkout" / ".git").mkdir()
    other = tmp_path / "other"
    (other / ".git").mkdir(parents=True)
    assert default_name(deep) == default_name(tmp_path / "checkout")
    assert default_name(deep) != default_name(other)
    LabNames(default_name(deep), Path("/state"))


def test_pretend_gpus_are_stable_and_nobody_elses() -> None:
    assert pretend_gpus("a", 1, 2) == pretend_gpus("a", 1, 2)
    every = [gpu for lab in "ab" for node in (1, 2) for gpu in pretend_gpus(lab, node, 2)]
    assert len(set(every)) == len(every)
    assert all(gpu.startswith("GPU-") and len(gpu) == 40 for gpu in every)


def test_state_lies_where_xdg_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_directory() == tmp_path / "swarmtrain" / "labs"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert state_directory() == Path("/home/somebody/.local/state/swarmtrain/labs")


def test_what_xdg_takes_for_nothing_is_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A relative path; sockets below it would be other ones in each directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    assert state_directory() == tmp_path / ".local" / "state" / "swarmtrain" / "labs"
