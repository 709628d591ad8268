"""The server of the dashboard's page, asked as its browser asks it, with a coordinator that answers from a list."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from client_fakes import FakeLauncher, Receive, fixed, status, told
from starlette.middleware import Middleware
from starlette.types import Message

from swarmtrain.control.client import Client
from swarmtrain.control.look.series import SeriesRange
from swarmtrain.errors import ClusterError
from swarmtrain.launchers.base import Run
from swarmtrain.ui.web.app import Api, application
from swarmtrain.ui.web.asking import Runs
from swarmtrain.ui.web.guard import Guard
from swarmtrain.ui.web.kept import page_of
from swarmtrain.ui.web.live import Live, Mailbox
from swarmtrain.wire.link import Link

LOSS = {"name": "train/loss", "labels": {"rank": "0"}, "time": 1000.0, "step": 2, "value": 0.25}
POINTS = [[1.0, 990.0, 1, 1, 0.5, 0.5, 0.5, 1, 0]]
JOINED = {"seq": 1, "t": 5.0, "kind": "warning", "text": "the disk is slow", "node": "a"}


def series(request: dict[str, Any], receive: Receive) -> Iterator[dict[str, Any]]:
    yield {"series": {**LOSS, **({"points": POINTS} if request["points"] else {})}}
    yield {"done": {}}


@pytest.fixture
def launcher() -> FakeLauncher:
    ended = status(state="succeeded", now=1010.0)
    lines = [[2.0, 1, 0, "a", "<script>\x1b[2Jhello"]]
    return FakeLauncher(
        digits_1=fixed(
            ended,
            series=series,
            events=told({"event": JOINED}, {"done": {}}),
            logs=told({"lines": lines}, {"done": {}}),
            watch=told({"event": JOINED}, {"lines": lines}, {"status": ended, "done": {}}),
        ),
        digits_2=fixed(status("digits.2")),
    )


@pytest.fixture
def runs(launcher: FakeLauncher) -> Iterator[Runs]:
    found = Runs(Client("local", {"local": launcher}))
    yield found
    found.close()


def answer(runs: Runs, address: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of what somebody is answered who knows the token."""
    app = application(Api(runs, ["digits.1"], Live()), Middleware(Guard, token="secret", cookie="cookie-1"))
    parts, sent = urlsplit(address), list[Message]()
    scope = {
        "type": "http",
        "method": "GET",
        "path": parts.path,
        "root_path": "",
        "query_string": parts.query.encode(),
        "headers": [(b"host", b"localhost:1"), (b"cookie", b"cookie-1=secret")],
    }

    async def receive() -> Message:
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(each.get("body", b"") for each in sent[1:])


def asked(runs: Runs, address: str) -> Any:
    return json.loads(answer(runs, address)[2])


def test_the_page_and_its_files_are_there_with_a_policy(runs: Runs) -> None:
    code, headers, body = answer(runs, "/")
    assert (code, headers["content-type"]) == (200, "text/html; charset=utf-8") and b"swarmtrain" in body
    assert headers["content-security-policy"].startswith("default-src 'none'")
    code, headers, _ = answer(runs, "/page/main.js")
    assert code == 200 and "javascript" in headers["content-type"]
    assert answer(runs, "/page/../app.py")[0] == 404


def test_a_page_asks_for_runs_for_what_was_measured_and_for_what_is_wrong(runs: Runs) -> None:
    assert asked(runs, "/api/page") == {"runs": ["digits.1"]}
    listed = asked(runs, "/api/runs")["runs"]
    assert [(each["run"], each["state"]) for each in listed] == [
        ("digits.2", "running"),
        ("digits.1", "succeeded"),
    ]
    (one,) = asked(runs, "/api/series?run=digits.1&name=train/loss&x=step")["series"]
    assert one["columns"]["mean"] == [0.5]
    assert "columns" not in asked(runs, "/api/series?run=digits.1&list=1")["series"][0]
    assert asked(runs, "/api/explain?run=digits.1")["words"]["trouble"] is False
    code, _, body = answer(runs, "/api/explain?run=dogits.1")
    assert code == 400 and json.loads(body)["error"] == "there is no run dogits.1 on local"
    assert answer(runs, "/api/series?run=digits.1&start=soon")[0] == 400


def test_that_a_coordinator_is_away_is_no_fault_of_the_page(runs: Runs, launcher: FakeLauncher) -> None:
    """A browser complains of each answer that is one, in a console that has nothing else."""
    runs.get("digits.1")
    del launcher.coordinators["digits.1"]
    code, _, body = answer(runs, "/api/series?run=digits.1&name=train/loss")
    assert (code, json.loads(body)["error"]) == (200, "the coordinator of digits.1 does not answer yet")


def test_a_page_hears_of_a_run_until_it_is_over(runs: Runs) -> None:
    _, headers, body = answer(runs, "/api/live?run=digits.1&tail=10")
    assert headers["content-type"].startswith("text/event-stream")
    # A stream that is silent for a while, on a busy machine, says so by a comment.
    pieces = [each for each in body.decode().split("\n\n") if each and not each.startswith(":")]
    heard = [each.split("\n", 1) for each in pieces]
    assert [name for name, _ in heard] == [
        f"event: {name}" for name in ("begin", "happened", "lines", "status", "over")
    ]
    assert json.loads(heard[2][1].removeprefix("data: "))["lines"] == [[2.0, 1, 0, "a", "<script>hello"]]


def test_a_run_that_is_asked_for_by_all_of_its_names_is_followed_once(runs: Runs) -> None:
    _, _, body = answer(runs, "/api/live?run=digits.2&run=digits&run=digits.2&tail=0")
    (begun,) = (each for each in body.decode().split("\n\n") if each.startswith("event: begin"))
    assert json.loads(begun.partition("data: ")[2]) == {"runs": ["digits.2"]}


@pytest.mark.parametrize(("tail", "told"), [("7", 7), ("-3", 0), ("1e300", 100_000)])
def test_nobody_has_a_coordinator_gather_more_lines_than_a_page_shows(
    runs: Runs, launcher: FakeLauncher, tail: str, told: int
) -> None:
    asked: list[Any] = []

    def watch(request: dict[str, Any], receive: Receive) -> Iterator[dict[str, Any]]:
        asked.append(request["tail"])
        yield {"status": status(state="succeeded"), "done": {}}

    launcher.coordinators["digits.1"] = fixed(status(), watch=watch)
    answer(runs, f"/api/live?run=digits.1&tail={tail}")
    assert asked == [told]


def test_so_many_pages_are_told_and_the_next_one_hears_why_not(runs: Runs) -> None:
    async def scene() -> list[bytes]:
        live, handles = Live(most=2), [runs.get("digits.1")]
        pages = [live.stream(handles, 0) for _ in range(2)]
        for page in pages:
            await anext(page)
        refused = [each async for each in live.stream(handles, 0)]
        await pages[0].aclose()
        assert b"begin" in await anext(live.stream(handles, 0))  # there is room again
        return refused

    (told,) = asyncio.run(scene())
    assert told.startswith(b"event: over") and b"2 pages are told what happens already" in told


def test_who_follows_waits_for_a_page_that_does_not_read() -> None:
    rows = [[1.0, 1, 0, "a", "x" * 100]] * 1000

    async def scene() -> int:
        mailbox = Mailbox()

        def follow() -> None:
            for _ in range(60):
                mailbox.put(("lines", {"run": "t.1", "lines": rows}))

        following = asyncio.ensure_future(asyncio.to_thread(follow))
        heard = 0
        while not following.done() or heard < 60:
            await asyncio.sleep(0.01)
            items = await mailbox.take()
            assert len(items) < 10  # a megabyte or so at a time, and not all of it
            heard += len(items)
        return heard

    assert asyncio.run(asyncio.wait_for(scene(), 30)) == 60


def test_one_connection_serves_many_questions_and_one_that_broke_is_opened_again(
    runs: Runs, launcher: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    connect = launcher.connect

    def connecting(run: Run) -> Link:
        opened.append(run.id)
        return connect(run)

    monkeypatch.setattr(launcher, "connect", connecting)
    for _ in range(3):
        runs.series("digits.1", (), SeriesRange(), points=False)
    assert opened == ["digits.1"]
    launcher.coordinators["digits.1"].answers["series"] = told({"hang up": True})
    with pytest.raises(ClusterError, match="the connection to the coordinator broke"):
        runs.series("digits.1", (), SeriesRange(), points=False)
    launcher.coordinators["digits.1"].answers["series"] = series
    assert len(runs.series("digits.1", (), SeriesRange(), points=False)) == 1
    assert opened == ["digits.1"] * 3


def test_a_kept_page_has_all_that_is_asked_for(launcher: FakeLauncher) -> None:
    handle = Client("local", {"local": launcher}).get("digits.1")
    page = page_of([handle], 10)
    told = json.loads(page.partition('id="kept">')[2].partition("</script>")[0])
    (run,) = told["runs"]
    assert [each["text"] for each in run["events"]] == ["the disk is slow"]
    assert run["lines"] == [[2.0, 1, 0, "a", "<script>hello"]]
    assert {axis: len(found) for axis, found in run["series"].items()} == {"time": 1, "step": 1, "samples": 1}
