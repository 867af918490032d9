"""Uploads as pixels: they belong to a session, go with it, and all sessions share one budget."""

from __future__ import annotations

import gc
import importlib
import io
import weakref

import numpy as np
import pytest
from PIL import Image

from stamp_index.errors import ImageFormatError

decoded = importlib.import_module("app.decoded")


def png(value: int, side_px: int = 64) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side_px, side_px), (value, 0, 0)).save(file, "PNG")
    return file.getvalue()


def test_the_same_upload_is_opened_once():
    session = {}
    first = decoded.decode(png(1), session)
    assert first.shape == (64, 64, 3)
    assert decoded.decode(png(1), session) is first


def test_another_upload_takes_the_place_of_the_one_before():
    session = {}
    first = weakref.ref(decoded.decode(png(1), session))
    assert decoded.decode(png(2), session)[0, 0, 0] == 2
    gc.collect()
    assert first() is None


def test_pixels_go_with_their_session():
    session = {}
    pixels = weakref.ref(decoded.decode(png(3), session))
    assert pixels() is not None
    session.clear()
    gc.collect()
    assert pixels() is None


def test_two_sessions_with_the_same_file_share_nothing():
    assert decoded.decode(png(4), {}) is not decoded.decode(png(4), {})


def test_where_all_sessions_hold_too_much_the_one_used_longest_ago_is_opened_again(monkeypatch):
    one = 64 * 64 * 3
    monkeypatch.setattr(decoded, "MAX_BYTES", 2 * one)
    sessions = [{}, {}, {}]
    first, second = (decoded.decode(png(at), sessions[at]) for at in (0, 1))
    assert decoded.decode(png(0), sessions[0]) is first  # used again: the second is older now
    decoded.decode(png(2), sessions[2])
    assert decoded.decode(png(0), sessions[0]) is first
    again = decoded.decode(png(1), sessions[1])
    assert again is not second
    np.testing.assert_array_equal(again, second)


def test_a_picture_above_the_whole_budget_is_still_answered(monkeypatch):
    monkeypatch.setattr(decoded, "MAX_BYTES", 10)
    session = {}
    pixels = decoded.decode(png(5), session)
    assert decoded.decode(png(5), session) is pixels


def test_what_is_not_a_picture_leaves_the_one_before_out_of_memory():
    session = {}
    before = weakref.ref(decoded.decode(png(6), session))
    with pytest.raises(ImageFormatError):
        decoded.decode(b"not a picture", session)
    gc.collect()
    assert before() is None
