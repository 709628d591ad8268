"""Who may read a published page: whoever knows its token, under the names that it is published for.

The token is never in an address that a server sees, so neither in the logs of a reverse proxy nor in a `Referer`: it is
typed, or comes behind the `#` of the first address, and goes to the server as the body of one POST. From then on it is
a cookie, as on loopback. What is open to everybody is what everybody has: the page's scripts and styles.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.types import ASGIApp

from swarmtrain.ui.web.guard import HEADERS, Guard, Refusal
from swarmtrain.ui.web.published import ENTER

_OPEN = ("/page/", "/enter/")
_DOOR = "/enter"
_OPENER = "cross-origin-opener-policy"
# That somebody is listened to who has not proved anything.
_MOST, _SECONDS = 512, 10.0  # bytes


class PublishedGuard(Guard):
    """Asks every request who it is; an ASGI middleware.

    Args:
        token, cookie: see `Guard`.
        hosts: the names under which the page may be opened, in small letters, without ports.
        afterwards: the page of a run that has ended; None of one that has not.
    """

    def __init__(
        self,
        app: ASGIApp,
        token: str,
        cookie: str,
        hosts: Collection[str],
        afterwards: Callable[[], Response | None] = lambda: None,
    ) -> None:
        super().__init__(app, token, cookie)
        self._hosts, self._afterwards = hosts, afterwards

    async def answer(self, request: Request) -> ASGIApp:
        """See `Guard`."""
        path, method = request.scope["path"], request.method
        if host_of(request.headers.get("host", "")) not in self._hosts:
            return Refusal(421, "this page is published under another name").answer()
        # A link on another site leads to the front door, which opens by itself where the browser has the cookie.
        alien = request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        if alien and (path, method) != ("/", "GET"):
            return Refusal(403, "another site leads here").answer()
        if (path, method) == (_DOOR, "POST"):
            return await self._entered(request)
        if (path, method) == (_DOOR, "GET"):
            return JSONResponse({"known": self._is_known(request)})
        if method not in ("GET", "HEAD"):
            return Refusal(405, "nothing can be changed here").answer()
        if path == "/" and self._is_known(request):
            return self._afterwards() or self.app
        if path.startswith(_OPEN) or self._is_known(request):
            return self.app
        if path == "/":
            return FileResponse(ENTER / "enter.html")
        return Refusal(403, "this page needs its token: open / to tell it").answer()

    def headers(self, request: Request) -> Mapping[str, str]:
        """See `Guard`; browsers complain of an opener policy over plain HTTP, where it does nothing."""
        return HEADERS if _is_https(request) else {name: HEADERS[name] for name in HEADERS if name != _OPENER}

    def _is_known(self, request: Request) -> bool:
        return self.knows(self.of_cookie(request.headers))

    async def _entered(self, request: Request) -> Response:
        """The answer to who tells a token."""
        try:
            told = await asyncio.wait_for(_begun(request), _SECONDS)
        except asyncio.TimeoutError:
            return Refusal(408, "no token came").answer()
        if not self.knows(told.decode(errors="replace").strip()):
            return Refusal(403, "this is not the token").answer()
        answer = Response(status_code=204)
        self.remember(answer, secure=_is_https(request))
        return answer


async def _begun(request: Request) -> bytes:
    """The body of a request, or more of it than a token has."""
    told = b""
    async for piece in request.stream():
        told += piece
        if len(told) > _MOST:
            break
    return told


def _is_https(request: Request) -> bool:
    """Whether the browser speaks HTTPS to the proxy in front; who lies about it spoils his own cookie alone."""
    return request.headers.get("x-forwarded-proto") == "https"


def host_of(header: str) -> str:
    """The name in a `Host`, in small letters: ``train.lab`` of ``Train.lab:8080``."""
    name, _, port = header.rpartition(":")
    return (name if name and port.isdecimal() else header).lower()
