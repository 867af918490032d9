"""Backgrounds of random queries: what scores are held against."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from stamp_index.errors import AnnIndexError
from stamp_index.index import exact_search
from stamp_index.index.background import Background, background_of_rows, sample_rows
from tests.search_world import unit
from tests.support import random_store

DIM = 32


def noise(n, seed):
    return unit(np.random.default_rng(seed).normal(size=(n, DIM)))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Embeddings that are noise, of 8 patients with a slide each."""
    folder = tmp_path_factory.mktemp("background")
    return random_store(folder, noise(4_000, 0), noise(4_000, 1), n_slides=8)


def search_in(store, asked=None):
    vectors = store.vectors("image")

    def search(queries, allowed):
        if asked is not None:
            asked.append((queries, allowed))
        return exact_search(vectors, queries, 2, allowed=allowed)

    return search


@pytest.fixture(scope="module")
def background(store):
    has_vector = store.has_vector("image")
    sample = store.vectors("image", sample_rows(has_vector, 1_024, seed=0))
    return background_of_rows(
        store, "gene", sample, searched=has_vector, search=search_in(store), seed=0
    )


def test_noise_that_asks_like_the_background_has_uniform_percentiles(store, background):
    scores, _ = exact_search(store.vectors("image"), noise(1_000, 5), 1)
    percentiles = background.percentiles(scores[:, 0])
    assert len(background.best) == 256
    # Samples of 256 and of 1,000 from one distribution differ by more once in 10,000 times.
    assert stats.kstest(percentiles, "uniform").statistic < 0.156


def test_planted_match_stands_out_and_its_z_says_by_how_much(store, background):
    query = store.vectors("image", [77]).astype(np.float32)
    scores, rows = exact_search(store.vectors("image"), query, 2)
    assert rows[0, 0] == 77
    assert background.percentiles(scores[0]).tolist()[0] == 1.0
    assert background.percentiles(scores[0, 1]) < 1.0
    z = background.z_scores(query, scores)[0]
    assert z[0] > 5 > z[1] > 2  # chance: cosines of noise have a spread of 1 / sqrt(32)


def test_query_that_fits_nothing_is_below_all(background):
    assert background.percentiles([-0.2, 0.0]).tolist() == [0.0, 0.0]
    assert np.isnan(background.percentiles([np.nan, 0.9])).tolist() == [True, False]


def test_z_is_that_of_a_slow_loop(background):
    queries, scores = noise(3, 9), np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    found = background.z_scores(queries, scores)
    for i, query in enumerate(queries):
        usual = [float(row.astype(np.float64) @ query) for row in background.sample]
        slow = (scores[i] - np.mean(usual)) / np.std(usual)
        np.testing.assert_allclose(found[i], slow, rtol=2e-4, atol=1e-4)


def test_sample_of_rows_that_are_all_alike_has_no_infinite_z():
    background = Background.compute(np.ones((4, 2), np.float16) / np.sqrt(2))
    z = background.z_scores(np.array([[1, 0]], np.float32), np.array([[0.5]], np.float32))
    assert np.isfinite(z).all()


def test_background_queries_find_nothing_of_their_own_patient(tmp_path):
    store = random_store(tmp_path, noise(300, 0), noise(300, 1), n_slides=3)
    asked, has = [], store.has_vector("image")
    sample = store.vectors("image", sample_rows(has, 50, seed=0))
    made = background_of_rows(
        store, "image", sample, searched=has, search=search_in(store, asked), seed=3
    )
    slide_of = np.repeat(["S1", "S2", "S3"], 100)
    best = []
    for queries, allowed in asked:
        left_out = set(slide_of[~allowed])
        assert len(left_out) == 1
        for query in queries:
            truth = store.vectors("image").astype(np.float64) @ query
            own = int(truth.argmax())
            assert slide_of[own] in left_out
            best.append(truth[allowed].max())
    np.testing.assert_allclose(made.best, np.sort(best), atol=1e-6)


def test_store_of_one_patient_asks_with_everything_but_the_row_itself(tmp_path):
    store = random_store(tmp_path, noise(60, 0), noise(60, 1), n_slides=1)
    has = store.has_vector("image")
    made = background_of_rows(
        store, "image", store.vectors("image"), searched=has, search=search_in(store), seed=0
    )
    truth = store.vectors("image").astype(np.float64)
    truth = unit(truth) @ truth.T
    np.fill_diagonal(truth, -1)
    np.testing.assert_allclose(made.best, np.sort(truth.max(axis=1)), atol=1e-6)


def test_same_seed_gives_the_same_background(store, background):
    again = background_of_rows(
        store,
        "gene",
        background.sample,
        searched=store.has_vector("image"),
        search=search_in(store),
        seed=0,
    )
    np.testing.assert_array_equal(again.best, background.best)


# ---- files ---------------------------------------------------------------------------------------


def test_background_survives_a_file_without_pickle(background, tmp_path):
    path = tmp_path / "image.npz"
    background.save(path)
    again = Background.load(path)
    np.testing.assert_array_equal(again.best, background.best)
    np.testing.assert_array_equal(again.sample, background.sample)
    assert again.sample.dtype == np.float16
    with np.load(path, allow_pickle=False) as arrays:
        assert sorted(arrays) == ["best", "sample"]


def test_damaged_files_are_refused_with_their_path(background, tmp_path):
    path = tmp_path / "b.npz"
    with pytest.raises(AnnIndexError, match=r"b\.npz cannot be read"):
        Background.load(path)
    background.save(path)
    whole = path.read_bytes()
    for damaged in (b"", b"none", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(AnnIndexError, match=r"b\.npz cannot be read.*Build the index again"):
            Background.load(path)
    for arrays in ({"sample": np.ones((3, 2))}, {"sample": np.ones(3), "best": np.ones(2)}):
        np.savez(path, **arrays)
        with pytest.raises(AnnIndexError, match=r"b\.npz"):
            Background.load(path)
    np.savez(path, sample=np.array([{"a": 1}], object), best=np.ones(2))
    with pytest.raises(AnnIndexError, match="cannot be read"):
        Background.load(path)


@pytest.mark.parametrize(
    ("sample", "best", "message"),
    [
        (np.ones((1, 4)), None, r"\(1, 4\)"),
        (np.ones(4), None, r"\(4,\)"),
        (np.ones((3, 4)), np.ones((2, 2)), r"\(2, 2\)"),
        (np.ones((3, 4)), np.array([0.5, np.nan]), "all scores finite"),
    ],
)
def test_what_is_no_background_is_refused(sample, best, message):
    with pytest.raises(ValueError, match=message):
        Background.compute(sample, best)


def test_without_queries_nothing_is_known():
    background = Background.compute(noise(5, 0))
    assert np.isnan(background.percentiles([0.1, 0.9])).all()
