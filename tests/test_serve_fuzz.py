"""Malformed requests to a server on a port: each is answered or refused with a typed error, and the server goes on."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import stamp_index as si
from tests.fuzz_requests import Answer, Known, answer_to, bodies, malformed, wrong
from tests.serve_world import served
from tests.support import toy_slides, toy_store

KNOWN = Known("S1", "S1:B0003-1", ("CD8A", "EPCAM"), 32)


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with served(toy_store(tmp_path_factory.mktemp("fuzz"), slides=toy_slides(3)).path) as url:
        yield url


def test_what_is_spoiled_was_right_before(url):
    with si.connect(url) as there:
        for path, body in bodies(KNOWN).items():
            assert there._connection.post(*path.split("/"), **body), path


def test_malformed_requests_are_refused_with_typed_errors_and_the_server_goes_on(url):
    with si.connect(url) as there:
        before = there.search_vector(np.eye(32)[0], k=5)
        said = Counter()
        for number in range(600):
            request, is_whole = malformed(number, KNOWN)
            answer = answer_to(url, request, is_whole=is_whole)
            said_wrong = wrong(answer, is_whole=is_whole)
            assert not said_wrong, f"request {number}: {said_wrong}"
            said[answer.status] += 1
        after = there.search_vector(np.eye(32)[0], k=5)
    assert said[200] > 20  # not everything that is spoiled is wrong
    assert said[400] > 200
    np.testing.assert_array_equal(after.rows, before.rows)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(500, b'{"error": {"type": "InternalError"}}', 0.1), "status 500"),
        (Answer(400, b"<html>", 0.1), "no typed error"),
        (Answer(0, b"", 0.1), "no answer"),
        (Answer(404, b'{"detail": "Not Found"}', 0.1), "no typed error"),
    ],
)
def test_what_no_server_may_answer_is_told(answer, said):
    assert said in wrong(answer, is_whole=True)
