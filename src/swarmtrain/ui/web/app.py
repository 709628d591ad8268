"""The server of the page: its files, and what it asks for.

| address | answer |
|---|---|
| `/` and `/page/...` | the page |
| `/api/page` | the runs that it begins with |
| `/api/runs` | all runs that are kept, each with its state |
| `/api/live?run=...` | everything that happens to these runs, as server-sent events (`live.py`) |
| `/api/series?run=...` | measured of a run: each `name`, by `x`, `start` to `end`, `most` points; or a `list` |
| `/api/explain?run=...` | what is wrong with a run |

Questions are asked in threads, as clients block.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, cast

from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from swarmtrain.control.look.series import SeriesRange
from swarmtrain.errors import RequestError, SwarmtrainError
from swarmtrain.ui.web import PAGE
from swarmtrain.ui.web.asking import Runs
from swarmtrain.ui.web.documents import Json, diagnosis_document, run_entry, series_document
from swarmtrain.ui.web.live import Live

_MOST_POINTS = 20_000
_MOST_LINES = 100_000  # to begin with: a coordinator has the last lines in its memory, and all of them not

Answer = Callable[[Request], Awaitable[Response]]


class Api:
    """The answers to the page.

    Args:
        runs: the runs that it may ask for.
        shown: the names of those that it begins with.
        streams: what pages are told.
    """

    def __init__(self, runs: Runs, shown: Sequence[str], streams: Live) -> None:
        self._runs, self._shown, self._streams = runs, tuple(shown), streams

    def routes(self) -> list[Route]:
        """Every address below `/api`."""
        answers: dict[str, Answer] = {
            "page": self._page,
            "runs": self._list,
            "live": self._live,
            "series": self._series,
            "explain": self._explain,
        }
        return [Route(f"/api/{name}", answer) for name, answer in answers.items()]

    async def _page(self, request: Request) -> Response:
        return JSONResponse({"runs": self._shown})

    async def _list(self, request: Request) -> Response:
        found = await asyncio.to_thread(self._runs.all)
        return JSONResponse({"runs": [run_entry(handle, status) for handle, status in found]})

    async def _live(self, request: Request) -> Response:
        names = request.query_params.getlist("run")
        found = [await asyncio.to_thread(self._runs.get, name) for name in dict.fromkeys(names)]
        handles = list({handle.id: handle for handle in found}.values())  # a run has more than one name
        tail = request.query_params.get("tail")
        last = None if tail is None else min(max(0, int(number(tail))), _MOST_LINES)
        told = self._streams.stream(handles, last)
        return StreamingResponse(told, media_type="text/event-stream")

    async def _series(self, request: Request) -> Response:
        query = request.query_params
        found = await asyncio.to_thread(
            self._runs.series,
            query.get("run", ""),
            query.getlist("name"),
            range_of(query),
            points="list" not in query,
        )
        return JSONResponse({"series": [series_document(each) for each in found]})

    async def _explain(self, request: Request) -> Response:
        handle = await asyncio.to_thread(self._runs.get, request.query_params.get("run", ""))
        return JSONResponse(diagnosis_document(await asyncio.to_thread(handle.explain)))


def range_of(query: QueryParams) -> SeriesRange:
    """Which points the page asks for.

    Raises:
        RequestError: it asks for what there is not.
    """
    axis = query.get("x", "time")
    if axis not in ("time", "step", "samples"):
        raise RequestError(f"there is no axis {axis!r}", "they are time, step and samples")
    start, end = (number(query[key]) if key in query else None for key in ("start", "end"))
    return SeriesRange(
        x=cast(Literal["time", "step", "samples"], axis),
        start=start,
        end=end,
        most=min(max(1, int(number(query.get("most", "1000")))), _MOST_POINTS),
    )


def number(text: str) -> float:
    """A number in an address.

    Raises:
        RequestError: it is none.
    """
    try:
        value = float(text)
        int(value)  # neither NaN nor infinite
    except (ValueError, OverflowError) as error:
        raise RequestError(f"{text!r} is no number") from error
    return value


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, SwarmtrainError)
    body: Json = {"error": error.message, "hint": error.hint}
    if isinstance(error, RequestError):
        return JSONResponse(body, 400)
    # A cluster that does not answer now is no fault of the page, into whose console a browser writes each answer that
    # is one. A stream that cannot begin has to fail: nobody reads another answer in its place.
    return JSONResponse(body, 502 if request.url.path.endswith("/live") else 200)


async def _index(request: Request) -> Response:
    return FileResponse(PAGE / "index.html")


def application(api: Api, guard: Middleware, *more: BaseRoute) -> Starlette:
    """The server, as uvicorn runs it.

    Args:
        guard: who may read.
        more: what there is besides.
    """
    return Starlette(
        routes=[
            Route("/", _index),
            *api.routes(),
            Mount("/page", StaticFiles(directory=PAGE)),
            *more,
        ],
        middleware=[guard],
        exception_handlers={SwarmtrainError: _refused},
    )
