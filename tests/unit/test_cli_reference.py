"""docs/commands.md and the commands say the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmtrain.ui.cli import COMMANDS
from swarmtrain.ui.reference import reference

FILE = Path(__file__).parents[2] / "docs" / "commands.md"


def test_the_reference_is_made_of_the_commands_help() -> None:
    hint = "make it anew: python -m swarmtrain.ui.reference > docs/commands.md"
    assert FILE.read_text(encoding="utf-8") == reference(), hint


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_section(name: str) -> None:
    assert f"\n### swarmtrain {name}\n" in FILE.read_text(encoding="utf-8")
