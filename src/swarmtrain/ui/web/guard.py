"""Who may read the page: whoever knows its token, on this machine, and no other page in the same browser.

Other users of a machine reach its loopback as well, and so does every web site that a browser shows. So each start of
the server has a token, which the address that it prints carries; the first answer makes a cookie of it, which scripts
cannot read and other sites do not send. A name that only leads to loopback (DNS rebinding) is refused. Nothing can be
changed from the page: only GET and HEAD are answered.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import NamedTuple

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Nothing from elsewhere, nothing inline, nobody's frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
_NAMES = ("127.0.0.1", "localhost", "[::1]")
_PARAMETER = "token"


class Refusal(NamedTuple):
    """Why a request is not answered."""

    status: int
    text: str

    def answer(self) -> Response:
        """It, in words."""
        return PlainTextResponse(f"{self.text}\n", self.status)


class Guard:
    """Asks every request who it is; an ASGI middleware.

    Args:
        token: that the reader must know.
        cookie: the name under which the browser keeps it; cookies of one host are shared by all of its ports.
    """

    def __init__(self, app: ASGIApp, token: str, cookie: str) -> None:
        self.app, self._token, self._cookie = app, token, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            return

        request = Request(scope, receive)
        wanted = self.headers(request)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in wanted.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = await self.answer(request)
        await answer(scope, receive, with_headers)

    def headers(self, request: Request) -> Mapping[str, str]:
        """What every answer says besides."""
        return HEADERS

    async def answer(self, request: Request) -> ASGIApp:
        """What answers a request: the page, or the word that it does not."""
        if (refused := self.refusal(request.method, request.headers, request.query_params)) is not None:
            return refused.answer()
        return self._remembered(request) if _PARAMETER in request.query_params else self.app

    def refusal(self, method: str, headers: Headers, query: Mapping[str, str]) -> Refusal | None:
        """Why this request is refused; None where it is not."""
        host = headers.get("host", "")
        if host.rpartition(":")[0] not in _NAMES and host not in _NAMES:
            return Refusal(421, "this page is served to this machine alone: open it as http://127.0.0.1")
        if method not in ("GET", "HEAD"):
            return Refusal(405, "nothing can be changed here")
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return Refusal(403, "another site leads here: type or paste the address")
        if not self.knows(query.get(_PARAMETER) or self.of_cookie(headers)):
            return Refusal(
                403, "open the whole address that `swarmtrain dashboard` has printed: it has a token"
            )
        return None

    def knows(self, told: str) -> bool:
        """Whether this is the token."""
        return hmac.compare_digest(told.encode(), self._token.encode())

    def of_cookie(self, headers: Headers) -> str:
        """What the browser has kept; empty where it has kept nothing."""
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return ""
        return found.value if found is not None else ""

    def _remembered(self, request: Request) -> Response:
        """The same address without the token, which is a cookie now."""
        rest = request.url.remove_query_params(_PARAMETER)
        answer = RedirectResponse(f"{rest.path}?{rest.query}" if rest.query else rest.path, 303)
        self.remember(answer)
        return answer

    def remember(self, answer: Response, *, secure: bool = False) -> None:
        """Have the browser keep the token: no script reads it, and no other site sends it.

        Args:
            secure: it comes over HTTPS, and shall never go over anything else.
        """
        answer.set_cookie(
            self._cookie, self._token, httponly=True, samesite="strict", path="/", secure=secure
        )
