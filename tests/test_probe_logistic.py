"""Logistic regression for many spots: scikit-learn's optimum, whatever the features and classes are like."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from stamp_index.errors import MissingGenesError
from stamp_index.evaluate import ProbeCancelled, ProbeError, ProbeSettings, run_probe
from stamp_index.evaluate.probe import (
    ClassTask,
    LogisticProblem,
    Places,
    few_shot,
    logistic,
    passes,
    plan_folds,
    run_gene_probes,
    tasks,
)
from stamp_index.store import EncoderCard, SlideRows, Store
from tests.probe_world import probe_slide, random_world, unit


def _case(seed, n=300, d=12, n_classes=3, *, correlated=True, signal=1.0):
    """Overlapping classes, with features that are unlike in scale and not centred."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % n_classes).astype(np.int64)
    x = signal * rng.normal(size=(n_classes, d))[y] + rng.normal(size=(n, d))
    if correlated:
        x = x @ rng.normal(size=(d, d)) + rng.normal(size=d)
    return x.astype(np.float32), y


def _loss(x, y, C, weights, intercept):
    """Objective in double precision, as it is written."""
    logits = x.astype(np.float64) @ weights.astype(np.float64).T + intercept
    if len(weights) == 1:
        logits = np.hstack([np.zeros_like(logits), logits])
    nll = -log_softmax(logits, axis=1)[np.arange(len(y)), np.unique(y, return_inverse=True)[1]]
    return 0.5 * (weights.astype(np.float64) ** 2).sum() + C * nll.sum()


def _optimum(x, y, C):
    """scikit-learn's, to the end of double precision."""
    return LogisticRegression(C=C, tol=1e-9, max_iter=100_000).fit(x.astype(np.float64), y)


@pytest.mark.parametrize("C", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_weights_loss_and_probabilities_are_scikit_learns(C, n_classes):
    x, y = _case(n_classes, n_classes=n_classes)
    plain = _optimum(x, y, C)
    fit = LogisticProblem(x, y).fit(C, tol=1e-9)
    assert fit.converged
    assert fit.weights.shape == plain.coef_.shape
    best = _loss(x, y, C, plain.coef_, plain.intercept_)
    assert fit.loss == pytest.approx(_loss(x, y, C, fit.weights, fit.intercept), rel=1e-5)
    # Features far from centred and nearly dependent: products in single precision end near 3e-5.
    assert _loss(x, y, C, fit.weights, fit.intercept) == pytest.approx(best, rel=5e-5)
    size = abs(plain.coef_).max()
    np.testing.assert_allclose(fit.weights, plain.coef_, atol=0.01 * size)
    np.testing.assert_allclose(fit.probabilities(x), plain.predict_proba(x), atol=5e-3)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(4, 80),
    d=st.integers(1, 9),
    n_classes=st.integers(2, 4),
    power=st.integers(-4, 4),
)
def test_the_loss_is_within_a_ten_thousandth_of_the_optimum(seed, n, d, n_classes, power):
    x, y = _case(seed, n=n, d=d, n_classes=n_classes)
    C = 10.0**power
    fit = LogisticProblem(x, y).fit(C)
    plain = _optimum(x, y, C)
    best = _loss(x, y, C, plain.coef_, plain.intercept_)
    assert _loss(x, y, C, fit.weights, fit.intercept) <= best * (1 + 1e-4) + 1e-9


def _separable():
    y = np.repeat([0, 1, 2], 50)
    rng = np.random.default_rng(0)
    return (np.eye(3)[y] * 20 + rng.normal(size=(150, 3))).astype(np.float32), y


def _imbalanced():
    x, y = _case(5, n=3000, n_classes=3)
    keep = (y == 0) | (np.arange(3000) % 100 < 2)
    return x[keep], y[keep]


def _repeated():
    x, y = _case(6)
    return np.hstack([x, x, x[:, :1]]), y


def _constant():
    x, y = _case(7)
    return np.hstack([x, np.full((len(x), 1), 3.0, np.float32)]), y


def _offset():
    x, y = _case(8, correlated=False)
    return x + np.float32(30.0), y


def _one_feature():
    return _case(9, d=1)


def _wide():
    return _case(10, n=30, d=100, correlated=False)


@pytest.mark.parametrize("C", [0.01, 1.0, 1e4])
@pytest.mark.parametrize(
    "case", [_separable, _imbalanced, _repeated, _constant, _offset, _one_feature, _wide]
)
def test_awkward_cases_reach_the_optimum_too(case, C):
    x, y = case()
    fit = LogisticProblem(x, y).fit(C)
    plain = _optimum(x, y, C)
    best = _loss(x, y, C, plain.coef_, plain.intercept_)
    assert fit.converged
    assert _loss(x, y, C, fit.weights, fit.intercept) <= best * (1 + 1e-4)


def test_a_start_on_part_of_the_rows_saves_passes_and_ends_at_the_same_optimum(monkeypatch):
    x, y = _case(1, n=20_000, d=20, n_classes=4, signal=0.3)
    with_start = LogisticProblem(x, y).fit(1.0)
    monkeypatch.setattr(logistic, "_START_ROWS_PER_WEIGHT", 10**9)
    without = LogisticProblem(x, y).fit(1.0)
    assert with_start.n_passes < without.n_passes
    assert with_start.loss == pytest.approx(without.loss, rel=1e-5)


def test_a_start_from_a_smaller_c_saves_passes_and_ends_at_the_same_optimum():
    x, y = _case(2, n=2000, d=30, n_classes=4)
    problem = LogisticProblem(x, y)
    cold = problem.fit(1.0)
    warm = problem.fit(1.0, start=problem.fit(0.1))
    assert warm.loss == pytest.approx(cold.loss, rel=1e-5)
    assert warm.n_passes < cold.n_passes


def test_fits_are_the_same_again_and_blocks_change_nothing_that_counts(monkeypatch):
    x, y = _case(3, n=1000)
    fit, again = (LogisticProblem(x, y).fit(1.0) for _ in range(2))
    np.testing.assert_array_equal(fit.weights, again.weights)
    assert fit.loss == again.loss
    monkeypatch.setattr(passes, "_BLOCK", 7)
    assert LogisticProblem(x, y).fit(1.0).loss == pytest.approx(fit.loss, rel=1e-5)


def test_the_gradient_is_the_slope_of_the_loss():
    for n_classes in (2, 4):
        x, y = _case(4, n=50, d=5, n_classes=n_classes)
        rows = passes.Passes(x, y, n_classes, device="cpu", pause=lambda: None)
        rng = np.random.default_rng(0)
        w, b = 0.1 * rng.normal(size=(rows.n_rows, 5)), rng.normal(size=rows.n_rows)
        dw, db = rng.normal(size=w.shape), rng.normal(size=b.shape)
        _, by_w, by_b = rows.loss(w, b)
        h = 1e-2
        up, down = rows.loss(w + h * dw, b + h * db)[0], rows.loss(w - h * dw, b - h * db)[0]
        assert (up - down) / (2 * h) == pytest.approx((by_w * dw).sum() + by_b @ db, rel=1e-2)


def test_nearly_certain_rows_keep_their_small_loss():
    x = np.array([[30.0], [-30.0], [0.0]], np.float32)
    y = np.array([0, 1, 2])
    rows = passes.Passes(x, y, 3, device="cpu", pause=lambda: None)
    weights, intercept = np.array([[1.0], [-1.0], [0.0]]), np.array([0.0, 0.0, 30.0])
    exact = _loss(x, y, 1.0, weights, intercept) - 0.5 * (weights**2).sum()
    assert rows.loss(weights, intercept)[0] == pytest.approx(exact, rel=1e-5)
    two = passes.Passes(x[:2], y[:2], 2, device="cpu", pause=lambda: None)
    loss = two.loss(np.array([[-1.0]]), np.zeros(1))[0]
    assert loss == pytest.approx(2 * np.log1p(np.exp(-30.0)), rel=1e-5)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.zeros((3, 2), np.float32), np.zeros(3, int), "of one class"),
        (np.zeros((3, 2), np.float32), np.array([0, 1]), r"\(3, 2\) and classes \(2,\)"),
        (np.zeros(3, np.float32), np.array([0, 1, 1]), "features \\(n, d\\)"),
        (np.zeros((2, 2)), np.array([0, 1]), "float64; give float32"),
        (np.array([[np.nan], [0]], np.float32), np.array([0, 1]), "not finite"),
        (np.array([[np.inf], [-np.inf]], np.float32), np.array([0, 1]), "not finite"),
    ],
)
def test_problems_without_an_answer_are_refused(x, y, words):
    with pytest.raises(ValueError, match=words), np.errstate(invalid="ignore"):
        LogisticProblem(x, y)


def test_a_penalty_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="C is 0; it must be above 0"):
        LogisticProblem(*_case(0)).fit(0)


def test_a_fit_that_does_not_end_says_so():
    fit = LogisticProblem(*_case(0)).fit(100.0, max_iterations=2)
    assert not fit.converged


def test_it_pauses_within_a_pass_and_what_pause_raises_ends_it(monkeypatch):
    x, y = _case(0, n=500)
    monkeypatch.setattr(passes, "_BLOCK", 100)
    monkeypatch.setattr(passes, "_WORK_PER_PAUSE", 200 * x.shape[1] * 3)
    calls = []
    fit = LogisticProblem(x, y, pause=lambda: calls.append(1)).fit()
    assert len(calls) > 2 * fit.n_passes

    def stop():
        calls.append(1)
        if len(calls) == 10:
            raise ProbeCancelled

    calls.clear()
    with pytest.raises(ProbeCancelled):
        LogisticProblem(x, y, pause=stop).fit()
    assert len(calls) == 10


def test_a_probe_of_many_spots_uses_it_and_finds_what_scikit_learn_finds(monkeypatch, tmp_path):
    store = random_world(tmp_path)
    settings = ProbeSettings(label="region", features="both")
    few = run_probe(store, settings)
    monkeypatch.setattr(tasks, "MANY_SPOTS", 0)
    many = run_probe(store, settings)
    assert [one.C for one in many.folds] == [one.C for one in few.folds]
    assert all(one.converged for one in many.folds)
    np.testing.assert_allclose(many.predictions.output, few.predictions.output, atol=5e-3)
    assert not np.array_equal(many.predictions.output, few.predictions.output)
    assert run_probe(store, settings).to_json() == many.to_json()


def test_a_class_that_the_training_rows_lack_has_probability_zero(monkeypatch):
    monkeypatch.setattr(tasks, "MANY_SPOTS", 0)
    x, y = _case(0, n_classes=3)
    for kept, lost in (([0, 2], 1), ([1, 2], 0)):
        use = np.isin(y, kept)
        (fit,) = ClassTask(3).fits(x[use], y[use], (1.0,), lambda: None)
        said = fit.predict(x)
        assert (said[:, lost] == 0).all()
        plain = _optimum(x[use], y[use], 1.0).predict_proba(x)
        np.testing.assert_allclose(said[:, kept], plain, atol=5e-3)


def _image_only_slides(folder, n_slides, n_measured):
    """Slides of which all but the first few have image embeddings and no counts."""
    rng = np.random.default_rng(0)
    card = EncoderCard("vec", "0f0f", 4, 112.0, 224, 336.0, "none")
    store = Store.create(folder / "store", card)
    for at in range(n_slides):
        with_genes = at < n_measured
        genes = ("CD8A", "ACTB") if with_genes else ()
        patient, kinds = f"P{at}", ["a", "b"] * 10
        counts = rng.poisson(5.0, (20, len(genes)))
        slide = probe_slide(f"S{at}", kinds, patient=patient, genes=genes, counts=counts)
        image, gene = unit(rng.normal(size=(20, 4))), unit(rng.normal(size=(20, 4)))
        row = SlideRows(slide, image, gene if with_genes else None, None, None, card.fingerprint)
        store.add(row)
    return store


def test_image_only_slides_are_left_out_or_refused_where_gene_embeddings_are_asked_for(tmp_path):
    (tmp_path / "some").mkdir()
    (tmp_path / "none").mkdir()
    some = _image_only_slides(tmp_path / "some", 3, 2)
    asked = ProbeSettings(label="region", features="gene", C=1.0)
    note = "20 of 60 spots were left out: they have no gene embeddings of encoder 'vec'."
    assert note in run_probe(some, asked).notes
    assert note in few_shot(some, asked, shots=(2,), n_draws=1).notes
    genes = run_gene_probes(some, ["CD8A"], ProbeSettings(gene="CD8A", features="gene"))
    assert genes["n_spots"].tolist() == [40]
    bare = _image_only_slides(tmp_path / "none", 1, 0)
    for ask in (run_probe, few_shot):
        with pytest.raises(ProbeError, match="20 spots, and none with gene embeddings"):
            ask(bare, asked)
    with pytest.raises(MissingGenesError, match="CD8A"):
        run_gene_probes(bare, ["CD8A"], ProbeSettings(gene="CD8A"))


@given(seed=st.integers(0, 500), n_folds=st.integers(2, 5))
def test_no_patient_is_on_both_sides_of_a_split_by_patient(seed, n_folds):
    rng = np.random.default_rng(seed)
    slide = rng.integers(0, 8, 100)
    patient = np.array([0, 0, 0, 1, 1, 2, 3, 3])[slide]
    places = Places(slide, patient, np.zeros((100, 2)), 1000.0)
    for fold in plan_folds(places, rng.integers(0, 2, 100), "patient", n_folds=n_folds, seed=seed):
        assert not set(patient[fold.train]) & set(patient[fold.test])
        if fold.inner_split == "patient":
            for train, test in fold.inner:
                assert not set(patient[train]) & set(patient[test])
