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
# In JSON, one of them is before each value but the first
_BEFORE_VALUES: Final = (b",", b":", b"[", b"{")
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
        self._app, self._check = app, check
        self._names = None if names is None else {name.lower() for name in names}
        self._limits, self._metrics, self._shown = limits, metrics, shown
        self._bodies = 0.0  # bodies that requests hold, in shares of the largest

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
            if scope["path"] in OPEN_PATHS:
                _refuse_body(headers)  # nobody has logged in: nothing of his is held
            else:
                await asyncio.to_thread(self._check, headers)
            self._check_size(_declared(headers))
        except StampIndexError as error:  # also a file of tokens that cannot be read any more
            await answer_problem(send, self._shown.problem(error), close=True)
            return
        with self._counted() as held:
            try:
                body = await asyncio.wait_for(self._read(receive, held), self._limits.body_s)
                if body is not None and not _is_picture(headers):
                    self._check_values(body, held)
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
        if self._names is not None and name.lower() not in self._names:
            msg = "This server does not answer to that name."
            raise RefusedError(421, "HostError", msg)

    def _check_size(self, size: int) -> None:
        if size > self._limits.body_bytes:
            msg = f"The body has more than {self._limits.body_mb:g} MB. Send less."
            raise RefusedError(413, "TooLargeError", msg)

    def _check_values(self, body: bytes, held: list[float]) -> None:
        """Bound what JSON becomes in the loop, where all others wait: values take many times the memory of their text."""
        n, most = sum(map(body.count, _BEFORE_VALUES)), self._limits.json_values
        if n > most:
            msg = f"The body has about {n:,} values; this server reads at most {most:,}. Ask for less at once."
            raise RefusedError(413, "TooLargeError", msg)
        self._hold(held, n / most - held[0])

    def _hold(self, held: list[float], share: float) -> None:
        """Count a part of a body, in shares of the largest."""
        if share > 0:
            held[0] += share
            self._bodies += share
        if self._bodies > _BODIES_AT_ONCE:
            msg = "Too many large requests arrive at the same time. Ask again in a moment."
            raise RefusedError(503, "BusyError", msg, retry_after_s=2)

    async def _read(self, receive: Receive, held: list[float]) -> bytes | None:
        """Read the body; None where the caller has gone."""
        parts = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            part = message.get("body", b"")
            parts += part
            self._check_size(len(parts))
            self._hold(held, len(part) / self._limits.body_bytes)
            if not message.get("more_body", False):
                return bytes(parts)

    @contextmanager
    def _counted(self) -> Iterator[list[float]]:
        held = [0.0]
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
        await send(message)  # `patience` leaves whoever takes nothing of it

    return sent


def _is_picture(headers: dict[str, str]) -> bool:
    return headers.get("content-type", "").lower().startswith("image/")


def _refuse_body(headers: dict[str, str]) -> None:
    if _declared(headers) or "transfer-encoding" in headers:
        msg = "This address takes no body."
        raise RefusedError(413, "TooLargeError", msg)


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
