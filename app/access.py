"""Who is answered: checks of every request before a page or route sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocketClose

from app.settings import settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

HEALTH = "/_stcore/health"
# What the app shows is its own: no frame of another page, no script, picture or font from elsewhere.
POLICY = (
    "default-src 'self' blob: data:; script-src 'self' blob: 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self' blob: data:; frame-ancestors 'self'; base-uri 'self'; "
    "object-src 'none'; form-action 'self'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


class Guard:
    """Refuses names that are not this machine's, and users that the proxy did not name.

    Parameters
    ----------
    app : ASGI application
    hosts : sequence of str or None
        Names by which the server may be called; None for any.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str] | None = None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        problem = self._problem(Headers(scope=scope), str(scope["path"]))
        if problem is None:
            await self._app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await WebSocketClose(1008)(scope, receive, send)
        else:
            await PlainTextResponse(problem[1], problem[0])(scope, receive, send)

    def _problem(self, headers: Headers, path: str) -> tuple[int, str] | None:
        name = headers.get("host", "")
        name = (
            name[1 : name.index("]")]
            if name.startswith("[") and "]" in name
            else name.partition(":")[0]
        )
        if self._hosts is not None and name not in self._hosts:
            return 421, "This server does not answer to that name."
        chosen = settings()
        if (
            chosen.auth == "proxy"
            and path != chosen.base_path + HEALTH
            and not headers.get(chosen.user_header)
        ):
            return 401, "Log in first: the proxy in front of this server named no user."
        return None


def _with_headers(send: Send) -> Send:
    async def sent(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            held = list(message.get("headers", []))  # type: ignore[call-overload]
            there = {name for name, _ in held}
            message = {**message, "headers": [*held, *(h for h in HEADERS if h[0] not in there)]}
        await send(message)  # type: ignore[arg-type]

    return sent  # type: ignore[return-value]
