"""What pages say of the code that a link cannot: figures that it decides by, keys of documents, names of requests."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from run_fakes import Theatre

from swarmtrain.coordinator.agents.messages import REPLACED, SETTLES
from swarmtrain.coordinator.clients.status import status
from swarmtrain.coordinator.core.model import Policy
from swarmtrain.coordinator.core.standstill import auto_hang
from swarmtrain.coordinator.run.controller import NUMBERS_LEFT
from swarmtrain.protocol.requests import REQUESTS
from swarmtrain.protocol.schema import tag_of

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


@cache
def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_the_page_on_healing_has_the_figures_of_the_code() -> None:
    policy = Policy(1, 1)
    with_trainer, without = auto_hang(0.0, reports_phases=True), auto_hang(0.0, reports_phases=False)
    said = [
        f"no step is made for {policy.lease:.0f} seconds",
        f"{policy.lease_blind:.0f} seconds where no steps were made",
        f"for {with_trainer:.0f} seconds with the Trainer, {without / 60:.0f} minutes with other scripts",
        f"(or {auto_hang(1e6, reports_phases=True) / 1e6:.0f} steps, if those are longer)",
        f"after more than {REPLACED:.0f} seconds of silence is taken in {SETTLES:.0f} seconds later",
        f"After {policy.lease_alone:.0f} s without a word",
        f"until {policy.delivery:.0f} seconds after the lost agent's last word",
        f"max: {policy.restart.limit} ",
        f"window: {policy.restart.window / 3600:.0f}h ",
        f"node_timeout: {policy.node_timeout / 60:.0f}m ",
    ]
    text = " ".join(page("healing.md").split())
    assert [each for each in said if each not in text] == []
    assert NUMBERS_LEFT == 100 and "next generation is a hundred higher" in text


def test_the_page_on_architecture_has_every_key_of_the_status_and_every_request(stage: Theatre) -> None:
    text = page("architecture.md")
    document = text.partition("### The status document")[2].partition("### ")[0]
    requests = text.partition("### Client to coordinator")[2].partition("### ")[0]
    assert [key for key in status(stage.make()).dump() if not re.search(rf"\b{key}\b", document)] == []
    named = set(re.findall(r"^\| `(\w+)`", requests, re.MULTILINE))
    assert named == {tag.name for kind in REQUESTS.kinds if (tag := tag_of(kind))}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_row_of_a_table_is_in_one(path: Path) -> None:
    """An empty line ends a table: a row behind it is shown as text."""
    lines = ["", *path.read_text(encoding="utf-8").split("\n"), ""]
    lost = [
        line
        for before, line, after in zip(lines, lines[1:], lines[2:], strict=False)
        if line.startswith("|") and not before.startswith("|") and not after.startswith("|-")
    ]
    assert lost == []
