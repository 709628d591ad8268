"""The lab's base image where no registry can be reached, made with stand-ins for debootstrap and docker."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from swarmtrain.docker.command import Docker
from swarmtrain.errors import ClusterError
from swarmtrain.lab.base import bootstrap

# As far as it is of interest here: a system is a tree with places for the configuration of apt and dpkg.
DEBOOTSTRAP = """#!/bin/sh
[ "$2" != buster ] || { echo "E: No such script" >&2; exit 1; }
mkdir -p "$3/etc/apt/apt.conf.d" "$3/etc/dpkg/dpkg.cfg.d" "$3/usr/share/doc/much"
echo "$2" >"$3/etc/release"
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of programs, the first on the PATH."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    program(directory / "debootstrap", DEBOOTSTRAP)
    return directory


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def test_a_base_image_is_the_release_without_what_nobody_needs(tools: Path, tmp_path: Path) -> None:
    """No pipe is left open either: warnings are errors here."""
    program(tools / "docker", f'#!/bin/sh\necho "$@" >{tmp_path}/said; exec tar -t >{tmp_path}/holds\n')
    bootstrap(Docker(), "trixie", "own:trixie")
    gc.collect()
    assert (tmp_path / "said").read_text() == "import - own:trixie\n"
    holds = (tmp_path / "holds").read_text().split()
    assert "./etc/release" in holds and "./etc/apt/apt.conf.d/docker-clean" in holds
    assert not any("usr/share/doc" in each for each in holds)


def test_what_debootstrap_or_docker_cannot_do_is_said(tools: Path) -> None:
    program(tools / "docker", "#!/bin/sh\necho no space left >&2; exit 1\n")
    with pytest.raises(ClusterError, match="docker could not import own:trixie: no space left"):
        bootstrap(Docker(), "trixie", "own:trixie")
    with pytest.raises(ClusterError, match="No such script") as caught:
        bootstrap(Docker(), "buster", "own:buster")
    assert "debootstrap --variant=minbase buster" in caught.value.hint
    gc.collect()
