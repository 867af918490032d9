"""Closed-form maps: shrunk canonical correlation and ridge, against scikit-learn and planted signals."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from stamp_index.encoders import linear_maps
from stamp_index.encoders.linear_maps import ridge_map, shrunk_cca, shrunk_components


@pytest.fixture(scope="module")
def planted():
    """Two views (2000, 12) and (2000, 9) that share three signals of falling strength."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(2_000, 3))
    x = shared @ rng.normal(size=(3, 12)) + rng.normal(size=(2_000, 12)) * [2.0]
    y = (shared * [1.0, 0.7, 0.4]) @ rng.normal(size=(3, 9)) + rng.normal(size=(2_000, 9))
    return shared, (5 + 3 * x).astype(np.float32), y.astype(np.float32)


def _correlations(x, y):
    """Canonical correlations: singular values of the product of orthonormal bases (Bjorck & Golub)."""
    bases = [np.linalg.qr(view - view.mean(axis=0))[0] for view in (x, y)]
    return np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)


def test_without_shrinkage_scores_have_the_canonical_correlations(planted):
    _, x, y = planted
    x_map, y_map = shrunk_cca(x, y, 9, shrinkage=1e-9)
    a, b = x_map(x).astype(float), y_map(y).astype(float)
    expected = _correlations(x.astype(float), y.astype(float))
    found = [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(9)]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    # A pair's scores are uncorrelated with every other pair's, and as long as they agree.
    np.testing.assert_allclose(np.cov(a.T, bias=True), np.diag(expected**2), atol=1e-3)
    np.testing.assert_allclose(a.mean(axis=0), 0, atol=1e-3)


def test_a_planted_signal_is_recovered_with_shrinkage(planted):
    shared, x, y = planted
    for rows, fitted in zip((x, y), shrunk_cca(x, y, 3, shrinkage=1.0), strict=True):
        scores = np.c_[fitted(rows), np.ones(len(rows))]
        left = shared - scores @ np.linalg.lstsq(scores, shared, rcond=None)[0]
        assert left[:, 0].var() < 0.5 * shared[:, 0].var()
    a, b = (fitted(rows) for rows, fitted in zip((x, y), shrunk_cca(x, y, 3), strict=True))
    assert np.corrcoef(a[:, 0], b[:, 0])[0, 1] > 0.7


def test_shrinkage_fits_noise_less():
    rng = np.random.default_rng(1)
    x, y = (rng.normal(size=(60, 50)).astype(np.float32) for _ in range(2))

    def agreement(shrinkage):
        x_map, y_map = shrunk_cca(x, y, 5, shrinkage=shrinkage)
        return np.corrcoef(x_map(x)[:, 0], y_map(y)[:, 0])[0, 1]

    assert agreement(1e-6) > 0.999  # fifty columns explain sixty rows of noise
    assert agreement(10.0) < 0.95


def test_units_of_a_column_do_not_matter_to_components_and_a_constant_one_says_nothing(planted):
    _, x, _ = planted
    factor = np.logspace(-2, 3, 12).astype(np.float32)
    plain, scaled = shrunk_components(x, 5)(x), shrunk_components(x * factor, 5)(x * factor)
    np.testing.assert_allclose(np.abs(scaled), np.abs(plain), atol=2e-3)
    with_constant = np.c_[x, np.full(len(x), 7.0, np.float32)]
    fitted = shrunk_components(with_constant, 5)
    np.testing.assert_allclose(np.abs(fitted(with_constant)), np.abs(plain), atol=5e-2)


def test_leading_components_are_whitened_and_trailing_ones_keep_their_order(planted):
    _, x, _ = planted
    rows = (x - x.mean(axis=0)) / x.std(axis=0)
    variance = np.sort(np.linalg.eigvalsh(np.cov(rows.T)))[::-1]
    for shrinkage in (1e-9, 1.0, 100.0):
        found = shrunk_components(x, 12, shrinkage=shrinkage)(x).astype(float)
        expected = variance / (variance + shrinkage * variance.mean())
        expected = expected / expected.mean()
        np.testing.assert_allclose(found.var(axis=0, ddof=1), expected, rtol=1e-2)
        assert abs(np.corrcoef(found.T) - np.eye(12)).max() < 1e-3


def test_there_are_fewer_components_than_rows():
    rng = np.random.default_rng(3)
    assert shrunk_components(rng.normal(size=(6, 20)), 50).axes.shape == (20, 5)
    assert shrunk_components(rng.normal(size=(60, 20)), 50).axes.shape == (20, 20)


def test_there_are_no_more_pairs_than_columns_or_rows():
    rng = np.random.default_rng(2)
    few = shrunk_cca(rng.normal(size=(4, 10)), rng.normal(size=(4, 10)), 8)
    assert few[0].weight.shape == (10, 3)
    thin = shrunk_cca(rng.normal(size=(50, 10)), rng.normal(size=(50, 2)), 8)
    assert [fitted.weight.shape for fitted in thin] == [(10, 2), (2, 2)]


def test_ridge_takes_the_penalty_that_predicts_a_left_out_row_best(planted):
    """Against leaving out one row after the other, by hand."""
    _, x, y = (part[:40] for part in planted)
    rows = (x - x.mean(axis=0)).astype(float)
    centred = (y - y.mean(axis=0)).astype(float)
    penalties = np.logspace(-2, 2, 9) * len(x) * x.var(axis=0).mean()
    errors = []
    for penalty in penalties:
        error = 0.0
        for out in range(len(x)):
            kept = np.arange(len(x)) != out
            one = Ridge(alpha=penalty, fit_intercept=False).fit(rows[kept], centred[kept])
            error += ((one.predict(rows[[out]]) - centred[out]) ** 2).sum()
        errors.append(error)
    best = penalties[int(np.argmin(errors))]
    slow = Ridge(alpha=best, fit_intercept=False).fit(rows, centred)
    np.testing.assert_allclose(ridge_map(x, y)(x), slow.predict(rows) + y.mean(axis=0), atol=2e-4)


def test_more_rows_than_a_covariance_needs_are_thinned_evenly(monkeypatch, planted):
    _, x, y = planted
    monkeypatch.setattr(linear_maps, "_MOST_ROWS", 900)
    thinned = ridge_map(x, y)
    monkeypatch.undo()
    np.testing.assert_array_equal(thinned.weight, ridge_map(x[::3], y[::3]).weight)
