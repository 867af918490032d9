"""Metrics of predicted expression against scipy, and moments against whole predictions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from stamp_index.evaluate.expression import (
    mse_per_gene,
    relative_variance_distance,
    spearman_per_gene,
    summarise_genes,
)
from stamp_index.evaluate.expression.moments import (
    pooled_mse,
    pooled_pearson,
    slide_moments,
    slide_pearson,
)
from stamp_index.evaluate.metrics import pearson_per_gene


def _pair(n, g, seed, ties=False):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, g)), rng.normal(size=(n, g))
    y = y + 0.5 * x
    return (np.round(x), np.round(y)) if ties else (x, y)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_correlations_and_errors_equal_scipys_gene_by_gene(dtype, ties):
    x, y = (side.astype(dtype) for side in _pair(40, 7, 0, ties))
    wide = x.astype(np.float64), y.astype(np.float64)
    for gene in range(7):
        a, b = wide[0][:, gene], wide[1][:, gene]
        assert pearson_per_gene(x, y)[gene] == pytest.approx(pearsonr(a, b)[0], abs=1e-9)
        assert spearman_per_gene(x, y)[gene] == pytest.approx(spearmanr(a, b)[0], abs=1e-9)
        assert mse_per_gene(x, y)[gene] == pytest.approx(((a - b) ** 2).mean(), abs=1e-9)
        ratio = (a.var() - b.var()) / b.var()
        assert relative_variance_distance(x, y)[gene] == pytest.approx(ratio**2, abs=1e-9)


@given(
    st.floats(-1e6, 1e6, allow_subnormal=False),
    st.integers(2, 60),
    st.sampled_from([np.float32, np.float64]),
)
def test_what_is_constant_correlates_with_nothing_however_it_is_rounded(value, n, dtype):
    constant = np.full((n, 1), value, dtype)
    other = np.arange(n, dtype=dtype)[:, None]
    for measure in (pearson_per_gene, spearman_per_gene):
        assert np.isnan(measure(constant, other)).all()
        assert np.isnan(measure(other, constant)).all()
    # A prediction that is constant tells nothing; of a gene that is, nothing can be told.
    for predicted, measured, found in ((constant, other, 0.0), (other, constant, np.nan)):
        whole = pooled_pearson(slide_moments(predicted, measured)[None])
        np.testing.assert_array_equal(whole, [found])
        halves = [
            slide_moments(predicted[part], measured[part]) for part in (slice(1), slice(1, None))
        ]
        np.testing.assert_array_equal(pooled_pearson(np.stack(halves)), [found])


def test_what_differs_by_rounding_alone_is_constant_on_a_slide():
    rng = np.random.default_rng(0)
    values = rng.gamma(1.0, size=50)
    same = np.array([values[rng.permutation(50)].mean() for _ in range(30)])[:, None]
    assert np.ptp(same) > 0
    found = slide_moments(same, rng.normal(size=(30, 1)))
    assert pooled_pearson(found[None]).tolist() == [0.0]


def test_a_constant_prediction_lacks_all_variance_and_a_constant_gene_has_no_ratio():
    x, y = np.column_stack([np.ones(4), np.arange(4)]), np.column_stack([np.arange(4), np.ones(4)])
    found = relative_variance_distance(x, y)
    assert found[0] == 1.0
    assert np.isnan(found[1])


def test_a_summary_counts_the_genes_without_a_value():
    found = summarise_genes(np.array([0.2, np.nan, 0.6, 0.1]))
    assert (found.n_genes, found.n_constant) == (4, 1)
    assert found.mean == pytest.approx(0.3)
    assert found.median == pytest.approx(0.2)
    nothing = summarise_genes(np.array([np.nan, np.nan]))
    assert np.isnan([nothing.mean, nothing.median]).all()
    assert nothing.n_constant == 2


@pytest.mark.parametrize(
    ("x", "y"), [((3, 2), (3, 3)), ((0, 2), (0, 2)), ((3,), (3,))], ids=["genes", "none", "flat"]
)
@pytest.mark.parametrize("measure", [mse_per_gene, spearman_per_gene, relative_variance_distance])
def test_arrays_of_other_shapes_are_refused(measure, x, y):
    with pytest.raises(ValueError, match="expected one"):
        measure(np.zeros(x), np.zeros(y))


@given(st.integers(0, 10_000), st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_moments_of_slides_give_what_all_their_spots_together_give(seed, sizes):
    rng = np.random.default_rng(seed)
    slides = [
        (rng.normal(size=(n, 3)) + 1e3 * rng.normal(), rng.normal(size=(n, 3)) - 50) for n in sizes
    ]
    moments = np.stack([slide_moments(*pair) for pair in slides])
    x, y = (np.concatenate([pair[side] for pair in slides]) for side in (0, 1))
    np.testing.assert_allclose(pooled_pearson(moments), pearson_per_gene(x, y), atol=1e-9)
    np.testing.assert_allclose(pooled_mse(moments), mse_per_gene(x, y), rtol=1e-9)
    for found, pair in zip(slide_pearson(moments), slides, strict=True):
        np.testing.assert_allclose(found, pearson_per_gene(*pair), atol=1e-9)


def test_a_gene_that_a_slide_did_not_measure_takes_no_part():
    x, y = _pair(30, 2, 3)
    y[:10, 1] = np.nan
    moments = np.stack([slide_moments(x[:10], y[:10]), slide_moments(x[10:], y[10:])])
    assert pooled_pearson(moments)[0] == pytest.approx(pearsonr(x[:, 0], y[:, 0])[0], abs=1e-9)
    assert pooled_pearson(moments)[1] == pytest.approx(pearsonr(x[10:, 1], y[10:, 1])[0], abs=1e-9)
    assert pooled_mse(moments)[1] == pytest.approx(((x[10:, 1] - y[10:, 1]) ** 2).mean())
    assert np.isnan(pooled_mse(moments[:1])[1])
    assert np.isnan(slide_pearson(moments)[0, 1])
