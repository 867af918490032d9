"""Connections that send nothing, or their headers too slowly, are closed.

uvicorn bounds how long a connection may be idle between two requests, but not how long one request's headers may take:
enough callers that send a byte a minute would keep all others out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio


def protocol(header_s: float) -> type[asyncio.Protocol]:
    """Make uvicorn's HTTP protocol with a limit on the time that headers may take, in seconds."""
    import h11

    class PatientProtocol(H11Protocol):
        _waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - as uvicorn's
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._leave()  # the time between two requests is uvicorn's own limit

        def connection_lost(self, exc: Exception | None) -> None:
            self._leave()
            super().connection_lost(exc)

        def _watch(self) -> None:
            """Run the clock while headers are not complete, and not anew with every byte."""
            if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
                self._leave()
            elif self._waiting is None:
                self._waiting = self.loop.call_later(header_s, self._give_up)

        def _leave(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

        def _give_up(self) -> None:
            self._waiting = None
            if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
                self.transport.close()

    return PatientProtocol
