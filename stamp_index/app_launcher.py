"""Start the browser app over one store: ``stamp-index app STORE``.

The app itself is a Streamlit script that is not part of the importable package. This module finds
it, checks what can be checked before a server is up, and runs it in a process of its own, so that
the library never imports Streamlit.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stamp_index.errors import StampIndexError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

LOCAL_HOSTS: Final = ("127.0.0.1", "localhost", "::1")
MAX_UPLOAD_MB: Final = 20
READY_WITHIN_S: Final = 60.0
STOP_WITHIN_S: Final = 5.0

# Everything is passed at start: an options file would only be read from the user's own folder.
OPTIONS: Final[Mapping[str, str]] = {
    "global.developmentMode": "false",
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "server.runOnSave": "false",
    "server.showEmailPrompt": "false",
    "server.enableXsrfProtection": "true",
    "server.enableStaticServing": "false",
    "server.maxUploadSize": str(MAX_UPLOAD_MB),
    "browser.gatherUsageStats": "false",
    "client.showErrorDetails": "none",
    "client.showErrorLinks": "false",
    "client.toolbarMode": "minimal",
    "logger.level": "warning",
    "theme.base": "light",
    "theme.primaryColor": "#0f6e84",
    "theme.backgroundColor": "#ffffff",
    "theme.secondaryBackgroundColor": "#f4f7f8",
    "theme.textColor": "#10202c",
    "theme.borderColor": "#dde4e8",
    "theme.showWidgetBorder": "true",
    "theme.baseRadius": "6px",
    "theme.baseFontSize": "15",
}

_log = logging.getLogger(__name__)


class AppError(StampIndexError):
    """The app cannot be started here."""


def app_url(port: int, query: str | None = None, *, host: str = "127.0.0.1") -> str:
    """Address of the app, optionally opening on a gene query.

    Parameters
    ----------
    port : int
        Port that the app listens on.
    query : str or None
        Signature such as ``"CD8A high, EPCAM low"``; the page then opens with its hits.
    host : str
        Address that the app is bound to.

    Returns
    -------
    str
        For instance ``http://127.0.0.1:8501/?q=CD8A+high%2C+EPCAM+low``.
    """
    shown = "127.0.0.1" if host in {"0.0.0.0", "::", ""} else host
    shown = f"[{shown}]" if ":" in shown else shown
    tail = "?" + urllib.parse.urlencode({"q": query}) if query else ""
    return f"http://{shown}:{port}/{tail}"


def app_script() -> Path:
    """Path of the app's entry script.

    Raises
    ------
    AppError
        If this installation does not carry the app.
    """
    from stamp_index.resources import bundle_root

    script = bundle_root() / "app" / "main.py"
    if not script.is_file():
        msg = (
            f"The app is not in this installation: there is no file {script}. "
            "Install stamp-index from its repository or from a complete wheel."
        )
        raise AppError(msg)
    return script


def app_command(store_path: Path | str, script: Path, *, host: str, port: int) -> list[str]:
    """Command line that serves `script` over the store at `store_path`.

    Parameters
    ----------
    store_path : path
        Folder of the store; handed to the script as its only argument.
    script : Path
        Streamlit script to serve.
    host, port : str, int
        Address to listen on.

    Returns
    -------
    list of str
        Arguments for `subprocess`, starting with the running interpreter.
    """
    options = dict(OPTIONS)
    options["server.address"] = host
    options["server.port"] = str(port)
    options["browser.serverAddress"] = host
    options["browser.serverPort"] = str(port)
    flags = [f"--{name}={value}" for name, value in options.items()]
    if host in LOCAL_HOSTS:  # a web page elsewhere must not reach the app by re-binding its name
        flags += [f"--server.allowedHosts={name}" for name in LOCAL_HOSTS]
    # -P: the folder that the user stands in must not shadow modules of the app
    start = [sys.executable, "-P", "-m", "streamlit", "run", str(script)]
    return [*start, *flags, "--", str(Path(store_path).absolute())]


def run_app(
    store_path: Path | str,
    *,
    host: str = "127.0.0.1",
    port: int = 8501,
    query: str | None = None,
    open_browser: bool = False,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the app over a store until it is interrupted.

    Parameters
    ----------
    store_path : path
        Folder of the store. It is only read.
    host, port : str, int
        Address to listen on. Other than this machine's own address, everybody who can reach the
        port can search the store: the app has no log-in.
    query : str or None
        Gene query that the address passed to `on_ready` and to the browser opens on.
    open_browser : bool
        Open the address in the default browser once the app answers.
    on_ready : callable or None
        Called once with the address when the app answers.

    Raises
    ------
    StoreError
        If the store does not exist, is damaged, or was written by a newer release.
    AppError
        If Streamlit is missing, the port is taken, or the app stops by itself.
    """
    check_store(store_path)
    if importlib.util.find_spec("streamlit") is None:
        msg = "The app needs Streamlit, which is not installed. Run: pip install 'stamp-index[app]'"
        raise AppError(msg)
    script = app_script()
    check_port(host, port)
    if host not in LOCAL_HOSTS:
        _log.warning(
            "The app listens on %s without a log-in: anybody on that network sees the store.", host
        )
    command = app_command(store_path, script, host=host, port=port)
    with _served(command) as server:
        url = app_url(port, query, host=host)
        wait_until_ready(server, url=app_url(port, host=host))
        if on_ready is not None:
            on_ready(url)
        if open_browser:
            webbrowser.open(url)
        code = server.wait()
        if code not in {0, -signal.SIGTERM, -signal.SIGINT}:
            msg = f"The app stopped by itself with exit code {code}. Its last lines above say why."
            raise AppError(msg)


def check_store(store_path: Path | str) -> None:
    """Raise the store's own error if it cannot be opened; an empty store is fine."""
    from stamp_index.store import Store

    if not Path(store_path).is_dir():
        msg = (
            f"There is no store at {store_path}. "
            "Give the folder of a store, or make one with: stamp-index demo"
        )
        raise StoreError(msg)
    Store.open(store_path)


def check_port(host: str, port: int) -> None:
    """Raise `AppError` if nothing can listen on the port, which Streamlit would say less plainly."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            msg = (
                f"Port {port} on {host} cannot be used ({error}). "
                f"Stop what listens there or choose another: stamp-index app STORE --port {port + 1}"
            )
            raise AppError(msg) from error


def wait_until_ready(
    server: subprocess.Popen[bytes], *, url: str, within_s: float = READY_WITHIN_S
) -> None:
    """Return when the app answers.

    Raises
    ------
    AppError
        If it stops, or does not answer within `within_s` seconds.
    """
    health = urllib.parse.urljoin(url, "_stcore/health")
    # a proxy that the environment names must not stand between us and this machine
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if server.poll() is not None:
            msg = f"The app stopped while starting, with exit code {server.returncode}."
            raise AppError(msg)
        with contextlib.suppress(urllib.error.URLError, OSError), opener.open(health, timeout=2):
            return
        time.sleep(0.1)
    msg = f"The app did not answer at {url} within {within_s:g} s."
    raise AppError(msg)


@contextlib.contextmanager
def _served(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run the server; it ends with this block, also when this process is told to stop."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    before = None
    if threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield server
    except KeyboardInterrupt:
        _log.info("The app was stopped.")
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
        _stop(server)


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is not None:
        return
    server.terminate()
    try:
        server.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
