"""Sockets of the server, without the delay that small answers otherwise wait for.

Streamlit binds its socket without naming TCP, so that asyncio leaves Nagle's algorithm on: every small answer on a
connection that is kept open waits some 40 ms for the browser's acknowledgement. Connections inherit the option
from the socket that listens.
"""

from __future__ import annotations

import socket
from typing import Any

from streamlit.web.server.starlette import starlette_server


def send_at_once() -> None:
    """Let the server that is started next send small answers at once; does nothing in releases that bind otherwise."""
    bind = getattr(starlette_server, "_bind_socket", None)
    if bind is None:
        return

    def bound(*arguments: Any, **named: Any) -> socket.socket:  # noqa: ANN401 - handed on as they are
        made: socket.socket = bind(*arguments, **named)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    starlette_server._bind_socket = bound
