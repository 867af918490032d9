"""Limits of the server: too much, too slow, too many, and what comes after."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from urllib.parse import urlsplit

import pytest

from stamp_index.serve import memory
from stamp_index.serve.lanes import Lane
from stamp_index.serve.problems import RefusedError
from stamp_index.serve.settings import Access, Limits, Place, ServeError
from tests.serve_world import asked, problem, served
from tests.support import ToyEncoder, toy_store


class Waiting(ToyEncoder):
    """Embeds a signature when it is told to."""

    def __init__(self):
        super().__init__()
        self.begun, self.go = threading.Semaphore(0), threading.Event()

    def encode_signature(self, weights):
        self.begun.release()
        assert self.go.wait(30)
        return super().encode_signature(weights)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return toy_store(tmp_path_factory.mktemp("limits"))


def search(client, **more):
    return client.post("/v1/search/genes", json={"signature": "CD8A", "k": 3, **more})


def talk(url, *parts, within_s=10):
    """Send bytes, and return all that comes back until the server closes."""
    where = urlsplit(url)
    with socket.create_connection((where.hostname, where.port), timeout=within_s) as wire:
        for part in parts:
            wire.sendall(part)
        found = b""
        while part := wire.recv(65_536):
            found += part
        return found


def head(url, *lines):
    return "\r\n".join(
        ["POST /v1/search/genes HTTP/1.1", f"Host: {urlsplit(url).netloc}", "Content-Type: application/json", *lines, "", ""]
    ).encode()  # fmt: skip


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_read(store):
    with served(store.path, limits=Limits(body_mb=0.001)) as url:
        answer = talk(url, head(url, "Content-Length: 1001"))
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"TooLargeError" in answer


def test_a_body_that_turns_out_too_large_is_refused_while_it_comes(store):
    with served(store.path, limits=Limits(body_mb=0.001)) as url:
        chunk = b"200\r\n" + b"x" * 0x200 + b"\r\n"
        answer = talk(url, head(url, "Transfer-Encoding: chunked"), chunk, chunk)
        assert answer.startswith(b"HTTP/1.1 413")


def test_a_body_that_does_not_come_is_given_up(store):
    with served(store.path, limits=Limits(body_s=0.2)) as url:
        answer = talk(url, head(url, "Content-Length: 100"), b"{")
        assert answer.startswith(b"HTTP/1.1 408")


def test_headers_that_do_not_come_are_given_up(store):
    with served(store.path, limits=Limits(header_s=0.2)) as url:
        assert talk(url, b"POST /v1/search/genes HTTP/1.1\r\nHost:") == b""
        assert talk(url) == b""


def test_headers_that_are_too_long_are_refused(store):
    with served(store.path) as url:
        endless = head(url, "X: " + "y" * 80_000).rstrip()
        assert talk(url, endless).startswith(b"HTTP/1.1 4")


def test_another_name_of_the_server_is_refused(store):
    with asked(store.path) as client:
        for name in ("evil.example", "localhost.evil.example", ""):
            answer = client.get("/v1/store", headers={"host": name})
            assert problem(answer) == (421, "HostError")
        for name in ("127.0.0.1:8600", "[::1]:8600", "localhost"):
            assert client.get("/v1/store", headers={"host": name}).status_code == 200


def test_too_many_searches_are_sent_away_and_reading_goes_on(store):
    encoder, found = Waiting(), []
    with asked(store.path, encoder=encoder, limits=Limits(searches=1, queue=1)) as client:
        threads = [threading.Thread(target=lambda: found.append(search(client))) for _ in range(2)]
        threads[0].start()
        assert encoder.begun.acquire(timeout=10)  # one is worked on
        threads[1].start()
        while b'lane_held{lane="searches"} 2.0' not in client.get("/metrics").content:
            pass
        answer = search(client)
        assert problem(answer) == (429, "BusyError")
        assert int(answer.headers["retry-after"]) >= 1
        assert client.get("/v1/slides").status_code == 200
        encoder.go.set()
        for thread in threads:
            thread.join(30)
        assert [one.status_code for one in found] == [200, 200]
        assert search(client).status_code == 200
        assert (
            'stamp_index_shed_total{endpoint="/v1/search/genes"} 1.0' in client.get("/metrics").text
        )


def test_a_search_that_takes_too_long_is_given_up_and_keeps_its_thread_only(store):
    encoder = Waiting()
    with asked(
        store.path, encoder=encoder, limits=Limits(searches=1, queue=1, time_s=0.2)
    ) as client:
        assert problem(search(client)) == (504, "TimeoutError")
        assert problem(search(client)) == (504, "TimeoutError")  # waits for the thread
        encoder.go.set()
        while search(client).status_code != 200:
            pass


def test_no_search_begins_while_there_is_no_memory(store, monkeypatch):
    with asked(store.path, limits=Limits(memory_mb=100_000)) as client:
        assert search(client).status_code == 200
        monkeypatch.setattr("stamp_index.serve.service.resident_mb", lambda: 100_001.0)
        answer = search(client)
        assert problem(answer) == (503, "BusyError")
        assert "retry-after" in answer.headers
        assert client.get("/v1/slides").status_code == 200
    assert 10 < memory.resident_mb() < 100_000


def test_large_bodies_at_the_same_time_are_bounded(store):
    limits = Limits(body_mb=0.01)
    body = json.dumps({"signature": "CD8A" + " " * 9_000}).encode()
    with served(store.path, limits=limits) as url:
        where, wires = urlsplit(url), []
        for _ in range(11):  # each holds all but the last byte
            wire = socket.create_connection((where.hostname, where.port), timeout=10)
            wire.sendall(head(url, f"Content-Length: {len(body)}") + body[:-1])
            wires.append(wire)
        wires[-1].settimeout(10)
        assert talk(url, head(url, f"Content-Length: {len(body)}", "Connection: close"), body)[
            9:12
        ] in (b"503", b"400")
        for wire in wires:
            wire.close()
        with asked(store.path, limits=limits) as client:
            assert search(client).status_code == 200


@pytest.mark.parametrize(
    ("access", "place"),
    [
        ({}, {"host": "0.0.0.0"}),
        ({"auth": "magic"}, {}),
        ({"auth": "token"}, {}),
        ({"auth": "oidc", "issuer": "https://a.example"}, {}),
        ({"auth": "oidc", "issuer": "http://a.example", "audience": "me"}, {}),
        ({"auth": "none", "issuer": "https://a.example"}, {}),
        ({"auth": "proxy", "user_header": "X User"}, {}),
        ({"allow": ("*@a.example",)}, {}),
        ({}, {"certificate": "cert.pem"}),
    ],
)
def test_settings_that_let_in_too_many_or_nobody_are_refused(access, place):
    with pytest.raises(ServeError):
        Place(**place).check(Access(**access))


def test_a_network_without_a_log_in_must_be_wanted():
    Place(host="0.0.0.0").check(Access(anyone=True))


@pytest.mark.parametrize(
    "given", [{"k": 0}, {"time_s": -1.0}, {"queue": -1}, {"body_mb": float("inf")}]
)
def test_limits_that_are_none_are_refused(given):
    with pytest.raises(ServeError):
        Limits(**given)


def test_a_lane_drops_what_waits_when_its_caller_gives_up():
    lane, go, ran = Lane("tests", 1, 5), threading.Event(), []

    async def story():
        first = asyncio.create_task(lane.run(lambda: go.wait(10), within_s=10))
        await asyncio.sleep(0.05)
        with pytest.raises(RefusedError) as found:
            await lane.run(lambda: ran.append(1), within_s=0.05)
        assert found.value.status == 504
        assert lane.held == 1
        go.set()
        assert await first

    asyncio.run(story())
    assert ran == []
    lane.close()


def test_an_error_of_the_work_reaches_its_caller_and_frees_its_place():
    lane = Lane("tests", 1, 0)

    def fail():
        msg = "its own"
        raise TimeoutError(msg)

    with pytest.raises(TimeoutError, match="its own"):
        asyncio.run(lane.run(fail, within_s=5))
    assert lane.held == 0
    lane.close()
