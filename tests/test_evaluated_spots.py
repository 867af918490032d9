"""Spots and splits of evaluations: in order of patients, and no patient on both sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.split import make_split, split_by_patient, split_of_encoder
from stamp_index.evaluate.spots import read_spots, surroundings_um
from tests.plain_world import mixed_store
from tests.probe_world import random_world
from tests.support import toy_slide, toy_store

SLIDES = pd.DataFrame(
    {"slide_id": ["a1", "a2", "b1", "c1", "u1"], "patient_id": ["A", "A", "B", "C", ""]}
)


def test_spots_come_by_patient_then_slide_with_vectors_of_unit_length(tmp_path):
    store = random_world(tmp_path, n_slides=4, n=20, n_patients=2)
    spots = read_spots(store, ["image", "gene"])
    table = store.spots(["slide_id", "patient_id", "x_um", "y_um"], spots.rows)
    assert len(spots) == 80
    assert list(np.array(spots.slide_ids)[spots.slide]) == table["slide_id"].tolist()
    assert list(np.array(spots.patient_ids)[spots.patient]) == table["patient_id"].tolist()
    assert (np.diff(spots.patient) >= 0).all()
    assert (np.diff(spots.slide) >= 0).all()
    np.testing.assert_array_equal(spots.xy_um, table[["x_um", "y_um"]])
    for side in ("image", "gene"):
        wanted = store.vectors(side, spots.rows).astype(np.float32)
        wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
        np.testing.assert_array_equal(spots.vectors[side], wanted)
    first = spots.of_slides(spots.slide_ids[1:2])
    assert set(first.slide.tolist()) == {1}
    assert len(first) == 20


def test_spots_that_lack_an_embedding_are_left_out_and_plain_slides_alone_are_refused(tmp_path):
    store, _, _ = mixed_store(tmp_path)
    slides = store.slides()
    plain = slides.loc[slides["n_genes"] == 0, "slide_id"].tolist()
    measured = slides.loc[slides["n_genes"] > 0, "slide_id"].tolist()
    assert plain
    assert measured
    assert set(read_spots(store, ["image", "gene"]).slide_ids) == set(measured)
    assert set(read_spots(store, ["image"]).slide_ids) == {*plain, *measured}
    with pytest.raises(EvaluationError, match="no gene profiles"):
        read_spots(store, ["gene"], plain)


def test_slides_that_are_not_there_are_named(tmp_path):
    store = random_world(tmp_path, n_slides=2, n=10)
    with pytest.raises(EvaluationError, match="no slide nowhere"):
        read_spots(store, ["image"], ["nowhere"])


def test_slides_of_unknown_patients_are_patients_of_their_own(tmp_path):
    slides = [toy_slide(f"S{at}", 10, seed=at, patient_id="") for at in range(2)]
    spots = read_spots(toy_store(tmp_path / "unknown", slides=slides), ["image"])
    assert spots.patient_ids == ("[S0]", "[S1]")


def test_a_split_by_patient_keeps_patients_whole_and_leaves_out_the_unknown():
    split = split_by_patient(SLIDES, ["B"])
    assert (split.by, split.train, split.test) == ("patient", ("a1", "a2", "c1"), ("b1",))
    assert split.taught == ("A", "C")
    assert split.hash == make_split(SLIDES, ["c1", "a2", "a1"], ["b1"]).hash
    assert split.hash != split_by_patient(SLIDES, ["C"]).hash
    assert split.to_dict()["hash"] == split.hash


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [
        (["a1"], ["a2"], "Patient A is on both sides"),
        (["a1"], ["a1"], "Slide a1 is learnt from and tested"),
        (["a1"], [], "tests no slide"),
        (["a1"], ["zz"], "no slide zz"),
    ],
)
def test_splits_that_leak_or_test_nothing_are_refused(train, test, words):
    with pytest.raises(EvaluationError, match=words):
        make_split(SLIDES, train, test)


def test_a_patient_on_both_sides_is_allowed_where_it_is_said():
    split = make_split(SLIDES, ["a1"], ["a2", "b1"], by="section")
    assert split.by == "section"
    assert split.taught == ("A",)


@pytest.mark.parametrize("patient", ["Z", ""])
def test_patients_that_are_not_there_are_refused(patient):
    with pytest.raises(EvaluationError, match="There is no patient"):
        split_by_patient(SLIDES, [patient])


def test_a_store_without_its_encoder_tests_every_slide(tmp_path):
    store = random_world(tmp_path, n_slides=3, n=10)
    split = split_of_encoder(store)
    assert split.train == ()
    assert set(split.test) == set(store.slides()["slide_id"])


def test_surroundings_hold_the_first_ring_of_neighbours(tmp_path):
    store = random_world(tmp_path, n_slides=2, n=30)  # a grid
    spots = read_spots(store, ())
    away = np.linalg.norm(spots.xy_um[:, None] - spots.xy_um[None], axis=2)[spots.slide == 0]
    pitch = np.sort(away[:, spots.slide == 0], axis=1)[:, 1].min()
    radius = surroundings_um(spots)
    assert np.sqrt(2) * pitch < radius < 2 * pitch
    assert surroundings_um(replace(spots, xy_um=np.full_like(spots.xy_um, np.nan))) is None
