"""Running the server: ``stamp-index serve STORE``."""

from __future__ import annotations

import importlib.util
import socket
from typing import TYPE_CHECKING, Any

from stamp_index.serve.settings import Access, Address, Limits, ServeError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stamp_index.encoders.base import Encoder

_NEEDED = ("fastapi", "uvicorn", "prometheus_client")
_HEADER_BYTES = 64 * 1024
_KEEP_ALIVE_S = 20
_STOP_S = 10


def run_server(
    store_path: Path | str,
    *,
    address: Address | None = None,
    access: Access | None = None,
    limits: Limits | None = None,
    encoder: Encoder | str | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve a store over HTTP until the process is told to stop.

    Parameters
    ----------
    store_path : path
        Folder of the store. It is only read; versions that other processes write are served within a second or so.
    address : Address, optional
        Where to listen; port 8600 of this machine by default.
    access : Access, optional
        Who is answered; whoever reaches the port by default.
    limits : Limits, optional
        How much is done for one request.
    encoder : Encoder or str, optional
        As `Searcher.open` says.
    on_ready : callable, optional
        Called with the address once the server listens.

    Raises
    ------
    ServeError
        If libraries are missing, the port is taken, or the settings contradict each other.
    StoreError
        If the store cannot be opened.
    """
    address, access, limits = address or Address(), access or Access(), limits or Limits()
    address.check(access)
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        msg = f"Serving needs {', '.join(missing)}. Run: pip install 'stamp-index[serve]'"
        raise ServeError(msg)
    from stamp_index.store import Store

    name = encoder if isinstance(encoder, str) else None
    Store.open(store_path, encoder=name)  # refuses before anything listens
    from stamp_index.process_memory import be_frugal
    from stamp_index.serve.application import make_app

    be_frugal()
    app = make_app(store_path, address=address, access=access, limits=limits, encoder=encoder)
    server, listening = make_server(app, address, limits, on_ready or (lambda _: None))
    server.run(sockets=[listening])


def make_server(
    app: Any,  # noqa: ANN401 - an ASGI application
    address: Address,
    limits: Limits,
    on_ready: Callable[[str], None],
) -> tuple[Any, socket.socket]:
    """Make a uvicorn server, and the socket that it is to run with.

    Raises
    ------
    ServeError
        If the port is taken.
    """
    listening = _listening(address)
    host = f"[{address.host}]" if ":" in address.host else address.host
    scheme = "https" if address.certificate else "http"
    url = f"{scheme}://{host}:{listening.getsockname()[1]}"
    return _server(app, address, limits, lambda: on_ready(url)), listening


def _listening(address: Address) -> socket.socket:
    """Socket that listens at the address.

    Raises
    ------
    ServeError
        If it is taken.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((address.host, address.port))
    except (OSError, OverflowError) as error:
        made.close()
        msg = f"Port {address.port} on {address.host} cannot be used ({error}). Choose another with --port."
        raise ServeError(msg) from error
    return made


def _server(app: Any, address: Address, limits: Limits, on_ready: Callable[[], None]) -> Any:  # noqa: ANN401
    import uvicorn

    from stamp_index.serve.patience import protocol

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_ready()

    config = uvicorn.Config(
        app,
        http=protocol(limits.header_s, limits.send_s),
        ws="none",
        lifespan="on",
        access_log=False,  # addresses hold what people search for
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # nothing here rests on where a caller says that he is
        limit_concurrency=limits.connections,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_STOP_S,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        ssl_certfile=address.certificate,
        ssl_keyfile=address.key,
    )
    return Server(config)
