"""Labels of whole numbers: the same classes in the viewer, in a figure and in a probe."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some

from stamp_index.evaluate import ProbeSettings
from stamp_index.evaluate.probe.spots import find_spots
from stamp_index.export import label_values
from stamp_index.store.label_classes import MOST_NUMBERED, class_name, classes_of, is_quantity
from stamp_index.view import label_layer
from tests.support import toy_store

CLUSTERS = [None if at % 7 == 0 else at % 13 for at in range(40)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param(np.arange(MOST_NUMBERED), False, id="clusters"),
        pytest.param([0.0, 3.0, np.nan], False, id="clusters with a missing one"),
        pytest.param([-1, 5], False, id="noise and a cluster"),
        pytest.param(np.arange(MOST_NUMBERED + 1), True, id="counts"),
        pytest.param([0.0, 0.5], True, id="halves"),
        pytest.param([1.0, np.inf], True, id="infinite"),
        pytest.param([np.nan, np.nan], True, id="nothing known"),
        pytest.param([True, False], False, id="claims"),
        pytest.param(["a", None], False, id="names"),
        pytest.param(pd.array([1, 2, None], "Int64"), False, id="nullable"),
    ],
)
def test_what_is_a_quantity(values, expected):
    assert is_quantity(pd.Series(values)) is expected


@given(some.lists(some.none() | some.integers(-3, 30), min_size=1))
def test_codes_name_their_values_and_numbers_are_in_order_of_size(values):
    for held in (
        pd.Series(values, dtype="float64"),
        pd.Series([None if one is None else str(one) for one in values], dtype=object),
    ):
        codes, names = classes_of(held)
        assert [None if code < 0 else int(names[code]) for code in codes] == values
        assert [int(name) for name in names] == sorted({one for one in values if one is not None})


def test_an_order_that_categories_have_stays():
    codes, names = classes_of(pd.Series(pd.Categorical(["high", "low"], ["low", "high"])))
    assert (codes.tolist(), names) == ([1, 0], ("low", "high"))
    assert [class_name(one) for one in (3.0, 3.5, "3.0", True)] == ["3", "3.5", "3.0", "True"]


@pytest.mark.parametrize("stored", ["numbers", "text"])
def test_viewer_figure_and_probe_have_the_same_classes(tmp_path, stored):
    store = toy_store(tmp_path, n_slides=1)
    as_stored = {"numbers": float, "text": str}[stored]
    held = pd.Series([None if one is None else as_stored(one) for one in CLUSTERS])
    store.annotate("S1", "cluster", held, author="me", source="test")
    names = tuple(str(one) for one in range(13))
    layer, figure = label_layer(store, "S1", "cluster"), label_values(store, "S1", "cluster")
    assert layer.meaning.kind == "categories"
    assert layer.meaning.categories == figure.categories == names
    for codes in (layer.codes - 1.0, np.nan_to_num(figure.values, nan=-1)):
        assert [None if code < 0 else int(code) for code in codes] == CLUSTERS
    probed = find_spots(store, ProbeSettings(label="cluster"))
    assert probed.classes == names
