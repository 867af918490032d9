"""Starting the app: what is refused before a server is up, and what the server is told."""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from stamp_index import app_launcher
from stamp_index.app_launcher import (
    AppError,
    Served,
    app_command,
    app_environment,
    check_port,
    run_app,
    wait_until_ready,
)
from stamp_index.errors import StoreError, StoreVersionError
from stamp_index.genes import parse_signature
from tests.support import toy_store


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_url_without_a_query_is_the_root():
    assert Served(port=8501).url() == "http://127.0.0.1:8501/"


def test_query_in_the_url_reads_back_as_the_same_signature():
    text = "CD8A high, EPCAM low, HLA-DRA 2, +MT-CO1"
    asked = parse_qs(urlsplit(Served(port=9000).url(text)).query)["q"][0]
    assert parse_signature(asked) == parse_signature(text)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_url_of_every_interface_names_this_machine(host):
    assert Served(host, 80).url() == "http://127.0.0.1:80/"


def test_ipv6_address_stands_in_brackets():
    assert Served("::1", 80).url() == "http://[::1]:80/"


@pytest.mark.parametrize("given", ["stamp", "/stamp", "/stamp/", "stamp/"])
def test_base_path_is_written_in_one_way(given):
    assert (
        Served(base_path=given).url("CD8A high").startswith("http://127.0.0.1:8501/stamp/genes?q=")
    )


@pytest.mark.parametrize("given", ["a b", "../x", "/a/../b", "http://x", "a?b", "a#b", "a//b"])
def test_base_path_that_is_no_path_is_refused(given):
    with pytest.raises(AppError, match="expected something like /stamp"):
        Served(base_path=given)


def test_unknown_kind_of_log_in_is_refused_with_those_there_are():
    with pytest.raises(AppError, match="'basic'; expected one of none, proxy"):
        Served(auth="basic")


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        ({"allow": ("*@hospital.example",)}, "nobody logs in"),
        ({"secrets": Path("secrets.toml")}, "--auth is none"),
        ({"secrets": Path("secrets.toml"), "auth": "proxy"}, "--auth is proxy"),
    ],
)
def test_rules_for_users_are_refused_where_nobody_logs_in(rules, sentence):
    with pytest.raises(AppError, match=sentence):
        Served(**rules)


def test_header_of_the_user_must_be_a_name():
    with pytest.raises(AppError, match="X-Forwarded-User"):
        Served(user_header="X: y\r\n")


def test_command_names_store_and_address(tmp_path):
    command = app_command(tmp_path, Served("127.0.0.1", 8601, "stamp"))
    assert command[:4] == [sys.executable, "-P", "-m", "app.server"]
    assert command[4:] == [
        "--store", str(tmp_path), "--host", "127.0.0.1", "--port", "8601",
        "--base-path=/stamp", "--auth", "none", "--user-header", "X-Forwarded-User",
    ]  # fmt: skip


def test_server_finds_the_app_by_its_environment():
    paths = app_environment()["PYTHONPATH"].split(os.pathsep)
    assert (Path(paths[0]) / "app" / "server.py").is_file()


def test_server_is_private_shows_no_tracebacks_and_answers_to_local_names_only():
    server = pytest.importorskip("app.server")
    known = importlib.import_module("streamlit.config").get_config_options()
    told = server.options("127.0.0.1", 8601)
    assert set(told) <= set(known)
    assert told["server.allowedHosts"] == ["127.0.0.1", "localhost", "::1"]
    assert told["server.enableXsrfProtection"] is True
    assert told["client.showErrorDetails"] == "none"
    assert told["client.showErrorLinks"] is False
    assert told["browser.gatherUsageStats"] is False
    assert told["server.maxUploadSize"] == 20


def test_other_host_does_not_limit_the_names_it_is_called_by():
    server = pytest.importorskip("app.server")
    assert "server.allowedHosts" not in server.options("192.0.2.7", 1)


def test_small_answers_are_sent_at_once(monkeypatch):
    library = pytest.importorskip("streamlit.web.server.starlette.starlette_server")
    monkeypatch.setattr(library, "_bind_socket", library._bind_socket)  # put back afterwards
    importlib.import_module("app.sockets").send_at_once()
    with library._bind_socket("127.0.0.1", 0, 5) as listening:
        assert listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_relative_store_path_reaches_the_server_as_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert app_command("s", Served())[5] == str(tmp_path / "s")


def test_missing_store_says_its_path_and_what_to_run(tmp_path):
    with pytest.raises(StoreError, match=r"no store at .*nowhere.*stamp-index demo"):
        run_app(tmp_path / "nowhere")


def test_newer_store_is_refused_before_the_server_starts(tmp_path, monkeypatch):
    store = toy_store(tmp_path, n_slides=1, n_spots=5)
    newest = sorted((store.path / "versions").glob("*.json"))[-1]
    values = json.loads(newest.read_text())
    newest.write_text(json.dumps({**values, "format_version": 99}))
    monkeypatch.setattr(subprocess, "Popen", _no_server)
    with pytest.raises(StoreVersionError, match="99"):
        run_app(store.path)


def _no_server(*args, **kwargs):
    pytest.fail("the server must not start")


def test_taken_port_is_named_with_another_to_try():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AppError, match=rf"Port {port} on 127.0.0.1.*--port {port + 1}"):
            check_port("127.0.0.1", port)


def test_missing_streamlit_says_what_to_install(tmp_path, monkeypatch):
    store = toy_store(tmp_path, n_slides=1, n_spots=5)
    monkeypatch.setattr(app_launcher.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AppError, match=r"pip install 'stamp-index\[app\]'"):
        run_app(store.path)


@pytest.mark.parametrize("installed", [True, False])
def test_missing_openseadragon_is_told_before_the_server_starts(
    tmp_path, monkeypatch, caplog, installed
):
    pytest.importorskip("streamlit")
    store = toy_store(tmp_path, n_slides=1, n_spots=5)
    frontend = tmp_path / "frontend"
    monkeypatch.setattr("stamp_index.view.notebook_module.frontend_folder", lambda: frontend)
    script = frontend / "node_modules/openseadragon/build/openseadragon/openseadragon.min.js"
    script.parent.mkdir(parents=True)
    if installed:
        script.write_text("")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(AppError, match="cannot be used"):
            run_app(store.path, Served(port=taken.getsockname()[1]))
    assert (f"npm ci --prefix {frontend}" in caplog.text) == (not installed)


def test_server_that_dies_while_starting_is_reported_with_its_code():
    server = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    with pytest.raises(AppError, match="exit code 7"):
        wait_until_ready(server, url=Served(port=free_port()).url(), within_s=10)


def test_server_that_never_answers_is_given_up():
    server = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    try:
        with pytest.raises(AppError, match=r"did not answer .* within 0.3 s"):
            wait_until_ready(server, url=Served(port=free_port()).url(), within_s=0.3)
    finally:
        server.kill()
        server.wait()


@pytest.mark.slow
def test_app_answers_and_stops_with_its_launcher(tmp_path):
    pytest.importorskip("streamlit")
    store = toy_store(tmp_path, n_slides=1, n_spots=5)
    port = free_port()
    code = (
        "from stamp_index.app_launcher import Served, run_app\n"
        f"run_app({str(store.path)!r}, Served(port={port}), query='CD8A high', "
        "on_ready=lambda url: print(url, flush=True))"
    )
    launcher = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(60, launcher.kill)
    watchdog.start()
    try:
        assert launcher.stdout.readline().strip() == f"http://127.0.0.1:{port}/genes?q=CD8A+high"
        launcher.send_signal(signal.SIGTERM)
        assert launcher.wait(20) == 0
    finally:
        watchdog.cancel()
        launcher.kill()
        launcher.wait()
        launcher.stdout.close()
    check_port("127.0.0.1", port)  # nobody listens there any more
