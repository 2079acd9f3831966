"""The guard before every HTTP request: who may ask, under what name, and what a browser may do with the answer."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SAFE_METHODS = ("GET", "HEAD")

_HEADERS = {
    # Nothing but the page's own files; no inline script or style, no frame around it, no form leading elsewhere.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class WebGuard:
    """Asks for the bearer token where one is set, and for a local name where only this machine may ask.

    The name matters on loopback: a page from elsewhere can point a name of its own at 127.0.0.1 and read what answers there.
    """

    def __init__(
        self, app: ASGIApp, *, bearer_token: str | None, loopback: bool, needs_token: Callable[[str], bool]
    ) -> None:
        """Guard an application.

        Args:
            app: the application.
            bearer_token: what requests must bring; None asks for none.
            loopback: whether only this machine reaches the address.
            needs_token: whether a path tells anything that the token protects.
        """
        self._app = app
        self._expected = None if bearer_token is None else f"Bearer {bearer_token}".encode()
        self._loopback = loopback
        self._needs_token = needs_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        refusal = self._refusal(scope, headers)
        await (refusal or self._app)(scope, receive, send_safely)

    def _refusal(self, scope: Scope, headers: Headers) -> PlainTextResponse | None:
        host = headers.get("host", "")
        if self._loopback and not _is_local(host):
            return PlainTextResponse(f"host {host!r} is not this machine's; ask by 127.0.0.1 or localhost\n", 421)
        if scope["method"] not in _SAFE_METHODS:
            return PlainTextResponse("only GET and HEAD are served\n", 405, {"allow": ", ".join(_SAFE_METHODS)})
        given = headers.get("authorization", "").encode()
        if self._expected and self._needs_token(scope["path"]) and not hmac.compare_digest(given, self._expected):
            words = "the request needs 'Authorization: Bearer TOKEN'; it has none, or another token\n"
            return PlainTextResponse(words, 401, {"www-authenticate": "Bearer"})
        return None


def _is_local(host: str) -> bool:
    """Tell whether a Host header names this machine: localhost, or an address of loopback."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
