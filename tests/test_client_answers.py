"""How the client asks a server, and answers that no server of ours gives."""

from __future__ import annotations

import contextlib
import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

import stamp_index as si
from stamp_index.errors import QueryError, RemoteError
from stamp_index.serve.settings import Access, Limits
from stamp_index.serve.tokens import new_token
from tests.serve_world import served
from tests.support import toy_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return toy_store(tmp_path_factory.mktemp("client"))


@pytest.fixture(scope="module")
def there(store):
    with served(store.path) as url, si.connect(url) as searcher:
        yield searcher


def test_a_token_opens_the_door(store, tmp_path):
    token, line = new_token("me")
    (tmp_path / "tokens").write_text(line)
    access = Access(auth="token", tokens=tmp_path / "tokens")
    with served(store.path, access=access) as url:
        with si.connect(url, token=token) as there:
            assert len(there.search_genes("CD8A", k=2)) == 2
            assert token not in repr(there._connection)
        with pytest.raises(RemoteError, match="not known here") as found:
            si.connect(url, token="sti_wrong")
        assert (found.value.status, found.value.kind) == (401, "AuthenticationError")


def test_a_server_that_is_not_there_is_one_sentence():
    with pytest.raises(RemoteError, match="does not answer"):
        si.connect("http://127.0.0.1:9")


@pytest.mark.parametrize(
    "url", ["stamp.example", "ftp://a.example", "http://me:secret@a.example", "http://"]
)
def test_addresses_that_are_none_are_refused(url):
    with pytest.raises(ValueError, match="address"):
        si.connect(url)


def test_a_token_never_crosses_a_network_in_the_clear():
    with pytest.raises(ValueError, match="in the clear"):
        si.connect("http://stamp.example", token="sti_x")


def test_a_limit_of_the_server_is_a_query_error(store):
    with (
        served(store.path, limits=Limits(k=10)) as url,
        si.connect(url) as there,
        pytest.raises(QueryError, match="at most 10"),
    ):
        there.search_genes("CD8A", k=11)


class Odd:
    """A server that answers what it is told."""

    def __init__(self, answers):
        self.left, self.n_asked = list(answers), 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.n_asked += 1
                status, headers, body = outer.left.pop(0) if outer.left else (200, {}, b"{}")
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(OSError):  # of who does not read on
                    self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def busy(status=429, **headers):
    return (
        status,
        headers,
        json.dumps({"error": {"type": "BusyError", "message": "later"}}).encode(),
    )


def test_a_busy_server_is_asked_again_a_few_times_when_it_says_so():
    from stamp_index.client.connection import Connection

    again = {"Retry-After": "0"}
    with Odd([busy(**again), busy(503, **again)]) as odd:
        assert Connection(odd.url).get("store") == {}
        assert odd.n_asked == 3
    with Odd([busy(**again)] * 50) as odd:
        with pytest.raises(RemoteError, match="later"):
            Connection(odd.url).get("store")
        assert odd.n_asked == 6
    for first in (busy(), busy(500, **again), busy(504, **again)):
        with Odd([first]) as odd:
            with pytest.raises(RemoteError, match="later"):
                Connection(odd.url).get("store")
            assert odd.n_asked == 1


@pytest.mark.parametrize(
    "answer",
    [
        (200, {}, b"<html>"),
        (200, {}, b"[1]"),
        (404, {}, b"nothing"),
        (400, {}, b'{"error": 3}'),
        (400, {}, b'{"error": {"type": "SystemExit", "message": "x"}}'),
        (400, {}, b'{"error": {"type": "RemoteError", "message": "x"}}'),
        (302, {"Location": "http://127.0.0.1:1/elsewhere"}, b""),
    ],
)
def test_answers_of_other_servers_are_remote_errors(answer):
    with Odd([answer]) as odd, pytest.raises(RemoteError):
        si.connect(odd.url)


ASKS = {
    "genes": lambda s: s.search_genes("CD8A"),
    "spot": lambda s: s.search_spot("S1:B0003-1"),
    "nearest": lambda s: s.nearest(np.eye(2, 32), k=2),
    "region": lambda s: s.search_region(np.arange(8)),
    "names": lambda s: s.store.genes,
    "slides": lambda s: s.store.slides(),
    "genes of": lambda s: s.store.genes_of("S1"),
    "spots": lambda s: s.store.spots(["x_um"], [1, 2]),
    "row": lambda s: s.store.row_of("S1:B0003-1"),
    "label": lambda s: s.store.label("domain", [1, 2]),
    "thumbnails": lambda s: s.store.thumbnails([1, 2]),
    "expression": lambda s: s.store.expression(["CD8A"], [1, 2]),
}
LACKING = [
    {},
    {"store_version": "x"},
    {"store_version": 0, "hits": 3, "answers": [], "rows": ["a", 1], "scores": [[1]], "columns": []},
    {"store_version": 0, "hits": [{}], "answers": [{}], "rows": [[1], [2, 3]], "scores": [], "columns": {"x_um": [1], "domain": [[1], [2]]},
     "thumbnails": ["!"], "values": [[1, 2], [3]], "slides": [{}], "genes": 3, "gene_ids": 3},
]  # fmt: skip


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_answers_that_lack_something_are_remote_errors_with_the_address(there, ask):
    described = json.dumps(there._connection.get("store")).encode()
    for said in LACKING:
        answers = [(200, {}, described), (200, {}, json.dumps(said).encode())]
        with Odd(answers) as odd, si.connect(odd.url) as searcher:
            with pytest.raises(RemoteError, match="not as expected") as found:
                ask(searcher)
            assert odd.url in str(found.value)


@pytest.mark.parametrize("name", ["store_version", "name", "encoders", "encoder", "n_rows", "label_names"])  # fmt: skip
def test_a_store_that_lacks_something_is_a_remote_error(there, name):
    said = there._connection.get("store")
    for wrong in ({key: one for key, one in said.items() if key != name}, said | {"encoders": {"x": {}}}):  # fmt: skip
        with Odd([(200, {}, json.dumps(wrong).encode())]) as odd, pytest.raises(RemoteError):
            si.connect(odd.url)


def test_a_label_with_a_long_exponent_is_text(there):
    described = json.dumps(there._connection.get("store")).encode()
    labels = json.dumps({"columns": {"domain": ["1e2147483648", "1"]}}).encode()
    with Odd([(200, {}, described), (200, {}, labels)]) as odd, si.connect(odd.url) as searcher:
        assert list(searcher.store.label("domain", [0, 1])) == ["1e2147483648", "1"]


def test_no_more_is_read_than_an_answer_may_have():
    from stamp_index.client.connection import Connection

    fits = json.dumps({"a": "x" * 990}).encode()
    for status, more in ((200, {}), (400, {}), (429, {"Retry-After": "0"})):
        with Odd([(status, more, b" " + fits)]) as odd:
            with pytest.raises(RemoteError, match="more than 999 bytes"):
                Connection(odd.url, most_bytes=999).get("store")
            assert odd.n_asked == 1
    with Odd([(200, {}, fits)]) as odd:
        assert Connection(odd.url, most_bytes=999).get("store")["a"]


def test_packed_answers_are_not_unpacked():
    from stamp_index.client.connection import Connection

    bomb = gzip.compress(b'{"a": "' + b"x" * 10_000_000 + b'"}')
    answer = (200, {"Content-Encoding": "gzip"}, bomb)
    with Odd([answer]) as odd, pytest.raises(RemoteError, match="packed"):
        Connection(odd.url).get("store")


def test_an_answer_that_is_nested_without_end_is_a_remote_error():
    from stamp_index.client.connection import Connection

    for status in (200, 400):
        with Odd([(status, {}, b"[" * 100_000)]) as odd, pytest.raises(RemoteError):
            Connection(odd.url).get("store")


def test_a_server_that_speaks_no_tls_is_told_apart_from_one_that_is_not_there():
    with Odd([]) as odd:
        address = odd.url.replace("http://", "https://")
        with pytest.raises(RemoteError, match="speaks no TLS.*certificates="):
            si.connect(address)


@pytest.mark.parametrize("token", ["sti_secret\n", "sti_secret€", 5])
def test_a_token_that_no_header_takes_is_refused_and_not_repeated(token):
    with pytest.raises(ValueError, match="a character that no token has") as caught:
        si.connect("http://127.0.0.1:1", token=token)
    assert "secret" not in str(caught.value)
