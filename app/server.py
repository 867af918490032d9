"""The server: Streamlit's pages and our routes in one process and under one origin.

Run by ``stamp-index app`` as ``python -m app.server``; what it is told comes as options.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import threading
import tomllib
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st
from starlette.middleware import Middleware

from app.access import Guard
from app.api.routes import routes
from app.gene_names import warm
from app.incidents import report
from app.memory import be_frugal, settle
from app.settings import Settings, configure, settings
from app.sockets import send_at_once
from app.stores import open_store
from stamp_index.errors import StampIndexError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

SCRIPT = Path(__file__).with_name("main.py")
LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")
MAX_UPLOAD_MB = 20

# Everything is passed at start: an options file would only be read from the user's own folder.
OPTIONS: Mapping[str, Any] = {
    "global.developmentMode": False,
    "server.headless": True,
    "server.fileWatcherType": "none",
    "server.runOnSave": False,
    "server.showEmailPrompt": False,
    "server.enableXsrfProtection": True,
    "server.enableStaticServing": False,
    "server.enableAgentApi": False,
    "server.maxUploadSize": MAX_UPLOAD_MB,
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "none",
    "client.showErrorLinks": False,
    "client.toolbarMode": "minimal",
    "logger.level": "warning",
    "theme.base": "light",
    "theme.primaryColor": "#0f6e84",
    "theme.backgroundColor": "#ffffff",
    "theme.secondaryBackgroundColor": "#f4f7f8",
    "theme.textColor": "#10202c",
    "theme.borderColor": "#dde4e8",
    "theme.showWidgetBorder": True,
    "theme.baseRadius": "6px",
    "theme.baseFontSize": 15,
}


def options(host: str, port: int) -> dict[str, Any]:
    """Streamlit's options for this process."""
    chosen = settings()
    values = dict(OPTIONS)
    values |= {"server.address": host, "server.port": port}
    values |= {"browser.serverAddress": host, "browser.serverPort": port}
    if chosen.base_path:
        values["server.baseUrlPath"] = chosen.base_path.strip("/")
    if host in LOCAL_NAMES:  # a web page elsewhere must not reach the app by re-binding its name
        values["server.allowedHosts"] = list(LOCAL_NAMES)
    if chosen.auth == "proxy":
        values["server.trustedUserHeaders"] = {chosen.user_header: "name"}
    return values


@asynccontextmanager
async def _warmed(_: st.App) -> AsyncIterator[None]:
    """Open the store, and gather what its genes are called, while the first browser is still on its way."""
    path = settings().store_path
    threading.Thread(target=_open_quietly, args=(path,), daemon=True).start()
    yield


def _open_quietly(path: str | None) -> None:
    with contextlib.suppress(StampIndexError, OSError):  # the pages say what is wrong
        if path is not None:
            warm(open_store(path))
    settle()


def build(host: str, secrets_path: Path | None = None) -> st.App:
    """The app as ASGI, by the settings of this process; `secrets_path` names the provider of the log-in."""
    hosts = LOCAL_NAMES if host in LOCAL_NAMES else None
    return st.App(
        SCRIPT,
        routes=routes(),
        middleware=[Middleware(Guard, hosts=hosts)],
        on_script_error=report,
        lifespan=_warmed,
        secrets=tomllib.loads(secrets_path.read_text("utf-8")) if secrets_path else None,
    )


def serve(arguments: Sequence[str] | None = None) -> None:
    """Serve until the process is told to stop."""
    asked = _parser().parse_args(arguments)
    configure(
        Settings(
            store_path=asked.store,
            base_path=asked.base_path,
            auth=asked.auth,
            user_header=asked.user_header,
            allowed=tuple(asked.allow),
            shards=asked.shards,
        )
    )
    be_frugal()
    send_at_once()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    build(asked.host, asked.secrets).run(config=options(asked.host, asked.port))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="app.server")
    parser.add_argument("--store", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8501)
    parser.add_argument("--base-path", default="")
    parser.add_argument("--auth", choices=["none", "proxy", "oidc"], default="none")
    parser.add_argument("--user-header", default="X-Forwarded-User")
    parser.add_argument("--allow", action="append", default=[])
    parser.add_argument("--secrets", type=Path)
    parser.add_argument("--shards", default="")
    return parser


if __name__ == "__main__":
    serve()
