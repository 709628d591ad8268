"""The pulse between two processes, and what is no pulse."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from swarmtrain.wire.pulse import Activity, Pulse, Source, opened

FIELDS = [
    "step",
    "mark",
    "activity",
    "source",
    "paused",
    "busy_ns",
    "stepped_ns",
    "first_ns",
    "resumed",
    "epoch",
    "counted",
    "ended",
    "pause",
    "profile",
]


def test_every_number_has_its_own_place(tmp_path: Path) -> None:
    pulse = Pulse.create(tmp_path / "p")
    for number, name in enumerate(FIELDS, 1):
        setattr(pulse, name, number << 40)
    again = Pulse.map(tmp_path / "p")
    assert [getattr(again, name) for name in FIELDS] == [number << 40 for number in range(1, len(FIELDS) + 1)]
    assert (tmp_path / "p").stat().st_size == 8 * (1 + len(FIELDS))
    assert (tmp_path / "p").stat().st_mode & 0o777 == 0o600


def test_a_new_pulse_says_that_its_worker_starts(tmp_path: Path) -> None:
    old = Pulse.create(tmp_path / "p")
    old.stepped(7)
    old.pause = 1
    pulse = Pulse.create(tmp_path / "p")
    assert (pulse.activity, pulse.source, pulse.step, pulse.stepped_ns) == (
        Activity.START,
        Source.NOBODY,
        0,
        0,
    )
    assert (pulse.first_ns, pulse.pause) == (0, 0)


def test_the_first_step_is_kept_and_the_last_one_moves(tmp_path: Path) -> None:
    pulse = Pulse.create(tmp_path / "p")
    pulse.stepped(41)
    first = pulse.first_ns
    assert first == pulse.stepped_ns > 0
    pulse.stepped(42)
    pulse.passed()
    pulse.passed()
    assert (pulse.step, pulse.mark, pulse.first_ns) == (42, 2, first)
    assert pulse.stepped_ns > first


def test_another_process_sees_it_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pulse = Pulse.create(tmp_path / "p")
    program = (
        "from swarmtrain.wire.pulse import opened, Source\n"
        "pulse = opened()\n"
        "pulse.source = Source.CAN_PAUSE\n"
        "pulse.stepped(9)\n"
        "print('stepped', flush=True)\n"
        "while not pulse.pause: pass\n"
        "pulse.paused = 1\n"
    )
    monkeypatch.setenv("SWARMTRAIN_PULSE", str(tmp_path / "p"))
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert (pulse.step, pulse.source, pulse.paused) == (9, Source.CAN_PAUSE, 0)
        pulse.pause = 1
        assert process.wait(20.0) == 0
    assert pulse.paused == 1  # also when its worker is gone


@pytest.mark.parametrize("content", [b"", b"torn", bytes(200)], ids=["empty", "torn", "another version"])
def test_what_is_no_pulse_is_not_felt(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p").write_bytes(content)
    with pytest.raises(ValueError):
        Pulse.map(tmp_path / "p")
    for path in ("p", "nothing"):
        monkeypatch.setenv("SWARMTRAIN_PULSE", str(tmp_path / path))
        assert opened() is None
    monkeypatch.delenv("SWARMTRAIN_PULSE")
    assert opened() is None


def test_a_script_that_has_ended_stays_so_whatever_else_is_said(tmp_path: Path) -> None:
    pulse = Pulse.create(tmp_path / "p")
    assert pulse.doing() == Activity.START
    pulse.ended = 1
    pulse.activity = Activity.SNAPSHOT
    assert pulse.doing() == Activity.ENDING
    pulse.activity = 99
    pulse.ended = 0
    assert pulse.doing() == 99
