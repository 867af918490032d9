"""Expression predicted from hits, against loops that anybody can read."""

from __future__ import annotations

import numpy as np
import pytest

from stamp_index.errors import MissingGenesError
from stamp_index.search import Searcher, predict_expression, predict_expression_batch
from tests.support import TOY_GENES, TOY_MARKERS, ToyEncoder, toy_slide, toy_store

COLUMNS = ["gene", "mean", "sd", "low", "high", "n_measured"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two slides, of which the second did not measure CD8A."""
    fewer = tuple(gene for gene in TOY_GENES if gene != "CD8A")
    slides = [toy_slide("S1", 20, 0), toy_slide("S2", 20, 1, genes=fewer)]
    return toy_store(tmp_path_factory.mktemp("predict"), slides=slides)


def slow_prediction(scores, values, temperature):
    """Mean, sd, 10 and 90 % quantile of one gene."""
    pairs = [(np.exp(s / temperature), v) for s, v in zip(scores, values, strict=True) if v == v]
    if not pairs:
        return [np.nan] * 4
    total = sum(weight for weight, _ in pairs)
    mean = sum(weight * value for weight, value in pairs) / total
    sd = (sum(weight * (value - mean) ** 2 for weight, value in pairs) / total) ** 0.5
    quantiles = []
    for level in (0.1, 0.9):
        reached = 0.0
        for weight, value in sorted(pairs, key=lambda pair: pair[1]):
            if reached < level - 1e-12:
                quantile = value
            reached += weight / total
        quantiles.append(quantile)
    return [mean, sd, *quantiles]


@pytest.mark.parametrize("temperature", [0.05, 0.5, 100.0])
def test_prediction_is_what_a_loop_gives(store, temperature):
    rng = np.random.default_rng(0)
    rows = rng.permutation(store.n_spots)[:15]
    scores = rng.uniform(0.2, 0.9, 15)
    genes = ["CD8A", "EPCAM", "ACTB"]
    table = predict_expression((rows, scores), store, genes, temperature=temperature)
    assert list(table.columns) == COLUMNS
    assert list(table["gene"]) == genes
    values = store.expression(genes, rows).astype(float)
    expected = [slow_prediction(scores, values[:, g], temperature) for g in range(3)]
    np.testing.assert_allclose(table[["mean", "sd", "low", "high"]], expected, rtol=1e-9)
    assert list(table["n_measured"]) == [int((rows < 20).sum()), 15, 15]


def test_gene_that_no_hit_measured_is_nan_and_counted_zero(store):
    table = predict_expression(([25, 30], [0.5, 0.4]), store, ["CD8A", "EPCAM"])
    assert table[["mean", "sd", "low", "high"]].iloc[0].isna().all()
    assert table["n_measured"].tolist() == [0, 2]


def test_prediction_from_hits_names_the_domain_of_the_query(store):
    searcher = Searcher.open(store.path, encoder=ToyEncoder())
    hits = searcher.search_genes("COL1A1 high, DCN high", k=5)
    table = predict_expression(hits, store, TOY_GENES[:48]).set_index("gene")
    assert table["mean"].idxmax() in TOY_MARKERS["stroma"]
    same = predict_expression((hits.rows, hits.scores), store, TOY_GENES[:48]).set_index("gene")
    assert table.equals(same)


def test_batch_is_what_single_predictions_give(store):
    rng = np.random.default_rng(1)
    rows = np.stack([rng.permutation(store.n_spots)[:7] for _ in range(9)])
    scores = rng.uniform(-1, 1, rows.shape)
    genes = ["CD8A", "KRT8", "VIM", "ACTB"]
    matrix = store.expression(genes)
    expected = [
        predict_expression((rows[q], scores[q]), store, genes)["mean"].to_numpy() for q in range(9)
    ]
    np.testing.assert_allclose(predict_expression_batch(rows, scores, matrix), expected)
    gathered = predict_expression_batch(None, scores, matrix[rows])
    np.testing.assert_allclose(gathered, expected)


def test_batch_in_pieces_is_the_batch_at_once(monkeypatch):
    rng = np.random.default_rng(2)
    rows, scores = rng.integers(0, 30, (11, 4)), rng.uniform(0, 1, (11, 4))
    matrix = rng.normal(size=(30, 3))
    whole = predict_expression_batch(rows, scores, matrix)
    monkeypatch.setattr("stamp_index.search.predict._MAX_VALUES", 24)  # two queries at once
    assert np.array_equal(predict_expression_batch(rows, scores, matrix), whole)


def test_very_low_temperature_is_the_best_hit_that_measured_the_gene():
    expression = np.array([[[np.nan, 1.0], [3.0, 2.0], [4.0, 3.0]]])
    out = predict_expression_batch(None, [[0.9, 0.1, -0.8]], expression, temperature=1e-4)
    assert out.tolist() == [[3.0, 1.0]]


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_temperature_that_is_none_is_refused(store, temperature):
    with pytest.raises(ValueError, match=f"temperature is {temperature}"):
        predict_expression(([0], [0.5]), store, ["EPCAM"], temperature=temperature)


@pytest.mark.parametrize(
    ("rows", "scores", "shape", "message"),
    [
        pytest.param([[0, 9]], [[0.1, 0.2]], (4, 2), "Row 9 .* 0 to 3", id="row outside"),
        pytest.param([[0, -1]], [[0.1, 0.2]], (4, 2), "Row -1", id="row that means no hit"),
        pytest.param([[0]], [[0.1, 0.2]], (4, 2), r"\(1, 1\).*\(1, 2\)", id="shapes differ"),
        pytest.param([[0.0, 1.0]], [[0.1, 0.2]], (4, 2), "float64", id="rows are no integers"),
        pytest.param([0], [0.1], (4, 2), r"shape \(1,\)", id="no batch"),
        pytest.param(None, [[0.1, 0.2]], (4, 2), r"\(4, 2\).*\(1, 2\)", id="rows left out"),
        pytest.param([[0, 1]], [[0.1, np.nan]], (4, 2), "1 of 2 scores", id="nan score"),
    ],
)
def test_batch_that_does_not_fit_is_refused(rows, scores, shape, message):
    with pytest.raises(ValueError, match=message):
        predict_expression_batch(rows, scores, np.zeros(shape))


def test_prediction_that_does_not_fit_is_refused(store):
    with pytest.raises(ValueError, match=r"rows has shape \(2,\) and scores \(1,\)"):
        predict_expression(([0, 1], [0.5]), store, ["EPCAM"])
    with pytest.raises(ValueError, match="at least one row"):
        predict_expression(([], []), store, ["EPCAM"])
    with pytest.raises(MissingGenesError, match="NOPE"):
        predict_expression(([0], [0.5]), store, ["NOPE"])
