"""Outlines, views and queries in addresses."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stamp_index.addresses import (
    MAX_PX,
    app_address,
    decode_polygon,
    encode_polygon,
)
from stamp_index.errors import QueryError

places = st.integers(-MAX_PX, MAX_PX)
corners = st.lists(st.tuples(places, places), min_size=3, max_size=500)
ALL = st.characters(exclude_categories=())
UNRESERVED = set("-.0123456789")


@given(corners)
def test_an_outline_comes_back_as_it_was(polygon):
    text = encode_polygon(polygon)
    assert set(text) <= UNRESERVED
    assert decode_polygon(text).tolist() == [list(corner) for corner in polygon]


def test_an_outline_is_its_first_corner_and_then_steps():
    assert encode_polygon([[12345, 6789], [12333, 6829], [12341, 6838]]) == "12345.6789.-12.40.8.9"
    assert encode_polygon([[0.4, 0.6], [9.5, 1.0], [-1.2, 3.0]]) == "0.1.10.0.-11.2"


@given(st.text(ALL) | st.text("0123456789.-", max_size=60) | st.from_regex(r"(-?\d+\.)*-?\d+"))
def test_any_text_is_an_outline_or_refused_in_words(text):
    try:
        polygon = decode_polygon(text)
    except QueryError:
        return
    assert 3 <= len(polygon) <= 500
    assert np.abs(polygon).max() <= MAX_PX
    assert decode_polygon(encode_polygon(polygon)).tolist() == polygon.tolist()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("", "holds ''; expected whole numbers", id="empty"),
        pytest.param("1.2.3.4", "has 2 corners; expected 3 to 500", id="too_few"),
        pytest.param("1.2.3.4.5", "has 5 numbers; expected x and y", id="odd"),
        pytest.param("1.2.3.4.5.a", "holds 'a'", id="letters"),
        pytest.param("1.2.3.4.5.٣", "holds '٣'", id="other_digits"),
        pytest.param("1.2.3.4.5.1e3", "holds '1e3'", id="float"),
        pytest.param("9999999.0.9999999.0.1.1", "farther than 10,000,000 px", id="far"),
        pytest.param("1.2.3.4.5." + "9" * 5000, "holds '9999", id="huge"),
        pytest.param("1." * 1001 + "1", "has 501 corners", id="too_many"),
        pytest.param("1." * 10_000_000, "has 20,000,000 characters", id="long"),
    ],
)
def test_what_is_no_outline_is_refused_with_its_reason(text, words):
    with pytest.raises(QueryError, match=words):
        decode_polygon(text)


def test_fewer_corners_can_be_allowed():
    text = encode_polygon([[0, 0], [4, 0], [4, 4], [0, 4]])
    with pytest.raises(QueryError, match="has 4 corners; expected 3 to 3. Draw a simpler"):
        decode_polygon(text, max_vertices=3)


@pytest.mark.parametrize(
    ("polygon", "error", "words"),
    [
        ([[0, 0], [1, 1]], QueryError, "has 2 corners"),
        (np.zeros((501, 2)), QueryError, "has 501 corners"),
        ([[0, 0], [1, 1], [2e7, 0]], QueryError, "farther than"),
        ([[0, 0], [1, 1], [np.nan, 0]], ValueError, "NaN"),
        ([0, 1, 2], ValueError, r"shape \(3,\)"),
        ([["0", "1"]] * 3, ValueError, "expected numbers"),
    ],
)
def test_what_cannot_be_written_is_refused(polygon, error, words):
    with pytest.raises(error, match=words):
        encode_polygon(polygon)


@given(
    st.dictionaries(
        st.text("abcq", min_size=1),
        st.text(st.characters(exclude_categories=("Cs",)), min_size=1)
        | st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1), min_size=1),
    )
)
def test_whatever_a_page_shows_comes_back_from_its_address(state):
    address = app_address("https://host/stamp/", "image", state)
    parts = urlsplit(address)
    assert (parts.scheme, parts.netloc, parts.path) == ("https", "host", "/stamp/image")
    read = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(state))
    assert read == {name: [v] if isinstance(v, str) else v for name, v in state.items()}


def test_nothing_that_is_not_said_stands_in_an_address():
    assert app_address() == "http://127.0.0.1:8501/"
    state = {"q": "CD8A high", "k": 24, "organ": (), "slide": None, "patient": ""}
    assert app_address(state=state) == "http://127.0.0.1:8501/?q=CD8A%20high&k=24"
    assert app_address(page="a/../b?c#d").endswith("/a%2F..%2Fb%3Fc%23d")


@pytest.mark.parametrize("base", ["javascript:alert(1)", "//host", "host", "http://u:p@host", ""])
def test_an_address_that_is_not_of_the_web_is_refused(base):
    with pytest.raises(ValueError, match="expected one such as"):
        app_address(base)


@pytest.mark.parametrize("base", ["http://host/?a=b", "http://host/#here"])
def test_an_address_with_a_query_of_its_own_is_refused(base):
    with pytest.raises(ValueError, match=r"without \? and #"):
        app_address(base)
