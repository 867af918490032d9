"""Malformed HTTP requests to a server: what follows is decided by the number of the request."""

from __future__ import annotations

import base64
import json
import random
import re
import select
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import numpy as np

from tests.fuzz_mutations import spoiled, spoiled_text
from tests.support import jpeg

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT_S: Final = 10.0  # for an answer
_MORE_S: Final = (
    0.2  # after which what is no whole request is ended: the server may wait for the rest
)
_ALLOWED: Final = {200, 400, 404, 405, 408, 413, 414, 415, 421, 422, 429, 431, 501, 503, 504}
_LINES: Final = ("HTTP/1.1 ", "HTTP/1.0 ")
_PLAIN: Final = "Invalid HTTP request received."  # of uvicorn, to what is no HTTP
_VALUES: Final = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**40, 0.5, -0.0, 1e308, "", " ", "CD8A", "GENE1"),
    *([], {}, [[]], [None], {"": 0}, {"image": 0.5}, [1e308] * 4, ["x"] * 50, "A" * 5000, "\u202e", "\0", "1e2147483648"),
    *("../../etc/passwd", "' or 1=1 --", "not " * 500, "(" * 500, "http://169.254.169.254/", "s3://bucket/x", "NaN"),
)  # fmt: skip


@dataclass(frozen=True)
class Known:
    """What a store holds that requests name."""

    slide_id: str
    spot_id: str
    genes: tuple[str, str]
    dim: int


@dataclass(frozen=True)
class Answer:
    """What came back: status (0 where the connection was closed without one), body, and seconds."""

    status: int
    body: bytes
    seconds: float


def bodies(known: Known) -> dict[str, dict[str, Any]]:
    """Body of a valid request to each address that takes one."""
    one, other = known.genes
    ring = [[0, 0], [700, 0], [700, 700], [0, 700]]
    vector = [0.25] * known.dim
    more = {"k": 5, "recall": 0.99, "filters": "x_um < 900", "one_per": "slide"}
    return {
        "search/genes": {"signature": f"{one} high, {other} low", "genes": [one], **more},
        "search/profile": {"counts": {one: 3, other: 1}, **more},
        "search/image": {"image_base64": base64.b64encode(jpeg(np.full((240, 240, 3), 200, np.uint8))).decode(), "mpp": 0.5, **more},
        "search/vector": {"vector": vector, **more},
        "search/vectors": {"vectors": [vector, vector], "k": 3},
        "search/nearest": {"vectors": [vector], "k": 3, "against": "gene"},
        "search/spots": {"spot_ids": [known.spot_id], "query": "gene", "exclude_own": "slide"},
        "search/region": {"slide_id": known.slide_id, "polygons": [[ring]], "unit": "um", "k": 2,
                          "settings": {"n_prototypes": 4, "n_slides": 3}},
        "spots": {"rows": [0, 3], "columns": ["x_um"]},
        "labels": {"rows": [0, 1], "names": None},
        "expression": {"genes": [one], "rows": [1, 2], "raw": True},
        "thumbnails": {"rows": [0, 1]},
    }  # fmt: skip


def paths(known: Known) -> tuple[str, ...]:
    """Addresses that take no body."""
    own = f"/v1/slides/{known.slide_id}"
    return (
        "/v1/store", "/v1/genes", "/v1/slides", own, f"{own}/genes", f"{own}/overview", "/v1/spots/3",
        "/v1/thumbnails/3", "/healthz", "/readyz", "/metrics", "/openapi.json",
    )  # fmt: skip


def malformed(number: int, known: Known) -> tuple[bytes, bool]:
    """Bytes of one request, and whether they are a whole one, so that there must be an answer."""
    rng = random.Random(number)
    asked = bodies(known)
    path = rng.choice(sorted(asked))
    way = rng.randrange(4)
    if way == 0:  # JSON with one wrong value
        text = json.dumps(_with_another_value(asked[path], rng)).encode()
        return _request("POST", f"/v1/{path}", text), True
    if way == 1:  # text that was JSON
        others = [json.dumps(one) for one in asked.values()]
        text = spoiled_text(json.dumps(asked[path]), rng, others)
        return _request("POST", f"/v1/{path}", text.encode("utf-8", "replace")), True
    if way == 2:  # another address
        found = spoiled_text(rng.choice(paths(known)), rng).encode("utf-8", "replace")
        return _request(
            rng.choice(("GET", "HEAD", "POST", "DELETE")), found, b""
        ), False  # what was an address may end the line
    whole = _request("POST", f"/v1/{path}", json.dumps(asked[path]).encode())
    return spoiled(whole, rng, [_request("GET", one, b"") for one in paths(known)]), False


def _request(method: str, path: str | bytes, body: bytes) -> bytes:
    path = path.encode() if isinstance(path, str) else path
    head = [
        b"%s %s HTTP/1.1" % (method.encode(), path),
        b"Host: localhost",
        b"Connection: close",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
    ]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def _with_another_value(asked: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Replace one of the values, wherever it stands, or add one."""
    out = json.loads(json.dumps(asked))
    if rng.random() < 0.1:
        return out | {rng.choice(("k", "x", "", "__class__", "filters")): rng.choice(_VALUES)}
    holder, key = rng.choice(list(_places(out)))
    holder[key] = rng.choice(_VALUES)
    return out


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in list(items):
        yield value, key
        if isinstance(one, (dict, list)):
            yield from list(_places(one))[:20]


def answer_to(url: str, request: bytes, *, is_whole: bool) -> Answer:
    """Send bytes to a server and read until it closes.

    Raises
    ------
    TimeoutError
        If it has not closed within `LIMIT_S`.
    """
    parts = urlsplit(url)
    began = time.monotonic()
    with socket.create_connection((parts.hostname, parts.port), LIMIT_S) as wire:
        found = _exchanged(wire, request, is_ended=is_whole)
    head, _, body = found.partition(b"\r\n\r\n")
    line = head.split(b"\r\n", 1)[0].decode("latin-1")
    status = int(line[9:12]) if line.startswith(_LINES) and line[9:12].isdigit() else 0
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)  # another answer may follow
    body = body if length is None else body[: int(length[1])]
    return Answer(status, body, time.monotonic() - began)


def _exchanged(wire: socket.socket, request: bytes, *, is_ended: bool) -> bytes:
    """Send, and read until the server closes; what is no whole request is ended where the server waits for more."""
    until, found = time.monotonic() + LIMIT_S, bytearray()
    with suppress(ConnectionResetError, BrokenPipeError):  # it may close before all is sent
        wire.sendall(request)
        while time.monotonic() < until:
            if select.select([wire], [], [], _MORE_S)[0]:
                part = wire.recv(1 << 16)
                if not part:
                    return bytes(found)
                found += part
            elif not is_ended:
                wire.shutdown(socket.SHUT_WR)
                is_ended = True
        msg = f"no end within {LIMIT_S:g} s of {request[:200]!r}"
        raise TimeoutError(msg)
    return bytes(found)


def wrong(answer: Answer, *, is_whole: bool) -> str:
    """Say what is wrong with an answer to a malformed request; "" for nothing."""
    if is_whole and not answer.status:
        return f"no answer: {answer.body[:200]!r}"
    if answer.status not in {0, *_ALLOWED}:
        return f"status {answer.status}: {answer.body[:200]!r}"
    if answer.status in {0, 200} or not answer.body or answer.body.startswith(_PLAIN.encode()):
        return ""
    try:
        json.loads(answer.body)["error"]["type"]
    except (ValueError, KeyError, TypeError):
        return f"no typed error with status {answer.status}: {answer.body[:200]!r}"
    return ""
