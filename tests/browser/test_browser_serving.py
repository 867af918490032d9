"""How the app is served: base path, log-ins, and a server that goes away."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import serving
from tests.browser.driving import viewer

PROVIDER = Path(__file__).with_name("oidc_provider.py")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def status_of(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=20
        ) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_everything_loads_under_a_base_path(page, store, browser):
    with serving(store.path, base_path="/stamp") as server:
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(server.url())
        viewer(page)
        ours = [url for url in asked if "/api/" in url or "/assets/" in url]
        assert ours
        assert all("/stamp/api/" in url or "/stamp/assets/" in url for url in ours)
        assert any("/tiles/" in url for url in ours)
        page.goto(server.url("genes", q="CD8A high"))
        page.locator(".grid[data-ready] .tile img").first.wait_for()
        page.goto("about:blank")  # nothing is on its way when the server stops


def test_proxy_must_name_a_user_for_pages_and_routes(page, store, browser):
    with serving(store.path, auth="proxy", allow=("ann@*",)) as server:
        assert status_of(server.url()) == 401
        assert status_of(server.served.url() + "_stcore/health") == 200
        assert status_of(server.served.url() + "api/x/1/slides/0/spots") == 401
        page.set_extra_http_headers({"X-Forwarded-User": "ann@hospital.example"})
        page.goto(server.url())
        viewer(page)
        page.goto("about:blank")


def test_user_who_is_not_allowed_sees_no_slide(page, store, browser):
    with serving(store.path, auth="proxy", allow=("ann@*",)) as server:
        page.set_extra_http_headers({"X-Forwarded-User": "eve@elsewhere.example"})
        page.goto(server.url())
        page.get_by_text("This store is not open to you").wait_for()
        expect(page.locator(".si-host")).to_have_count(0)
        page.goto("about:blank")


@pytest.fixture
def provider():
    pytest.importorskip("authlib")
    port = free_port()
    process = subprocess.Popen([sys.executable, str(PROVIDER), str(port), "ann@hospital.example"])
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(20)


def test_log_in_by_openid_connect_opens_pages_and_routes(page, store, browser, provider, tmp_path):
    port = free_port()
    secrets = tmp_path / "secrets.toml"
    secrets.write_text(
        "[auth]\n"
        f"redirect_uri = {json.dumps(f'http://127.0.0.1:{port}/oauth2callback')}\n"
        'cookie_secret = "only for this test"\n'
        'client_id = "stamp-index"\n'
        'client_secret = "only for this test"\n'
        f"server_metadata_url = {json.dumps(provider + '/.well-known/openid-configuration')}\n"
    )
    rules = {"auth": "oidc", "secrets": secrets, "allow": ("*@hospital.example",), "port": port}
    with serving(store.path, **rules) as server:
        page.goto(server.url())
        page.get_by_role("button", name="Log in").wait_for()
        expect(page.locator(".si-host")).to_have_count(0)
        assert (
            status_of(server.served.url() + f"api/{store.store_id}/{store.version}/slides/0/spots")
            == 401
        )
        page.get_by_role("button", name="Log in").click()
        viewer(page)
        page.goto("about:blank")


def test_page_comes_back_after_the_server_was_started_again(browser, store):
    page, port = browser.new_page(), free_port()  # its console may name the lost connection
    with serving(store.path, port=port) as server:
        page.goto(server.url("help"))
        page.get_by_text("What each page does").wait_for()
    page.get_by_text("Connection error").first.wait_for()
    with serving(store.path, port=port):
        page.get_by_text("Connection error").first.wait_for(state="hidden")  # by itself
        page.get_by_text("What each page does").wait_for()
        page.get_by_role("link", name="Slides").click()
        viewer(page)
    page.close()
