"""A run's page as one file: the same page with everything that it asks for in it.

A file cannot load another one beside it in every browser, so its modules lie in the import map, as data; what it was
told lies in a block of JSON. Its policy lets it load nothing at all.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path

from swarmtrain.control.handle import RunHandle
from swarmtrain.control.look.explaining import ask_why
from swarmtrain.control.look.series import SeriesRange
from swarmtrain.control.views.logs import Selection
from swarmtrain.ui.web import PAGE
from swarmtrain.ui.web.documents import (
    Json,
    diagnosis_document,
    event_document,
    line_row,
    run_entry,
    series_document,
    status_document,
)

# Points on an axis: of all series together, and of one.
_POINTS, _LEAST, _MOST = 200_000, 50, 1000
_IMPORT = re.compile(r'(?<=from ")(\.{1,2}/[\w./]+\.js)(?=")')
_STYLES = ("style.css", "vendor/uplot/uPlot.min.css")


def page_of(handles: Sequence[RunHandle], lines: int) -> str:
    """The page of some runs, the first of which is shown whole, with so many of its last lines.

    Raises:
        ClusterError: one of them cannot be asked.
    """
    told: Json = {
        "kept": time.time(),
        "runs": [_run(handle, lines if not at else 0) for at, handle in enumerate(handles)],
    }
    return composed(told)


def _run(handle: RunHandle, lines: int) -> Json:
    """Everything that the page asks of a run."""
    status, diagnosis = ask_why(handle.launcher, handle.run)
    last = handle.logs(Selection(tail=lines)) if lines else ()
    return {
        **run_entry(handle, status),
        **status_document(status),
        "explain": diagnosis_document(diagnosis),
        "events": [event_document(event) for event in handle.events()],
        "series": _series(handle),
        "lines": [line_row(line) for batch in last for line in batch],
    }


def _series(handle: RunHandle) -> Json:
    """What was measured, by axis; only the training has steps and samples."""
    every = handle.series(points=False)
    most = max(_LEAST, min(_MOST, _POINTS // max(1, len(every))))
    trained = {each.name for each in every if "rank" in each.labels}
    found = {"time": handle.series(within=SeriesRange(x="time", most=most))}
    if trained:
        found["step"] = handle.series(*trained, within=SeriesRange(x="step", most=most))
        found["samples"] = handle.series(*trained, within=SeriesRange(x="samples", most=most))
    return {
        axis: [series_document(each) for each in found.get(axis, [])] for axis in ("time", "step", "samples")
    }


# ---- the file --------------------------------------------------------------------------------------------------------


def composed(told: Json) -> str:
    """The page with this in it."""
    modules = {str(path.relative_to(PAGE)): path.read_text("utf-8") for path in sorted(PAGE.glob("**/*.js"))}
    imports = {name: _as_data(_bare(name, text)) for name, text in modules.items()}
    importmap = json.dumps({"imports": imports})
    begin = 'import "main.js";'
    style = "\n".join((PAGE / name).read_text("utf-8") for name in _STYLES)
    data = json.dumps(told, separators=(",", ":")).replace("<", "\\u003c")
    policy = (
        "default-src 'none'; img-src data:;"
        f" script-src {_hash(importmap)} {_hash(begin)} data:; style-src {_hash(style)}"
    )
    head = (
        f'<meta http-equiv="content-security-policy" content="{policy}">\n'
        f"<style>{style}</style>\n"
        f'<script type="importmap">{importmap}</script>\n'
        f'<script type="application/json" id="kept">{data}</script>\n'
        f'<script type="module">{begin}</script>\n'
    )
    html = (PAGE / "index.html").read_text("utf-8")
    before, mark, rest = html.partition("<!-- what follows is in a kept page itself -->\n")
    assert mark, "the page says where its files are named"
    return before + head + rest.partition("<!-- until here -->\n")[2]


def _bare(name: str, text: str) -> str:
    """A module whose imports are named as the import map has them."""

    def named(match: re.Match[str]) -> str:
        # Paths of a page that is nowhere: relative to the module that names them.
        return str((Path("/") / name).parent.joinpath(match[0]).resolve().relative_to("/"))

    return _IMPORT.sub(named, text)


def _as_data(text: str) -> str:
    return f"data:text/javascript;base64,{base64.b64encode(text.encode()).decode()}"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
