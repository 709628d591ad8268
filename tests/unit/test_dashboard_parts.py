"""The dashboard's parts that need no browser: what the page is told, who may read it, and its file to keep."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.datastructures import Headers, QueryParams

from swarmtrain.control.follow import Update
from swarmtrain.errors import ClusterError, RequestError
from swarmtrain.protocol.facts import MasterAddress, NodePart
from swarmtrain.protocol.journal.events import GenerationFormed
from swarmtrain.protocol.journal.remarks import Warned
from swarmtrain.protocol.replies import Line
from swarmtrain.protocol.series.points import Series, SeriesPoint
from swarmtrain.protocol.status import Status
from swarmtrain.ui.commands.look import dashboard
from swarmtrain.ui.web import PAGE
from swarmtrain.ui.web.app import range_of
from swarmtrain.ui.web.documents import event_document, series_document
from swarmtrain.ui.web.guard import POLICY, Guard
from swarmtrain.ui.web.kept import composed
from swarmtrain.ui.web.live import gathered, told


async def _nothing(*_: object) -> None: ...


GUARD = Guard(_nothing, "secret", "cookie-1")
HERE = {"host": "127.0.0.1:8000"}


@pytest.mark.parametrize(
    ("method", "headers", "query", "status"),
    [
        ("GET", HERE, {"token": "secret"}, None),
        ("GET", {"host": "localhost:9"}, {"token": "secret"}, None),
        ("GET", {"host": "[::1]:9"}, {"token": "secret"}, None),
        ("GET", {"host": "localhost"}, {"token": "secret"}, None),
        ("HEAD", HERE | {"cookie": "other=1; cookie-1=secret"}, {}, None),
        ("GET", HERE | {"cookie": "cookie-1=secret", "sec-fetch-site": "same-origin"}, {}, None),
        ("GET", HERE, {}, 403),
        ("GET", HERE, {"token": "secre"}, 403),
        ("GET", HERE, {"token": "sécret"}, 403),
        ("GET", HERE | {"cookie": "cookie-2=secret"}, {}, 403),
        ("GET", HERE | {"cookie": "cookie-1=secret", "sec-fetch-site": "same-site"}, {}, 403),
        ("GET", HERE | {"sec-fetch-site": "cross-site"}, {"token": "secret"}, 403),
        ("GET", {"host": "evil.example:8000"}, {"token": "secret"}, 421),
        ("GET", {"host": "127.0.0.1.evil.example"}, {"token": "secret"}, 421),
        ("GET", {}, {"token": "secret"}, 421),
        ("POST", HERE, {"token": "secret"}, 405),
    ],
)
def test_only_who_knows_the_token_reads_and_nothing_is_changed(
    method: str, headers: dict[str, str], query: dict[str, str], status: int | None
) -> None:
    refused = GUARD.refusal(method, Headers(headers), query)
    assert (refused and refused.status) == status


def test_the_page_may_load_nothing_from_elsewhere_and_runs_nothing_inline() -> None:
    assert "default-src 'none'" in POLICY and "unsafe" not in POLICY and "http" not in POLICY


OURS = [file for file in sorted(PAGE.rglob("*.*")) if "vendor" not in file.parts]


@pytest.mark.parametrize("file", OURS, ids=lambda file: file.name)
def test_no_file_of_the_page_names_another_site(file: Path) -> None:
    text = file.read_text("utf-8")
    found = set(re.findall(r"https?://[^\s'\"`)]+", text))
    assert found <= {"http://www.w3.org/2000/svg"}  # which is a name


def test_points_travel_as_columns_and_thinned_ones_with_their_spread() -> None:
    points = [
        SeriesPoint(1.0, 10.0, 1, 1, 0.5, 0.5, 0.5),
        SeriesPoint(2.0, 11.0, 2, 1, 0.1, 0.123456789, 0.9, 3, 1),
        SeriesPoint(5.0, 12.0, 5, 2, None, None, None, 1, 1),
    ]
    document = series_document(Series("train/loss", {"rank": "0"}, points=points))
    assert document["about"] == "the loss, of the rank's own samples"
    assert document["columns"] == {
        "x": [1.0, 2.0, 5.0],
        "time": [10.0, 11.0, 12.0],
        "step": [1, 2, 5],
        "generation": [1, 1, 2],
        "mean": [0.5, 0.1234568, None],
        "low": [0.5, 0.1, None],
        "high": [0.5, 0.9, None],
        "points": [1, 3, 1],
        "bad": [0, 1, 1],
    }
    plain = series_document(Series("train/loss", points=points[:1]))
    assert set(plain["columns"]) == {"x", "time", "step", "generation", "mean"}  # type: ignore[call-overload]
    assert "columns" not in series_document(Series("train/loss"))


def test_an_event_tells_the_time_line_what_it_needs() -> None:
    formed = GenerationFormed(
        text="generation 2: 3 ranks",
        generation=2,
        parts={"a": NodePart("x", [0, 1], 0), "b": NodePart("y", [2], 1)},
        backend="gloo",
        master=MasterAddress("a", "10.0.0.1", 29500),
    ).numbered(7, 5.0)
    document = event_document(formed)
    assert (document["generation"], document["ranks"], document["on"], document["tone"]) == (
        2,
        3,
        ["a", "b"],
        "plain",
    )
    assert event_document(Warned(text="slow \x1b[2J", rank=1))["text"] == "slow "


def test_what_comes_together_is_told_together() -> None:
    def line(text: str) -> Line:
        return Line(1.0, 1, 0, "a", text)

    items = [
        *told("r.1", Update(lines=[line("x")])),
        *told("r.1", Update(lines=[line("y\x07"), line("\udcff")])),
    ]
    assert gathered(items) == [
        ("lines", {"run": "r.1", "lines": [[1.0, 1, 0, "a", each] for each in ("x", "y", "\\udcff")]})
    ]
    two = [*told("r.1", Update(lines=[line("x")])), *told("s.1", Update(note="away"))]
    assert [name for name, _ in gathered(two)] == ["lines", "note"]
    many = told("r.1", Update(lines=[line("x")] * 12_000))
    assert [len(data["lines"]) for _, data in gathered(many)] == [5000, 5000, 2000]  # type: ignore[arg-type]
    ((name, data),) = told("r.1", Update(status=Status(run="r.1", job="r", state="running")))
    assert name == "status" and data["words"]["headline"] == "r.1 is running"  # type: ignore[index]


def test_a_wrong_question_is_refused_with_a_reason() -> None:
    asked = range_of(QueryParams("x=step&start=-3.5&most=100000"))
    assert (asked.x, asked.start, asked.end, asked.most) == ("step", -3.5, None, 20_000)
    for query, message in (("x=epoch", "there is no axis 'epoch'"), ("start=nan", "'nan' is no number")):
        with pytest.raises(RequestError) as refused:
            range_of(QueryParams(query))
        assert refused.value.message == message


def test_a_kept_page_is_whole_and_what_it_was_told_cannot_become_markup() -> None:
    page = composed({"runs": [], "kept": 1.0, "text": "</script><script>alert(1)</script>"})
    assert page.count("<script") == 3 and "alert(1)</script>" not in page
    assert "page/" not in page.partition("<body>")[0].replace("text/javascript", "")
    imports = json.loads(page.partition('<script type="importmap">')[2].partition("</script>")[0])["imports"]
    assert "main.js" in imports
    for name, data in imports.items():
        text = base64.b64decode(data.partition(",")[2]).decode()
        for wanted in re.findall(r'^import .* from "(.*)";$', text, re.MULTILINE):
            assert wanted in imports, f"{name} imports {wanted}"


def test_what_is_not_ours_comes_with_its_licence() -> None:
    for directory in (each for each in (PAGE / "vendor").iterdir() if each.is_dir()):
        assert "Permission is hereby granted" in (directory / "LICENSE").read_text()
        assert f"`{directory.name}/`" in (PAGE / "vendor" / "README.md").read_text()


def test_the_missing_extra_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    dashboard.check_installed()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ClusterError) as refused:
        dashboard.check_installed()
    assert refused.value.hint == "pip install 'swarmtrain[web]'"


def test_a_page_is_kept_without_the_extra() -> None:
    code = "import sys, swarmtrain.ui.web.kept; print({'starlette', 'uvicorn', 'asyncio'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"
