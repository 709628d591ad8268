"""What of the documentation is made of the code is what the code says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swarmtrain.job.made.schema import MADE_WITH
from swarmtrain.ui.cli import COMMANDS
from swarmtrain.ui.made.pages import PAGES, write

DOCS = Path(__file__).parents[2] / "docs"


def of_another_pydantic(name: str) -> bool:
    """Whether a page may differ in what is pydantic's: tests/unit/test_job_docs.py compares the rest."""
    return name.endswith(".schema.json") and json.loads((DOCS / name).read_text())["$comment"] != MADE_WITH


@pytest.mark.parametrize("name", PAGES)
def test_a_page_that_is_made_is_up_to_date(name: str) -> None:
    text = (DOCS / name).read_text(encoding="utf-8")
    assert PAGES[name](text) == text or of_another_pydantic(name), "run: make docs"


def test_making_pages_anew_mends_what_somebody_has_written_into_them(tmp_path: Path) -> None:
    for name in PAGES:
        text = (DOCS / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace("| `linger` | duration |", "| `linger` | time |"))
    assert "`linger` | time" in (tmp_path / "job-file.md").read_text()
    write(tmp_path)
    for name, made in PAGES.items():
        assert (tmp_path / name).read_text() == made((DOCS / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_section(name: str) -> None:
    assert f"\n### swarmtrain {name}\n" in PAGES["commands.md"]("")
