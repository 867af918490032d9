"""Genes predicted all over a slide: every spot, or a grid of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stamp_index.errors import MissingGenesError, QueryError
from stamp_index.search import Searcher, predict_map
from stamp_index.view import predict_slide, predicted_layer
from stamp_index.view.predicted import thinned
from tests.plain_world import mixed_store
from tests.support import ToyEncoder, toy_slide, toy_store


@pytest.fixture(scope="module")
def searcher(tmp_path_factory):
    store, encoder, _ = mixed_store(tmp_path_factory.mktemp("mixed"))
    return Searcher(store, encoder)


def test_all_spots_of_a_small_slide_are_predicted_as_by_the_map(searcher):
    made = predict_slide(searcher, "W", "CD8A")
    np.testing.assert_array_equal(made.values, predict_map(searcher, "W", ["CD8A"]).values("CD8A"))
    assert made.note == "predicted, not measured"
    assert made.slides == ("M0", "M1")
    layer = predicted_layer(searcher, "W", "CD8A")
    assert len(layer.codes) == len(made.values)
    assert layer.meaning.note == made.note


def test_other_spots_of_a_large_slide_have_the_value_of_the_nearest(searcher):
    whole = predict_slide(searcher, "W", "CD8A")
    made = predict_slide(searcher, "W", "CD8A", most=20)
    xy = searcher.store.spots(["x_px", "y_px", "slide_id"])
    xy = xy[xy["slide_id"] == "W"][["x_px", "y_px"]].to_numpy()
    kept = thinned(xy, 20)
    assert made.n_predicted == len(kept) <= 20
    for spot, value in enumerate(made.values):  # slow and obvious
        away = np.hypot(*(xy[kept] - xy[spot]).T)
        nearest = kept[np.flatnonzero(away == away.min())]
        assert np.isclose(value, whole.values[nearest]).any()
    assert "at 20 of 80 spots on a grid" in made.note or str(len(kept)) in made.note


def test_spots_without_a_picture_have_no_prediction(tmp_path):
    slides = [toy_slide("S1", 20, 1), toy_slide("S2", 20, 2, image=False)]
    searcher = Searcher(toy_store(tmp_path, slides=slides), ToyEncoder())
    with pytest.raises(QueryError, match="no image embeddings"):
        predict_slide(searcher, "S2", "CD8A")
    with pytest.raises(MissingGenesError):
        predict_slide(searcher, "S1", "NOSUCH")


XY = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=300)


@given(XY, st.integers(1, 50))
def test_thinned_places_are_at_most_so_many_and_all_of_them_where_they_fit(places, most):
    xy = np.array(places, float)
    kept = thinned(xy, most)
    assert 1 <= len(kept) <= max(most, 1)
    assert len(set(kept.tolist())) == len(kept)
    if len(xy) <= most:
        assert kept.tolist() == list(range(len(xy)))


def test_thinned_places_cover_the_slide_evenly():
    x, y = np.meshgrid(np.arange(300.0), np.arange(300.0))
    xy = np.stack([x.ravel(), y.ravel()], axis=1)
    kept = xy[thinned(xy, 20_000)]
    assert 10_000 <= len(kept) <= 20_000
    per_quarter = np.histogram2d(*kept.T, bins=2)[0]
    assert per_quarter.max() < 1.1 * per_quarter.min()
