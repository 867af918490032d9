"""Start the browser app over one store: ``stamp-index app STORE``.

The app itself is a Streamlit script that is not part of the importable package. This module finds
it, checks what can be checked before a server is up, and runs it in a process of its own, so that
the library never imports Streamlit.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
import urllib.error
import urllib.parse
import urllib.request
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stamp_index.errors import StampIndexError, StoreError
from stamp_index.machine import LOCAL_HOSTS
from stamp_index.remote.addresses import is_address, named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

READY_WITHIN_S: Final = 60.0
STOP_WITHIN_S: Final = 5.0

_log = logging.getLogger(__name__)


AUTH_KINDS: Final = ("none", "proxy", "oidc")


class AppError(StampIndexError):
    """The app cannot be started here."""


@dataclass(frozen=True)
class Served:
    """Where and for whom the app is served.

    Attributes
    ----------
    host, port : str, int
        Address to listen on. Other than at this machine's own address, everybody who can reach the port can search
        the store unless `auth` says otherwise.
    base_path : str
        What all addresses start with, such as "/stamp", where a proxy passes on that part of its own; "" for none.
    auth : {"none", "proxy", "oidc"}
        ``"proxy"``: a proxy in front logs users in and names them in `user_header`; requests without it are refused. The
        port must then be reachable by the proxy alone. ``"oidc"``: users log in with the OpenID Connect provider that
        `secrets` names.
    user_header : str
        Header in which the proxy names the user.
    allow : tuple of str
        Patterns such as ``"*@hospital.example"``, of which a user's e-mail (or name) must fit one; none for all users.
    secrets : path, optional
        TOML file with a section ``[auth]``: redirect_uri, cookie_secret, client_id, client_secret and
        server_metadata_url, as Streamlit's ``st.login`` wants them.
    shards : str
        Where the shards of the indexes are served, as `stamp_index.shards.connect` takes it; "" to open the indexes here.

    Raises
    ------
    AppError
        If `base_path`, `auth` or `user_header` cannot be such a thing, `secrets` lacks what a log-in needs, or `allow` or
        `secrets` are given where nobody logs in.
    """

    host: str = "127.0.0.1"
    port: int = 8501
    base_path: str = ""
    auth: str = "none"
    user_header: str = "X-Forwarded-User"
    allow: tuple[str, ...] = ()
    secrets: Path | None = None
    shards: str = ""

    def __post_init__(self) -> None:
        path = "/" + self.base_path.strip("/") if self.base_path.strip("/") else ""
        object.__setattr__(self, "base_path", path)
        if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", path) or "/." in path:
            msg = f"The base path is {self.base_path!r}; expected something like /stamp, of letters, digits and -._~."
            raise AppError(msg)
        if self.auth not in AUTH_KINDS:
            msg = f"--auth is {self.auth!r}; expected one of {', '.join(AUTH_KINDS)}."
            raise AppError(msg)
        if not re.fullmatch(r"[A-Za-z0-9-]{1,100}", self.user_header):
            msg = f"The user's header is {self.user_header!r}; expected a name such as X-Forwarded-User."
            raise AppError(msg)
        if self.auth == "oidc":
            _check_secrets(self.secrets)
        elif self.secrets is not None:
            msg = f"--secrets says how users log in, but --auth is {self.auth}. Add --auth oidc, or leave it out."
            raise AppError(msg)
        if self.allow and self.auth == "none":
            msg = "--allow says who may look, but nobody logs in. Add --auth proxy or --auth oidc."
            raise AppError(msg)

    def url(self, query: str | None = None) -> str:
        """Address of the app, optionally opening on a gene query, such as ``http://127.0.0.1:8501/genes?q=CD8A+high``."""
        shown = "127.0.0.1" if self.host in {"0.0.0.0", "::", ""} else self.host
        shown = f"[{shown}]" if ":" in shown else shown
        tail = "genes?" + urllib.parse.urlencode({"q": query}) if query else ""
        return f"http://{shown}:{self.port}{self.base_path}/{tail}"


def _check_secrets(path: Path | None) -> None:
    """Raise `AppError` if a file does not say how users log in."""
    wanted = ("redirect_uri", "cookie_secret", "client_id", "client_secret", "server_metadata_url")
    if path is None:
        msg = f"--auth oidc needs --secrets FILE, a TOML file with a section [auth]: {', '.join(wanted)}."
        raise AppError(msg)
    try:
        section = tomllib.loads(path.read_text("utf-8")).get("auth", {})
    except (OSError, ValueError) as error:
        msg = f"The file of secrets {path} cannot be read ({error})."
        raise AppError(msg) from error
    missing = [name for name in wanted if not isinstance(section, dict) or not section.get(name)]
    if missing:
        msg = f"The section [auth] of {path} lacks {', '.join(missing)}."
        raise AppError(msg)
    if importlib.util.find_spec("authlib") is None:
        msg = "Logging in needs Authlib, which is not installed. Run: pip install 'stamp-index[login]'"
        raise AppError(msg)


def app_folder() -> Path:
    """Folder that holds the package ``app``.

    Raises
    ------
    AppError
        If this installation does not carry the app.
    """
    from stamp_index.resources import bundle_root

    folder = bundle_root()
    if not (folder / "app" / "server.py").is_file():
        msg = (
            f"The app is not in this installation: there is no file {folder / 'app' / 'server.py'}. "
            "Install stamp-index from its repository or from a complete wheel."
        )
        raise AppError(msg)
    return folder


def app_command(store_path: Path | str, served: Served) -> list[str]:
    """Command line of the server over the store at `store_path`."""
    # -P: the folder that the user stands in must not shadow modules of the app
    start = [sys.executable, "-P", "-m", "app.server", "--store", named(Path(store_path))]
    place = ["--host", served.host, "--port", str(served.port)]
    rules = [
        f"--base-path={served.base_path}",
        "--auth",
        served.auth,
        "--user-header",
        served.user_header,
    ]
    names = [f"--allow={pattern}" for pattern in served.allow]
    secrets = ["--secrets", str(served.secrets.absolute())] if served.secrets else []
    shards = [f"--shards={served.shards}"] if served.shards else []
    return [*start, *place, *rules, *names, *secrets, *shards]


def app_environment() -> dict[str, str]:
    """Environment in which the server finds the package ``app``."""
    path = [str(app_folder()), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


def run_app(
    store_path: Path | str,
    served: Served | None = None,
    *,
    query: str | None = None,
    open_browser: bool = False,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the app over a store until it is interrupted.

    Parameters
    ----------
    store_path : path or str
        Folder or address of the store. It is only read.
    served : Served, optional
        Where and for whom; at port 8501 of this machine for whoever reaches it by default.
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
    from stamp_index.view.notebook_module import frontend_folder, missing_openseadragon

    served = served or Served()
    check_store(store_path)
    if importlib.util.find_spec("streamlit") is None:
        msg = "The app needs Streamlit, which is not installed. Run: pip install 'stamp-index[app]'"
        raise AppError(msg)
    environment = app_environment()
    missing = missing_openseadragon(frontend_folder())
    if missing:
        _log.warning("%s", missing)
    check_port(served.host, served.port)
    if served.host not in LOCAL_HOSTS and served.auth == "none":
        _log.warning(
            "The app listens on %s without a log-in: anybody on that network sees the store.",
            served.host,
        )
    with _served(app_command(store_path, served), environment) as server:
        wait_until_ready(server, url=served.url())
        url = served.url(query)
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

    if not is_address(store_path) and not Path(store_path).is_dir():
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
def _served(
    command: list[str], environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the server; it ends with this block, also when this process is told to stop."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=dict(environment))
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
