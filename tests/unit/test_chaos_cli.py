"""``swarmtrain chaos`` as strings and exit codes: what it refuses, and the plan that it prints."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from client_fakes import FakeLauncher, fixed, status

from swarmtrain.control import places
from swarmtrain.control.places import Places
from swarmtrain.ui.cli import cli


@pytest.fixture(autouse=True)
def launcher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeLauncher:
    fake = FakeLauncher(digits_1=fixed(status()), over_1=fixed(status("over.1", "succeeded")))
    monkeypatch.setattr(Places, "open", lambda self, name: fake)
    monkeypatch.setattr(places, "LAUNCHERS", ("local",))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SWARMTRAIN_ON", raising=False)
    return fake


def chaos(*words: str) -> Result:
    return CliRunner().invoke(cli, ["chaos", *words], prog_name="swarmtrain")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["digits"], 2, "give a fault, --plan or --random"),
        (["digits", "freeze", "--random"], 2, "give only one of"),
        (["digits", "frezze"], 2, "did you mean freeze?"),
        (["digits", "kill-worker", "--rank", "one"], 2, "--rank: 'one' is no rank"),
        (["digits", "kill-worker", "--node", "lab-1"], 2, "--node: kill-worker has none"),
        (["digits", "--plan", "absent.yaml"], 2, "absent.yaml: there is no such file"),
        (["digits", "--plan", "."], 2, ".: is a directory, not a plan of faults"),
        (["digits", "--plan", "absent.yaml", "--rank", "1"], 2, "--rank does not go with --plan"),
        (["digits", "--random", "--every", "1ms", "--for", "1d"], 2, "that is more than 10000 faults"),
        (["digits", "--random", "--rate", "1gbit"], 2, "--rate does not go with --random"),
        (["digits", "--random", "--only", "frezze"], 2, "did you mean freeze?"),
        (["digits", "--random", "--for", "long"], 2, "'long' is no duration"),
        (["digits", "unplug", "--node", "lab-1"], 3, "unplug does not work on local here"),
        (["over", "kill-worker"], 3, "over.1 has ended"),
        (["digit", "kill-worker"], 2, "did you mean digits?"),
    ],
)
def test_what_is_wrong_is_refused_in_a_sentence(words: list[str], code: int, says: str) -> None:
    result = chaos(*words)
    assert result.exit_code == code
    assert says in result.stderr
    assert result.stdout == ""


def test_a_dry_run_prints_the_plan_and_the_same_seed_prints_the_same() -> None:
    words = ("digits", "--random", "--seed", "7", "--every", "20s", "--for", "1m", "--dry-run")
    shown = chaos(*words)
    assert shown.exit_code == 0
    assert shown.stdout.splitlines()[:2] == ["seed: 7", "faults:"]
    assert len(shown.stdout.splitlines()) == 5
    assert chaos(*words).stdout == shown.stdout


def test_flags_become_the_one_fault_of_a_plan() -> None:
    words = ("digits", "freeze", "--node", "lab-2", "--for", "3s", "--at", "step 120", "--seed", "1")
    shown = chaos(*words, "--dry-run")
    assert shown.stdout == "seed: 1\nfaults:\n  - {at: step 120, do: freeze, node: lab-2, for: 3s}\n"
