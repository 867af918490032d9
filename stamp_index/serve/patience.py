"""Connections that send their headers too slowly, or take nothing of their answers, are closed.

uvicorn bounds how long a connection may be idle between two requests, but neither how long one request's headers may
take, nor how long an answer lies there untaken, also where the connection was closed: asyncio waits for its last byte
without end. Enough callers that do either would keep all others out.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio


# Bytes in the time given: 2 kB/s, less than any network that is worth waiting for
_LEAST_TAKEN: Final = 65_536


def protocol(header_s: float, send_s: float) -> type[asyncio.Protocol]:
    """Make uvicorn's HTTP protocol with limits on slow callers.

    Parameters
    ----------
    header_s : float
        Seconds that a request's headers may take.
    send_s : float
        Seconds in which a reader must take 64 KiB of what waits for it, or all of it.
    """
    import h11

    class PatientProtocol(H11Protocol):
        _waiting: asyncio.TimerHandle | None = None  # for headers
        _sending: asyncio.TimerHandle | None = None  # for whoever reads the answer

        def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - as uvicorn's
            super().connection_made(transport)
            # Writing is paused as soon as anything waits, so that the clock runs for that too, also while closing
            transport.set_write_buffer_limits(high=1, low=0)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._leave()  # the time between two requests is uvicorn's own limit

        def connection_lost(self, exc: Exception | None) -> None:
            self._leave()
            self._stop_sending()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._look_again()

        def resume_writing(self) -> None:
            self._stop_sending()
            super().resume_writing()

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

        def _look_again(self) -> None:
            """Look after a while whether something was taken."""
            self._stop_sending()
            self._sending = self.loop.call_later(send_s, self._look, _untaken(self.transport))

        def _look(self, before: int) -> None:
            self._sending = None
            if before - _untaken(self.transport) >= _LEAST_TAKEN:
                self._look_again()
            else:
                self.transport.abort()

        def _stop_sending(self) -> None:
            if self._sending is not None:
                self._sending.cancel()
                self._sending = None

    return PatientProtocol


def _untaken(transport: asyncio.Transport) -> int:
    """Bytes that the reader has not taken yet: what waits here, and on Linux what waits in the kernel.

    The kernel takes more only once a third of its buffer is free, which is 800 kB and more: without its share, a reader
    of 20 kB/s would seem to take nothing for most of a minute.
    """
    held = transport.get_write_buffer_size()
    if sys.platform == "linux":
        import fcntl
        import termios

        wire = transport.get_extra_info("socket")
        with suppress(OSError):  # of another kind than TCP
            held += int.from_bytes(
                fcntl.ioctl(wire.fileno(), termios.TIOCOUTQ, b"\0" * 4), sys.byteorder
            )
    return held
