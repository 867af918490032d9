"""Limits of the server: too much, too slow, too many, and what comes after."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest

from stamp_index.process_memory import resident_mb
from stamp_index.serve.lanes import Lane
from stamp_index.serve.problems import RefusedError
from stamp_index.serve.settings import Access, Address, Limits, ServeError
from tests.serve_world import asked, problem, served, until
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


def untaken(url, request, times=1, held=4_096):
    """Ask, and take nothing of the answers."""
    where = urlsplit(url)
    wire = socket.socket()
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, held)
    wire.connect((where.hostname, where.port))
    wire.settimeout(1)
    with contextlib.suppress(TimeoutError):  # the server does not read on
        wire.sendall(request * times)
    return wire


LARGE = {"cells": 500_000, "rows": 25_000}


def large_answer(url, *lines):
    """Ask for more than the system itself holds of what is not taken."""
    body = json.dumps({"rows": [*range(100)] * 250, "genes": ["CD8A"] * 20}).encode()
    asks = head(url, f"Content-Length: {len(body)}", *lines).replace(b"search/genes", b"expression")
    return asks + body


def others_get_their_place(url):
    until(lambda: talk(url, get(url, "/healthz", "Connection: close")).startswith(b"HTTP/1.1 2"))


@pytest.mark.parametrize("lines", [[], ["Connection: close"]])
def test_readers_that_take_nothing_are_left(store, lines):
    with served(store.path, limits=Limits(send_s=0.5, connections=4, **LARGE)) as url:
        wires = [untaken(url, large_answer(url, *lines)) for _ in range(3)]
        others_get_their_place(url)
        for wire in wires:
            wire.close()


def test_who_asks_on_and_on_and_takes_nothing_is_left(store):
    limits = Limits(send_s=0.5, connections=3, header_s=1_000.0)
    with served(store.path, limits=limits) as url:
        wires = [untaken(url, get(url, "/openapi.json"), 300), untaken(url, b"")]
        time.sleep(0.3)  # until all buffers are full
        others_get_their_place(url)
        for wire in wires:
            wire.close()


def test_a_slow_reader_gets_all_of_its_answer(store):
    with served(store.path, limits=Limits(send_s=0.2, **LARGE)) as url:
        request = large_answer(url, "Connection: close")
        wire, found = untaken(url, request, held=65_536), 0
        while part := wire.recv(65_536):
            found += len(part)
            time.sleep(0.02)
        wire.close()
        assert found == len(talk(url, request))


def get(url, path, *lines):
    return "\r\n".join(
        [f"GET {path} HTTP/1.1", f"Host: {urlsplit(url).netloc}", *lines, "", ""]
    ).encode()


@pytest.mark.parametrize("lines", [["Content-Length: 1"], ["Transfer-Encoding: chunked"]])
def test_nothing_is_held_of_who_has_not_logged_in(store, lines):
    with served(store.path) as url:
        for path in ("/healthz", "/readyz"):
            assert talk(url, get(url, path, *lines)).startswith(b"HTTP/1.1 413")


def test_the_name_of_the_server_is_known_however_it_is_written(store):
    access = Access(allowed_hosts=("Stamp.Example",))
    with asked(store.path, access=access) as client:
        for name in ("stamp.example", "STAMP.example:443", "LocalHost"):
            assert client.get("/v1/store", headers={"host": name}).status_code == 200


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
    assert 10 < resident_mb() < 100_000


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


def test_json_of_many_values_is_refused_and_a_large_picture_is_not(store):
    with asked(store.path, limits=Limits(json_values=100)) as client:
        for values in ([0] * 120, [[]] * 60, [{}] * 60, [{"a": 1}] * 40):
            answer = client.post("/v1/search/genes", json={"signature": values})
            assert problem(answer) == (413, "TooLargeError")
        picture = {"image_base64": "A" * 1_000_000, "mpp": 1.0}
        assert problem(client.post("/v1/search/image", json=picture)) == (400, "ImageFormatError")
        file = client.post(
            "/v1/search/picture?mpp=1", content=b",,," * 99, headers={"content-type": "image/png"}
        )
        assert problem(file) == (400, "ImageFormatError")


def test_what_the_limits_allow_fits_into_a_body():
    most = Limits()
    spot = "GSE000000_breast_section_12:AACACCTACTATCGAA-1"
    number = -0.12345678901234567
    bodies = [
        {"vectors": [[number] * 1_536] * most.queries, "k": 700, "genes": [], "against": "image"},
        {"spot_ids": [spot] * most.region_spots},
        {"rows": [10**9] * most.region_spots},
        {"polygons": [[[[number * 1e6] * 2] * most.vertices]] * most.polygons},
        {"counts": {f"ENSG{i:011d}": 12_345.0 for i in range(60_000)}},
        {"rows": [10**9] * most.rows, "genes": ["HLA-DRB1"] * most.genes},
        {"image_base64": "A" * 19_000_000, "mpp": 0.5, "filters": ",[:" * 3_000},
    ]
    for body in bodies:
        text = json.dumps(body).encode()
        assert len(text) <= most.body_bytes
        assert sum(map(text.count, (b",", b":", b"[", b"{"))) <= most.json_values


def test_many_values_at_the_same_time_are_bounded(store):
    encoder, found = Waiting(), []
    limits = Limits(searches=1, json_values=100)
    with asked(store.path, encoder=encoder, limits=limits) as client:
        genes = ["CD8A"] * 80
        threads = [
            threading.Thread(target=lambda: found.append(search(client, genes=genes)))
            for _ in range(11)
        ]
        for thread in threads:
            thread.start()
        until(lambda: b'lane_held{lane="searches"} 11.0' in client.get("/metrics").content)
        answer = search(client, genes=genes)
        assert problem(answer) == (503, "BusyError")
        assert "large requests" in answer.text
        encoder.go.set()
        for thread in threads:
            thread.join(30)
        assert search(client).status_code == 200
    assert {one.status_code for one in found} == {200}


@pytest.mark.parametrize(
    "body",
    [
        {"rows": ["a"] * 50_000},
        {"rows": [True] * 50_000},
        {"rows": [0], "names": [0] * 50_000},
        {str(name): 0 for name in range(50_000)},
    ],
)
def test_of_many_wrong_values_the_first_is_told(store, body):
    with asked(store.path) as client:
        answer = client.post("/v1/labels", json=body)
        assert problem(answer) == (422, "ValueError")
        assert "more." not in answer.text
        many = client.post("/v1/search/profile", json={"counts": dict.fromkeys(map(str, range(50_000)), "a")})  # fmt: skip
        assert problem(many) == (422, "ValueError")
        assert "more." not in many.text


@pytest.mark.parametrize("subject", ["vectors", "spots"])
def test_an_answer_is_bounded_by_queries_times_hits_times_genes(store, subject):
    body = {"vectors": [[1.0] * 32] * 3} if subject == "vectors" else {"spot_ids": ["S1:B0001-1"] * 3}  # fmt: skip
    with asked(store.path, limits=Limits(cells=59)) as client:
        for genes, status in (([], 200), (["CD8A"] * 4, 200), (["CD8A"] * 5, 400)):
            said = {**body, "k": 4, "genes": genes}
            assert client.post(f"/v1/search/{subject}", json=said).status_code == status


def test_a_table_is_bounded_by_rows_times_columns_and_each_is_read_once(store):
    with asked(store.path, limits=Limits(cells=10)) as client:
        for path, named, name in (("labels", "names", "domain"), ("spots", "columns", "spot_id")):
            body = {"rows": [0] * 10, named: [name] * 1_000}
            answer = client.post(f"/v1/{path}", json=body)
            assert list(answer.json()["columns"]) == [name]
            answer = client.post(f"/v1/{path}", json=body | {"rows": [0] * 11})
            assert problem(answer) == (400, "QueryError")
        assert problem(client.post("/v1/spots", json={"rows": [0]})) == (400, "QueryError")


def test_the_spots_of_all_regions_are_bounded(store):
    body = {"rows": list(range(8)), "k": 2}
    for most, status in ((1_000, 200), (3, 400)):
        with asked(store.path, limits=Limits(found_spots=most)) as client:
            assert client.post("/v1/search/region", json=body).status_code == status


@pytest.mark.parametrize(
    ("access", "address"),
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
def test_settings_that_let_in_too_many_or_nobody_are_refused(access, address):
    with pytest.raises(ServeError):
        Address(**address).check(Access(**access))


def test_a_network_without_a_log_in_must_be_wanted():
    Address(host="0.0.0.0").check(Access(anyone=True))


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
