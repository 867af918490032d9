"""Verbs on a store in object storage: the app opens it, and the doctor knows its local copy's own files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import urllib.request

import pytest
from click.testing import CliRunner

from stamp_index.app_launcher import Served, app_command, check_store
from stamp_index.cli import main
from stamp_index.errors import StoreError
from stamp_index.store import EncoderCard, Store
from tests.s3_world import environment, make_bucket, s3_server
from tests.support import ToyEncoder, toy_rows, toy_slides
from tests.test_app_launcher import free_port

pytest.importorskip("obstore", reason="object storage needs the package obstore")
pytest.importorskip("moto", reason="the S3 server of the tests is moto")


@pytest.fixture(scope="module")
def port():
    with s3_server() as port:
        yield port


@pytest.fixture(scope="module")
def bucket(port):
    return make_bucket(port, f"cli-{os.getpid()}")


@pytest.fixture(scope="module")
def address(bucket, port, tmp_path_factory):
    """A store of two slides with indexes, written from another machine."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(port).items():
            patch.setenv(name, value)
        patch.setenv("STAMP_INDEX_CACHE", str(tmp_path_factory.mktemp("elsewhere")))
        store = Store.create(f"{bucket}/a.stamp", EncoderCard.of(ToyEncoder()))
        for slide in toy_slides(2, 60):
            store.add(toy_rows(slide))
        assert CliRunner().invoke(main, ["build", f"{bucket}/a.stamp"]).exit_code == 0
    return f"{bucket}/a.stamp"


@pytest.fixture(autouse=True)
def reachable(port, tmp_path, monkeypatch):
    for name, value in environment(port).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("STAMP_INDEX_CACHE", str(tmp_path / "cache"))


def test_the_app_is_given_the_address_as_it_was_given(address):
    for given in (address, address + "/", address.replace("://", ":/")):
        check_store(given)
        assert app_command(given, Served())[5] == address


def test_an_address_without_a_store_is_named_as_it_was_given(bucket):
    with pytest.raises(StoreError, match="There is no store at s3://.*/nowhere"):
        check_store(f"{bucket}/nowhere")


@pytest.mark.parametrize("auth", ["none", "proxy"])
def test_a_page_shows_the_store_and_its_address_only_where_nobody_logs_in(
    address, bucket, auth, monkeypatch
):
    pages = pytest.importorskip("tests.browser.app_pages")
    from app import admission, settings

    monkeypatch.setattr(admission, "user", lambda: "reader")
    monkeypatch.setattr(settings, "_current", [settings.Settings(store_path=address, auth=auth)])
    at = pages.slides_page(address)
    assert pages.component(at, "viewer")["spots"]["n"] == 60
    shown = "".join([pages.markdown(at), pages.html(at), *[code.value for code in at.code]])
    assert "a.stamp" in shown
    assert (address in shown) == (auth == "none")


def test_a_query_on_a_page_is_answered(address):
    pages = pytest.importorskip("tests.browser.app_pages")
    at = pages.start(address, pages.GENE_PAGE, q="CD8A high")
    assert len(pages.tiles(at)) > 3


def test_a_log_in_hides_address_and_local_copy_in_messages(address, monkeypatch):
    settings = pytest.importorskip("app.settings")
    chosen = settings.Settings(store_path=address, auth="proxy")
    monkeypatch.setattr(settings, "_current", [chosen])
    copy = Store.open(address).path
    assert settings.as_shown(f"{address}/x and {copy}/indexes") == "a.stamp/x and a.stamp/indexes"


@pytest.mark.slow
def test_the_verb_app_serves_a_store_at_an_address(address):
    pytest.importorskip("streamlit")
    port = free_port()
    code = "from stamp_index.cli import main; main()"
    words = [sys.executable, "-u", "-c", code, "app", address, "--port", str(port)]
    app = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(60, app.kill)
    watchdog.start()
    try:
        assert f"http://127.0.0.1:{port}/" in app.stdout.readline()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as page:
            assert page.status == 200
        app.send_signal(signal.SIGTERM)
        assert app.wait(20) == 0
    finally:
        watchdog.cancel()
        app.kill()
        app.wait()
        app.stdout.close()


def test_the_doctor_leaves_the_local_copys_own_files_and_says_the_address(address, tmp_path):
    assert CliRunner().invoke(main, ["info", address]).exit_code == 0  # fetches the indexes
    kept = sorted((tmp_path / "cache").rglob(".fetched.json"))
    assert len(kept) == 2
    for words in (["doctor", address], ["doctor", address, "--mend"]):
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0
        assert done.output == f"{address} is whole.\n"
    assert sorted((tmp_path / "cache").rglob(".fetched.json")) == kept


def test_shards_of_a_store_elsewhere_are_said_to_lie_here_alone(address, tmp_path):
    done = CliRunner().invoke(main, ["shard", address, "--shards", "2"])
    assert done.exit_code == 0
    (lies,) = (tmp_path / "cache" / "stores").glob("*/shards")
    assert f"on this machine alone, in {lies}: serve them from here" in done.output
