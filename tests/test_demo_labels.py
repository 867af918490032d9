"""The demo's label: the tissue that was planted in each spot, said once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from stamp_index.demo import LABEL, label_domains
from stamp_index.errors import SlideError
from stamp_index.phantom import load_truth, make_phantom_slide
from stamp_index.readers import read
from stamp_index.store import EncoderCard, SlideRows, Store
from tests.support import toy_slide


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    return read(make_phantom_slide(tmp_path_factory.mktemp("phantom"), spots_per_slide=60))


def store_of(folder, slide):
    """A store of a slide with some vectors."""
    card = EncoderCard("vec", "0f0f", 4, 112.0, 224, 336.0, "none")
    store = Store.create(folder / "store", card)
    vectors = np.tile(np.float32([1, 0, 0, 0]), (slide.n_spots, 1))
    store.add(SlideRows(slide, None, vectors, None, None, card.fingerprint))
    return store


def test_every_spot_has_the_domain_that_was_planted_there(slide, tmp_path):
    store = store_of(tmp_path, slide)
    assert label_domains(store, [slide]) == [slide.slide_id]
    truth = load_truth(slide.source)
    planted = dict(zip(truth["barcode"], truth["domain"], strict=True))
    spots = store.spots(["spot_id"])["spot_id"]
    expected = [planted[spot.split(":")[1]] for spot in spots]
    assert store.label(LABEL).tolist() == expected
    assert len(set(expected)) > 2


def test_a_second_time_changes_nothing(slide, tmp_path):
    store = store_of(tmp_path, slide)
    label_domains(store, [slide])
    version = store.version
    assert label_domains(store, [slide]) == []
    assert store.version == version


def test_a_label_that_was_half_there_is_made_whole(slide, tmp_path):
    store = store_of(tmp_path, slide)
    some = ["fat"] + [None] * (slide.n_spots - 1)
    store.annotate(slide.slide_id, LABEL, some, author="phantom")
    assert label_domains(store, [slide]) == [slide.slide_id]
    assert not pd.isna(store.label(LABEL)).any()


def test_slide_without_planted_truth_is_refused(tmp_path):
    other = toy_slide("S1", 10, 0)
    with pytest.raises(SlideError, match="planted truth"):
        label_domains(store_of_toy(tmp_path, other), [other])


def store_of_toy(folder, slide):
    """The toy slide comes with a label of its own, which is left out."""
    from dataclasses import replace

    return store_of(folder, replace(slide, spots=slide.spots[["x_px", "y_px"]]))
