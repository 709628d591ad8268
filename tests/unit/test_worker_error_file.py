"""The error file: its content, and when it is left alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swarmtrain.worker import error_file


def failure(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "g1-r0.error"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(path))
    return path


def test_exception_is_written_with_its_frames(file: Path) -> None:
    error = failure(ValueError("x = \udcff"))
    error_file.record(error, error.__traceback__)
    message = json.loads(file.read_text())["message"]
    assert message["message"] == "ValueError: x = \udcff"
    assert "raise error" in message["extraInfo"]["py_callstack"]
    assert list(file.parent.iterdir()) == [file]


def test_what_record_has_written_stays(file: Path) -> None:
    file.write_text("{}")
    error_file.record(ValueError(), None)
    assert file.read_text() == "{}"


def test_the_words_of_an_exit_are_its_reason(file: Path) -> None:
    error_file.record_words(" no data in /data/train\n")
    message = json.loads(file.read_text())["message"]
    assert message["message"] == "no data in /data/train"
    assert message["extraInfo"]["py_callstack"] == ""


def test_empty_file_is_not_taken_for_a_record(file: Path) -> None:
    file.touch()
    error_file.record(KeyError("k"), None)
    assert json.loads(file.read_text())["message"]["message"] == "KeyError: 'k'"


def test_no_file_is_written_where_none_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    error_file.record(ValueError(), None)
    assert list(tmp_path.iterdir()) == []


def test_file_that_cannot_be_written_is_said_and_not_raised(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "no" / "file"))
    error_file.record(ValueError(), None)
    assert "swarmtrain: cannot write" in capfd.readouterr().err
