"""Questions and replies as bytes: what is written is read again, and anything else is refused with a sentence."""

from __future__ import annotations

import json
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import save

from stamp_index.errors import QueryError
from stamp_index.shards import messages
from stamp_index.shards.messages import (
    Question,
    Reply,
    decode_question,
    decode_reply,
    encode_question,
    encode_reply,
    packed,
    unpacked,
)

QUERIES = np.eye(3, 8, dtype=np.float32)
GOOD = Question(
    plan="p-0123456789ab",
    kind="search",
    queries=QUERIES,
    k=7,
    breadth=3,
    n_rerank=50,
    n_allowed=9,
    in_pieces=True,
    filters={0: packed(np.arange(40) % 3 == 0), 4: packed(np.arange(900) > 200)},
    skip=(2,),
)


def assert_equal(one, other):
    for item in fields(one):
        left, right = getattr(one, item.name), getattr(other, item.name)
        if item.name == "filters":
            assert left.keys() == right.keys()
            for number in left:
                np.testing.assert_array_equal(left[number], right[number])
                assert left[number].dtype == right[number].dtype
        elif isinstance(left, np.ndarray):
            np.testing.assert_array_equal(left, right)
        else:
            assert left == right
            assert type(left) is type(right)


def test_a_question_is_read_as_it_was_written():
    assert_equal(decode_question(encode_question(GOOD)), GOOD)
    cosines = Question("p-0", "cosines", QUERIES[:1], positions=np.arange(5))
    assert_equal(decode_question(encode_question(cosines)), cosines)


@given(
    scores=arrays.arrays(np.float32, st.tuples(st.integers(0, 4), st.integers(0, 5))),
    silent=st.lists(st.integers(0, 99), max_size=4),
)
def test_a_reply_is_read_as_it_was_written(scores, silent):
    positions = np.arange(scores.size).reshape(scores.shape)
    reply = decode_reply(encode_reply(Reply(scores, positions, tuple(silent))))
    assert reply.scores.tobytes() == scores.tobytes()
    np.testing.assert_array_equal(reply.positions, positions)
    assert reply.silent == tuple(silent)


@given(arrays.arrays(np.bool_, st.integers(1, 500)))
def test_a_filter_is_read_as_it_was_packed(mask):
    np.testing.assert_array_equal(unpacked(packed(mask), len(mask)), mask)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(100, 5_000)), min_size=1, max_size=6),
)
def test_whole_slides_are_packed_as_their_stretches(slides):
    mask = np.repeat(*(np.array(column) for column in zip(*slides, strict=True)))
    values = packed(mask)
    assert values.nbytes <= max(16 * (len(slides) + 1), len(mask) // 8 + 1)
    np.testing.assert_array_equal(unpacked(values, len(mask)), mask)


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(3, np.uint8),
        np.zeros((2, 3), np.int64),
        np.array([[5, 3]]),
        np.array([[0, 4], [4, 9]]),
        np.array([[-1, 3]]),
        np.array([[0, 41]]),
        np.zeros(5, np.float32),
    ],
    ids=["too few bits", "three ends", "backward", "touching", "below", "beyond", "floats"],
)
def test_a_filter_that_does_not_fit_is_refused(values):
    with pytest.raises(QueryError, match=r"filter"):
        unpacked(values, 40)


def body_of(arrays_too=None, **facts):
    """A question whose facts or arrays are not as they should be; None leaves one out."""
    said = json.loads(_facts_of(encode_question(GOOD))) | facts
    said = {name: value for name, value in said.items() if value is not None}
    held = {"queries": QUERIES, "positions": np.empty(0, np.int64)} | (arrays_too or {})
    held = {name: value for name, value in held.items() if value is not None}
    return save({"facts": np.frombuffer(json.dumps(said).encode(), np.uint8), **held})


def _facts_of(body):
    from safetensors.numpy import load

    return load(body)["facts"].tobytes()


BAD = {
    "nothing": b"",
    "text": b"hello",
    "a header that reaches beyond the end": (2**40).to_bytes(8, "little") + b"{}",
    "pickle": b"\x80\x04\x95" + bytes(40),
    "an archive": b"PK\x03\x04" + bytes(80),
    "no facts": save({"queries": QUERIES}),
    "facts that are no JSON": save({"facts": np.frombuffer(b"{nope", np.uint8)}),
    "facts that are a list": save({"facts": np.frombuffer(b"[1]", np.uint8)}),
    "deep facts": save({"facts": np.frombuffer(b"[" * 200_000, np.uint8)}),
    "no k": body_of(k=None),
    "k as text": body_of(k="7"),
    "k as a bool": body_of(k=True),
    "k of 0": body_of(k=0),
    "k below 0": body_of(k=-1),
    "k without end": body_of(k=10**30),
    "more hits than allowed": body_of(k=messages.MOST_HITS),
    "another kind": body_of(kind="drop"),
    "cosines of three queries": body_of(kind="cosines"),
    "breadth of 0": body_of(breadth=0),
    "skip of text": body_of(skip=["2"]),
    "a further fact": body_of(path="/etc/passwd"),
    "no queries": body_of({"queries": None}),
    "queries of doubles": body_of({"queries": QUERIES.astype(np.float64)}),
    "flat queries": body_of({"queries": QUERIES[0]}),
    "NaN": body_of({"queries": QUERIES * np.nan}),
    "infinite": body_of({"queries": QUERIES + np.float32(np.inf)}),
    "too many queries": body_of({"queries": np.zeros((5_000, 1), np.float32)}),
    "a further array": body_of({"more": QUERIES}),
    "a filter of no shard": body_of({"filter.x": np.zeros(1, np.uint8)}),
    "a filter of a shard below 0": body_of({"filter.-1": np.zeros(1, np.uint8)}),
    "bytes for positions": body_of({"positions": np.zeros(4, np.uint8)}),
}


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_question_is_refused(name):
    with pytest.raises(QueryError):
        decode_question(BAD[name])


def test_a_question_that_is_too_long_is_refused_unread(monkeypatch):
    monkeypatch.setattr(messages, "MOST_BYTES", 100)
    with pytest.raises(QueryError, match="at most 100"):
        decode_question(encode_question(GOOD))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_question_of_which_bytes_were_changed_is_read_or_refused(data):
    body = bytearray(encode_question(GOOD))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    body = bytes(body[: data.draw(st.integers(0, len(body)))] if data.draw(st.booleans()) else body)
    for decode in (decode_question, decode_reply):
        try:
            decode(body)
        except QueryError as exc:
            assert str(exc)  # noqa: PT017 - any other error fails the test


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_refused(body):
    with pytest.raises(QueryError):
        decode_question(body)
