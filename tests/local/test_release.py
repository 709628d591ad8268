"""A release: what is built works away from the sources, and nothing is tagged that does not fit."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*argv: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=cwd, capture_output=True, text=True)


@pytest.mark.long  # `make release` does it, too
def test_the_wheel_works_in_an_environment_of_its_own(tmp_path: Path) -> None:
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    checked = run(ROOT / "scripts" / "check-wheel", wheel, sysconfig.get_path("purelib"))
    assert checked.returncode == 0, checked.stderr
    assert "a run of two nodes" in checked.stderr and checked.stderr.endswith(f"{wheel.name} works\n")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with a version 1.2.3 and as much of this one as a release looks at before it builds."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "release", tmp_path / "scripts")
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changes\n\n## 1.2.3\n\n## 1.2.2\n")
    run("git", "init", "-q", cwd=tmp_path)
    for key, value in {"user.name": "somebody", "user.email": "somebody@example.org"}.items():
        run("git", "config", key, value, cwd=tmp_path)
    commit(tmp_path)
    return tmp_path


def commit(checkout: Path) -> None:
    run("git", "add", "-A", cwd=checkout)
    assert run("git", "commit", "-qm", "as it is", cwd=checkout).returncode == 0


def refused(checkout: Path, *version: str) -> str:
    """Why there is no release."""
    done = run(checkout / "scripts" / "release", *version, cwd=checkout)
    assert done.returncode == 2 and not run("git", "tag", cwd=checkout).stdout.replace("v1.2.3\n", "")
    return done.stderr.splitlines()[0]


def test_a_release_that_does_not_fit_is_refused_before_anything_is_built(checkout: Path) -> None:
    assert refused(checkout) == "error: which version is it?"
    assert refused(checkout, "1.3.0") == "error: pyproject.toml says 1.2.3, not 1.3.0"
    (checkout / "new.py").touch()
    assert refused(checkout, "1.2.3") == "error: not everything is committed"
    commit(checkout)
    (checkout / "CHANGELOG.md").write_text("# Changes\n\n## 1.2.2\n")
    assert refused(checkout, "1.2.3") == "error: CHANGELOG.md begins with 1.2.2, not 1.2.3"
    (checkout / "CHANGELOG.md").write_text("# Changes\n\n## 1.2.3 (today)\n")
    commit(checkout)
    run("git", "tag", "v1.2.3", cwd=checkout)
    assert refused(checkout, "1.2.3") == "error: there is a tag v1.2.3 already"
    (checkout / "CHANGELOG.md").unlink()
    assert refused(checkout, "1.2.3") == "error: CHANGELOG.md begins with no version, not 1.2.3"


def test_what_was_checked_is_tagged_and_nothing_where_the_check_fails(checkout: Path) -> None:
    for name, text in {
        ".gitignore": ".venv\ndist\n",
        ".venv/bin/python": "mkdir -p dist && touch dist/swarmtrain-1.2.3-py3-none-any.whl",
        "scripts/check-wheel": "git commit -q --allow-empty -m 'what came meanwhile'; [ ! -e broken ]",
    }.items():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(f"#!/bin/sh\n{text}\n" if "/" in name else text)
        (checkout / name).chmod(0o755)
    (checkout / "broken").touch()
    commit(checkout)
    assert run(checkout / "scripts" / "release", "1.2.3", cwd=checkout).returncode == 1
    assert run("git", "tag", cwd=checkout).stdout == ""

    (checkout / "broken").unlink()
    commit(checkout)
    built = run("git", "rev-parse", "HEAD", cwd=checkout).stdout
    done = run(checkout / "scripts" / "release", "1.2.3", cwd=checkout)
    assert done.returncode == 0 and "v1.2.3 is tagged" in done.stderr, done.stderr
    assert run("git", "rev-parse", "v1.2.3^{commit}", cwd=checkout).stdout == built
