"""The HTTP client of shards: how long it waits, and to whom it sends its token."""

from __future__ import annotations

import json
import threading
import time
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from stamp_index.errors import ShardError
from stamp_index.index.recipes import FlatRecipe
from stamp_index.shards import LocalShards, ShardedIndex, patience
from stamp_index.shards.http_client import TOKEN_VARIABLE, HttpShards
from stamp_index.shards.messages import decode_question, encode_reply
from stamp_index.shards.patience import MOST_TIMEOUT_S, announced, check_timeout
from tests.index_world import QUERIES
from tests.shard_world import assert_identical, divided

SLOW_S = 0.6


@contextmanager
def served(shards, said, *, slow_s=0.0):
    """Serve shards over HTTP; each answer takes so long, and what is served is said in these words."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.answer(json.dumps(said).encode())

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(slow_s)
            modality = self.path.rpartition("/")[2]
            self.answer(encode_reply(shards.ask(modality, decode_question(body))))

        def answer(self, body):
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_):
            pass  # whoever waited no longer is gone

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    store, whole, _ = divided(tmp_path_factory.mktemp("http"), FlatRecipe())
    return store, whole, LocalShards.open(store)


@pytest.fixture
def impatient(monkeypatch):
    """Clients that wait a moment for services which say no time."""
    monkeypatch.setattr(patience, "TIMEOUT_S", 0.1)
    monkeypatch.setattr(patience, "_MARGIN_S", 0.2)


def test_a_client_waits_as_long_as_the_service_gives_its_shards(world, impatient):
    store, whole, shards = world
    said = announced(shards.plans(), 20.0)
    with served(shards, said, slow_s=SLOW_S) as url, closing(HttpShards(url)) as client:
        index = ShardedIndex.connect(store, "image", client)
        found = index.search(QUERIES, 5, recall=1)
    assert_identical(found, whole.search(QUERIES, 5, recall=1))


def test_a_service_of_an_older_release_says_no_time(world, impatient):
    store, whole, shards = world
    with served(shards, shards.plans()) as url, closing(HttpShards(url)) as client:
        index = ShardedIndex.connect(store, "image", client)
        assert_identical(index.search(QUERIES, 5, recall=1), whole.search(QUERIES, 5, recall=1))
    with served(shards, shards.plans(), slow_s=SLOW_S) as url, closing(HttpShards(url)) as client:
        index = ShardedIndex.connect(store, "image", client)
        with pytest.raises(ShardError, match="timed out"):
            index.search(QUERIES, 5)


def test_who_says_how_long_to_wait_is_not_told_otherwise(world):
    store, _, shards = world
    said = announced(shards.plans(), 20.0)
    with (
        served(shards, said, slow_s=SLOW_S) as url,
        closing(HttpShards(url, timeout_s=0.3)) as client,
    ):
        index = ShardedIndex.connect(store, "image", client)
        with pytest.raises(ShardError, match="timed out"):
            index.search(QUERIES, 5)


def test_what_is_announced_leaves_the_plans_as_older_clients_read_them(world):
    _, _, shards = world
    said = json.loads(json.dumps(announced(shards.plans(), 7.0)))
    assert all(isinstance(one, dict) for one in said.values())
    assert said["image"] == shards.plans()["image"]
    one = patience.Patience()
    assert one.hear(said) == shards.plans()
    assert one.wait_s > 7.0


@pytest.mark.parametrize(
    "said",
    [
        [],
        {"image": 3},
        {"service": {"timeout_s": "soon"}},
        {"service": {"timeout_s": "nan"}},
        {"service": {"timeout_s": "1e30"}},
        {"service": {"timeout_s": None}},
        {"service": 5},
    ],
    ids=str,
)
def test_what_is_no_plan_is_refused_with_the_address(world, said):
    with (
        served(world[2], said) as url,
        closing(HttpShards(url)) as client,
        pytest.raises(ShardError, match=r"127\.0\.0\.1.*no service"),
    ):
        client.plans()


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf"), 2 * MOST_TIMEOUT_S])
def test_a_time_that_no_shard_is_given_is_refused(timeout_s):
    with pytest.raises(ValueError, match="expected seconds"):
        check_timeout(timeout_s)


def test_a_token_never_crosses_a_network_in_the_clear(monkeypatch):
    for host in ("stamp.example", "10.0.0.7:8000", "127.0.0.1.stamp.example", "0.0.0.0:8000"):
        with pytest.raises(ValueError, match="in the clear"):
            HttpShards(f"http://{host}", token="secret")
        HttpShards(f"https://{host}", token="secret")
        HttpShards(f"http://{host}", token="")
    for host in ("127.0.0.1:8000", "localhost", "LOCALHOST:8000", "[::1]:8000"):
        HttpShards(f"http://{host}", token="secret")
    monkeypatch.setenv(TOKEN_VARIABLE, "secret")
    with pytest.raises(ValueError, match=rf"{TOKEN_VARIABLE}.*in the clear") as refused:
        HttpShards("http://stamp.example")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("token", ["secretsecret\n", "secret secret", "secret€", 5])
def test_a_token_that_no_header_takes_is_refused_and_not_repeated(token, monkeypatch):
    with pytest.raises(ValueError, match="a character that no token has") as caught:
        HttpShards("http://127.0.0.1:1", token=token)
    assert "secret" not in str(caught.value)
    if isinstance(token, str):
        monkeypatch.setenv(TOKEN_VARIABLE, token)
        with pytest.raises(ValueError, match="a character that no token has"):
            HttpShards("http://127.0.0.1:1")


@pytest.mark.parametrize(
    "address", ["http://h:abc", "http://h:99999", "http://[h", "http://u:secret@h"]
)
def test_an_address_that_is_none_is_refused_without_its_password(address):
    with pytest.raises(ValueError, match="expected one such as http://host:8000") as caught:
        HttpShards(address)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host", ["a..b", "a" * 64])
def test_a_name_that_no_machine_has_is_not_reached(host):
    with pytest.raises(ShardError, match="cannot be reached"):
        HttpShards(f"http://{host}:1", token="").plans()
