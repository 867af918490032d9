"""What every request passes before a route sees it: the server's name, who asks, and a body that is not too much."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from stamp_index.errors import StampIndexError
from stamp_index.serve.problems import Problem, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from stamp_index.serve.auth import Check
    from stamp_index.serve.metrics import Metrics
    from stamp_index.serve.problems import Shown
    from stamp_index.serve.settings import Limits

OPEN_PATHS: Final = ("/healthz", "/readyz")  # asked by whoever keeps the server alive
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
_BODIES_AT_ONCE: Final = (
    10  # of the largest size; more would fill the memory before anything is checked
)
_SEND_S: Final = 30.0  # a reader that takes nothing for so long is left
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


class Gate:
    """Refuses what no route needs to see, reads the body whole, and counts.

    Parameters
    ----------
    app : ASGI application
    names : sequence of str or None
        By which the server may be called; None for any.
    check : Check
        Says who asks.
    limits : Limits
    metrics : Metrics
    shown : Shown
        Writes errors.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        names: Sequence[str] | None,
        check: Check,
        limits: Limits,
        metrics: Metrics,
        shown: Shown,
    ) -> None:
        self._app, self._names, self._check = app, names, check
        self._limits, self._metrics, self._shown = limits, metrics, shown
        self._bodies = 0  # bytes of bodies that requests hold

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), [0]
        self._metrics.in_flight.inc()
        try:
            await self._pass(scope, receive, _sender(send, status))
        finally:
            self._metrics.in_flight.dec()
            method = scope["method"] if scope["method"] in _METHODS else "other"
            seconds = time.monotonic() - began
            self._metrics.answered(_endpoint(scope), method, status[0], seconds)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the checks in the order of what they cost."""
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        try:
            self._check_name(headers.get("host", ""))
            if scope["path"] not in OPEN_PATHS:
                await asyncio.to_thread(self._check, headers)
            size = _declared(headers)
            self._check_size(size)
        except StampIndexError as error:  # also a file of tokens that cannot be read any more
            await answer_problem(send, self._shown.problem(error), close=True)
            return
        with self._counted() as held:
            try:
                body = await asyncio.wait_for(self._read(receive, held), self._limits.body_s)
            except TimeoutError:
                msg = f"The body did not arrive within {self._limits.body_s:g} s."
                problem = Problem(408, "SlowClientError", msg)
                await answer_problem(send, problem, close=True)
                return
            except RefusedError as error:
                await answer_problem(send, self._shown.problem(error), close=True)
                return
            if body is not None:
                await self._app(scope, _whole(body, receive), send)

    def _check_name(self, host: str) -> None:
        name = (
            host[1 : host.index("]")]
            if host.startswith("[") and "]" in host
            else host.partition(":")[0]
        )
        if self._names is not None and name not in self._names:
            msg = "This server does not answer to that name."
            raise RefusedError(421, "HostError", msg)

    def _check_size(self, size: int) -> None:
        if size > self._limits.body_bytes:
            msg = f"The body has more than {self._limits.body_mb:g} MB. Send less."
            raise RefusedError(413, "TooLargeError", msg)

    async def _read(self, receive: Receive, held: list[int]) -> bytes | None:
        """Read the body; None where the caller has gone."""
        parts = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            part = message.get("body", b"")
            parts += part
            held[0] += len(part)
            self._bodies += len(part)
            self._check_size(len(parts))
            if self._bodies > _BODIES_AT_ONCE * self._limits.body_bytes:
                msg = "Too many large requests arrive at the same time. Ask again in a moment."
                raise RefusedError(503, "BusyError", msg, retry_after_s=2)
            if not message.get("more_body", False):
                return bytes(parts)

    @contextmanager
    def _counted(self) -> Iterator[list[int]]:
        held = [0]
        try:
            yield held
        finally:
            self._bodies -= held[0]


async def answer_problem(send: Send, problem: Problem, *, close: bool = False) -> None:
    """Send an error; `close` ends the connection, where the rest of the body was not read."""
    headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    body = problem.body()
    headers += [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _sender(send: Send, status: list[int]) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            status[0] = message["status"]
            held = list(message.get("headers", []))
            there = {name for name, _ in held}
            message = {**message, "headers": [*held, *(h for h in _HEADERS if h[0] not in there)]}
        await asyncio.wait_for(send(message), _SEND_S)

    return sent


def _whole(body: bytes, receive: Receive) -> Receive:
    """Give the body at once, and then what the caller does."""
    given: list[Any] = []

    async def received() -> Message:
        if given:
            return await receive()
        given.append(True)
        return {"type": "http.request", "body": body, "more_body": False}

    return received


def _declared(headers: dict[str, str]) -> int:
    text = headers.get("content-length", "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _endpoint(scope: Scope) -> str:
    """Path of the route with its parameters' names, of which there are few; "other" for unknown ones."""
    return str(getattr(scope.get("route"), "path", "other"))
