"""What the tests on a GPU share: a run's home, and a table of what they measured, printed at the end.

They are asked for by name (`make test-gpu`), need neither Docker nor a network, and fail where there is no GPU.
"""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch
from gpu_table import Tell, rows
from homes import home

__all__ = ["home"]

NO_GPU = "tests/gpu need a GPU that torch can use, and torch.cuda.is_available() is False here"


def pytest_collection_finish(session: pytest.Session) -> None:
    ours = any(Path(__file__).parent in item.path.parents for item in session.items)
    if ours and not session.config.option.collectonly and not torch.cuda.is_available():
        pytest.exit(NO_GPU, returncode=pytest.ExitCode.TESTS_FAILED)


@pytest.fixture
def tell() -> Tell:
    """Adds a row to the table: what was measured, and how much it was."""
    return lambda what, how_much: rows.append((what, how_much))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not rows:
        return
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}, Python {platform.python_version()}"
    terminalreporter.section("on this machine's GPUs")
    terminalreporter.write_line(f"{', '.join(gpus)}; {versions}\n")
    terminalreporter.write_line("| what | measured |\n|---|---|")
    for what, how_much in rows:
        terminalreporter.write_line(f"| {what} | {how_much} |")
