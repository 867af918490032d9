"""Servers, a browser and a page that fails its test on a console error or a foreign request."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import pytest

from stamp_index.app_launcher import Served, app_command, app_environment, wait_until_ready
from stamp_index.store import EncoderCard, Store
from tests.support import ToyEncoder, toy_store

if TYPE_CHECKING:
    from collections.abc import Iterator

CHROMIUM = Path(os.environ.get("STAMP_INDEX_CHROMIUM", "/usr/bin/chromium"))
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS = 30_000

# On any page but the first, Streamlit's own client looks for the server below the page's address
# before it looks at the root; the two answers 404 are part of how it starts.
STREAMLIT_PROBE = re.compile(r"/[a-z]+/_stcore/(health|host-config)$")


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(item.fspath).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.browser)


def _cannot(reason: str):
    """Skip where a browser cannot be had, fail where it must be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@dataclass
class Server:
    """A running app."""

    process: subprocess.Popen
    served: Served
    store: Path

    def url(self, page: str = "", **query: str) -> str:
        """Address of a page; drawn without WebGL, which software rendering makes slow."""
        return self.served.url() + page + "?" + urlencode({"drawer": "canvas", **query})

    def memory_mb(self) -> float:
        """Most memory that the server has held so far (Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024


@contextmanager
def serving(
    store: Path, *, module: str = "tests.browser.toy_server", **rules: Any
) -> Iterator[Server]:
    """A server over a store, with the toy encoder unless `module` is the app's own; `rules` are those of `Served`."""
    pytest.importorskip("streamlit")
    if "port" not in rules:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            rules["port"] = probe.getsockname()[1]
    served = Served(**rules)
    command = [module if part == "app.server" else part for part in app_command(store, served)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=app_environment())
    try:
        wait_until_ready(process, url=served.url())
        yield Server(process, served, store)
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Store:
    return toy_store(tmp_path_factory.mktemp("browser"), n_slides=3, n_spots=40)


@pytest.fixture(scope="session")
def server(store, browser) -> Iterator[Server]:
    with serving(store.path) as running:
        yield running


@pytest.fixture(scope="session")
def empty_server(tmp_path_factory, browser) -> Iterator[Server]:
    path = tmp_path_factory.mktemp("empty") / "store"
    Store.create(path, EncoderCard.of(ToyEncoder()))
    with serving(path) as running:
        yield running


@pytest.fixture(scope="session")
def broken_server(tmp_path_factory, browser) -> Iterator[Server]:
    path = toy_store(tmp_path_factory.mktemp("broken"), n_slides=1, n_spots=5).path
    sorted((path / "versions").glob("*.json"))[-1].write_text("{")
    with serving(path) as running:
        yield running


@pytest.fixture(scope="session")
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _cannot("playwright is not installed: pip install playwright")
    if not CHROMIUM.exists():
        _cannot(f"there is no Chromium at {CHROMIUM}; set STAMP_INDEX_CHROMIUM to its path")
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield chromium
        chromium.close()


@dataclass
class Watch:
    """What a page must not do."""

    problems: list[str] = field(default_factory=list)

    @contextmanager
    def on(self, page) -> Iterator[Watch]:
        """Watch a page until the block ends."""
        told = {
            "console": self._console,
            "pageerror": self._error,
            "request": self._request,
            "dialog": self._dialog,
        }
        for event, listener in told.items():
            page.on(event, listener)
        yield self
        for event, listener in told.items():
            page.remove_listener(event, listener)

    def _dialog(self, dialog) -> None:
        self.problems.append(f"a dialog opened: {dialog.message}")
        dialog.dismiss()

    def _error(self, error) -> None:
        self.problems.append(f"page error: {error}")

    def _console(self, message) -> None:
        if message.type == "error" and not STREAMLIT_PROBE.search(message.location["url"]):
            self.problems.append(f"console: {message.text} ({message.location['url']})")

    def _request(self, request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in {"data", "blob"} and parts.hostname != "127.0.0.1":
            self.problems.append(f"request off the origin: {request.url}")
        if parts.path.startswith("/media/") and parts.path.endswith(".jpg"):
            # Streamlit forgets a picture that it serves as a file as soon as the script has run
            # again: a slow browser would find it gone. The tab's icon (.png) is of every run.
            self.problems.append(f"a picture as a file of Streamlit's: {request.url}")


@pytest.fixture(scope="session")
def profile(browser):
    """What pages share between tests: the cache of Streamlit's scripts."""
    context = browser.new_context()
    context.set_default_timeout(WAIT_MS)
    yield context
    context.close()


@pytest.fixture(scope="session")
def tab(profile):
    """A tab that has compiled Streamlit's scripts already: a page opens three times sooner there than in a new one."""
    return profile.new_page()


@pytest.fixture
def page(tab, request, screenshots):
    """A page of 1440 x 900, as good as new; its sins fail the test at its end. What a test changes beyond size, headers
    and routes needs `new_page`."""
    with _watched(tab, request, screenshots):
        yield tab
    tab.unroute_all()
    tab.set_extra_http_headers({})


@pytest.fixture
def new_page(profile, request, screenshots):
    """A page in a tab of its own."""
    tab = profile.new_page()
    with _watched(tab, request, screenshots):
        yield tab
    tab.close()


@contextmanager
def _watched(tab, request, screenshots) -> Iterator[None]:
    tab.set_viewport_size({"width": 1440, "height": 900})
    failed_before = request.session.testsfailed
    with Watch().on(tab) as watch:
        yield
        if request.session.testsfailed > failed_before:
            tab.screenshot(path=screenshots / f"failed-{request.node.name[:60]}.png")
        if urlsplit(tab.url).scheme == "http":
            tab.evaluate("() => { localStorage.clear(); sessionStorage.clear(); }")
        tab.goto("about:blank")
    tab.context.clear_cookies()
    assert not watch.problems, "\n".join(watch.problems)


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory) -> Path:
    named = os.environ.get("STAMP_INDEX_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
