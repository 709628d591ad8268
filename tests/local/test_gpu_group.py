"""The tests on a GPU, where there is none: whoever asks for them is told so, and nothing passes for a test that ran."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_tests_on_a_gpu_fail_with_one_sentence_where_there_is_none() -> None:
    done = subprocess.run([ROOT / "scripts" / "test-gpu", "-q"], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert said.count("tests/gpu need a GPU that torch can use") == 1
    assert "skipped" not in said and "passed" not in said and "Traceback" not in said
