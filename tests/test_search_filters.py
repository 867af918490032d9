"""Filters: their text, what they let pass, and how they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stamp_index.errors import QueryError
from stamp_index.search import Filters, parse_filters
from tests.support import toy_slide, toy_slides, toy_store

values = st.lists(st.text(max_size=12), max_size=3).map(tuple)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return toy_store(tmp_path_factory.mktemp("filters"), n_slides=4, n_spots=12)


@given(st.builds(Filters, values, values, values, values, values))
def test_text_of_filters_is_read_as_the_same_filters(filters):
    assert parse_filters(filters.text) == filters


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", Filters(), id="empty"),
        pytest.param(" ; \n ;", Filters(), id="separators only"),
        pytest.param(
            "organ=breast,skin; patient!=P1",
            Filters(organs=("breast", "skin"), exclude_patients=("P1",)),
            id="of the contract",
        ),
        pytest.param(
            "ORGAN = lymph node , skin\nslide!=S1",
            Filters(organs=("lymph node", "skin"), exclude_slides=("S1",)),
            id="spaces, case, line end",
        ),
        pytest.param("slide=S1; slide=S2,S1", Filters(slides=("S1", "S2")), id="said twice"),
        pytest.param('slide="a, ""b"";c"', Filters(slides=('a, "b";c',)), id="quoted"),
        pytest.param("slide=a=b", Filters(slides=("a=b",)), id="equals sign in a value"),
        pytest.param("patient=P1;", Filters(patients=("P1",)), id="separator at the end"),
    ],
)
def test_filters_are_read_from_text(text, expected):
    assert parse_filters(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("breast", "Cannot read 'breast'", id="no field"),
        pytest.param("tissue=breast", "no filter 'tissue='", id="unknown field"),
        pytest.param("organ!=skin", "no filter 'organ!='", id="organ cannot be excluded"),
        pytest.param("organ=", "value is missing", id="nothing"),
        pytest.param("organ=breast,;", "value is missing", id="nothing after a comma"),
        pytest.param('slide="S1', "Cannot read '\"S1'", id="quote not closed"),
        pytest.param('slide="S1"x', "Cannot read '\"S1\"x'", id="text after a quote"),
    ],
)
def test_filter_that_cannot_be_read_is_quoted(text, message):
    with pytest.raises(QueryError, match=message):
        parse_filters(text)


@pytest.mark.parametrize(
    ("filters", "slides"),
    [
        (Filters(), {"S1", "S2", "S3", "S4"}),
        (Filters(organs=("skin",)), {"S3", "S4"}),
        (Filters(organs=("skin", "breast"), slides=("S2", "S3")), {"S2", "S3"}),
        (Filters(patients=("P1",), exclude_slides=("S1",)), {"S2"}),
        (Filters(exclude_patients=("P1",)), {"S3", "S4"}),
        (Filters(patients=("P1",), organs=("skin",)), set()),
    ],
)
def test_mask_is_what_a_loop_over_spots_gives(store, filters, slides):
    expected = [slide_id in slides for slide_id in store.spots()["slide_id"]]
    mask = filters.mask(store)
    assert mask.dtype == np.bool_
    assert mask.tolist() == expected


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        (Filters(organs=("lung",)), "organ 'lung'.*It has breast, skin"),
        (Filters(slides=("S1", "S9")), "slide_id 'S9'.*It has S1, S2, S3, S4"),
        (Filters(exclude_patients=("P7",)), "patient_id 'P7'.*It has P1, P2"),
    ],
)
def test_value_that_is_not_in_the_store_is_refused_with_what_is(store, filters, message):
    with pytest.raises(QueryError, match=message):
        filters.mask(store)


def test_slides_without_organ_are_not_listed_as_a_value(tmp_path):
    slides = [toy_slides(1, 12)[0], toy_slide("S2", 12, 5, organ="")]
    store = toy_store(tmp_path, slides=slides)
    with pytest.raises(QueryError, match="It has breast. Correct"):
        Filters(organs=("",)).mask(store)


def test_single_string_is_no_list_of_values():
    with pytest.raises(TypeError, match="organs is 'breast'"):
        Filters(organs="breast")
    with pytest.raises(TypeError, match=r"slides is \(1,\)"):
        Filters(slides=(1,))


def test_filters_are_true_where_they_filter():
    assert not Filters()
    assert Filters(exclude_slides=("S1",))
    assert Filters(organs=["skin"]) == Filters(organs=("skin", "skin"))
