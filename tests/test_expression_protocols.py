"""Published protocols: HEST-Benchmark's as its code does it and corrected, and ST-Align's squared error."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import ConstantInputWarning, pearsonr
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.expression import (
    ST_ALIGN_GENES,
    hest_corrected,
    hest_published,
    st_align_mse,
)
from stamp_index.evaluate.ridge import ALPHA_FACTORS, choose_alpha, inner_folds


def _world(n=120, d=300, g=6, seed=0):
    """Features of which the first columns tell the genes; four patients, of whom each has one slide but the last."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, d)).astype(np.float32)
    signal = features[:, :g] * np.linspace(0.2, 1.2, g)
    counts = rng.poisson(np.exp(2 + signal)).astype(np.float32)
    patients = np.repeat(["A", "B", "C", "D"], n // 4)
    slides = np.array([f"{p}{i % 2}" if p == "D" else p for i, p in enumerate(patients)])
    return features, counts, [f"G{i}" for i in range(g)], patients, slides


def _folds(patients):
    return [
        (np.flatnonzero(patients != one), np.flatnonzero(patients == one))
        for one in np.unique(patients)
    ]


def _as_published(features, counts, folds, latent_dim):
    """The steps of src/hest/bench (benchmark.py, trainer.py), one after the other."""
    per_fold, per_gene = [], []
    for train, test in folds:
        scale = Pipeline(
            [("scaler", StandardScaler()), ("PCA", PCA(n_components=latent_dim, random_state=1))]
        )
        x_train = torch.Tensor(scale.fit_transform(features[train]))
        x_test = torch.Tensor(scale.transform(features[test]))
        y_train, y_test = np.log1p(counts[train]), np.log1p(counts[test])
        alpha = 100 / (x_train.shape[1] * y_train.shape[1])
        model = Ridge(
            solver="lsqr", alpha=alpha, random_state=1, fit_intercept=False, max_iter=1000
        )
        model.fit(x_train.numpy(), y_train)
        predicted = model.predict(x_test.numpy())
        found = [pearsonr(y_test[:, i], predicted[:, i])[0] for i in range(y_test.shape[1])]
        per_gene.append(found)
        per_fold.append(np.mean(found))
    return np.mean(per_fold), np.std(per_fold), per_gene


@pytest.mark.parametrize(("n", "d"), [(400, 300), (120, 300), (120, 9)])
def test_the_published_protocol_equals_a_transcription_of_its_code(n, d):
    features, counts, genes, patients, _ = _world(n=n, d=d)
    folds = _folds(patients)
    n_components = min(256, d, len(folds[0][0]))
    mean, std, per_gene = _as_published(features, counts, folds, n_components)
    found = hest_published(features, counts, genes, folds)
    assert found.protocol == "hest"
    assert found.mean == pytest.approx(mean, abs=1e-6)  # its Pearson is of float32, ours of float64
    assert found.std == pytest.approx(std, abs=1e-6)
    for fold, slow in zip(found.folds, per_gene, strict=True):
        np.testing.assert_allclose(fold.pearson, slow, atol=2e-6)
        assert fold.alpha == 100 / (n_components * len(genes))
        assert fold.n_components == n_components
    assert any("fails there" in note for note in found.notes) == (n_components < 256)


def test_the_published_mean_is_nan_with_a_constant_gene_and_the_corrected_leaves_it_out():
    features, counts, genes, patients, _ = _world()
    counts[patients == "A", 2] = 4
    folds = _folds(patients)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        mean, _, _ = _as_published(features, counts, folds, 90)
    published = hest_published(features, counts, genes, folds)
    assert np.isnan([mean, published.mean]).all()
    corrected = hest_corrected(features, counts, genes, folds, patients=patients)
    assert np.isfinite(corrected.mean)
    assert [fold.n_constant for fold in corrected.folds] == [1, 0, 0, 0]
    assert any("1 genes of all folds together are constant" in note for note in corrected.notes)


def test_the_corrected_protocol_equals_its_steps_one_by_one():
    features, counts, genes, patients, slides = _world(d=20)
    folds = _folds(patients)
    found = hest_corrected(
        features, counts, genes, folds, patients=patients, slides=slides, n_genes=3
    )
    means = []
    for fold, (train, test) in zip(found.folds, folds, strict=True):
        variance = np.log1p(counts[train]).var(axis=0)
        chosen = np.argsort(-variance)[:3]
        assert fold.genes == tuple(genes[i] for i in chosen)
        scaler = StandardScaler().fit(features[train])
        pca = PCA(20, random_state=1).fit(scaler.transform(features[train]))
        x, z = (pca.transform(scaler.transform(features[rows])) for rows in (train, test))
        y, truth = (np.log1p(counts[rows][:, chosen]) for rows in (train, test))
        losses = {}
        for factor in ALPHA_FACTORS:
            alpha = factor * len(x) * x.var(axis=0).mean()
            parts = []
            for left_out in np.unique(patients[train]):
                here = patients[train] == left_out
                model = Ridge(alpha=alpha).fit(x[~here], y[~here])
                parts.append(((model.predict(x[here]) - y[here]) ** 2).mean())
            losses[alpha] = np.mean(parts)
        assert fold.alpha == pytest.approx(min(losses, key=losses.get), rel=1e-4)
        predicted = Ridge(alpha=fold.alpha).fit(x, y).predict(z)
        slow = [pearsonr(truth[:, i], predicted[:, i])[0] for i in range(3)]
        np.testing.assert_allclose(fold.pearson, slow, atol=1e-4)
        means.append(np.mean(slow))
        assert set(fold.slide_pearson) == set(slides[test])
    assert found.mean == pytest.approx(np.mean(means), abs=1e-4)
    assert found.mean > 0.3
    changes = " ".join(found.notes)
    for said in ("training spots", "intercept", "alpha", "grouped by patient", "within each slide"):
        assert said in changes


def test_genes_of_test_spots_alone_are_not_chosen():
    features, counts, genes, patients, _ = _world()
    loud = np.where((patients == "A") & (np.arange(len(patients)) % 2 == 0), 5000, 0)
    counts[:, 0] = 3 + loud
    fold = hest_corrected(
        features, counts, genes, _folds(patients), patients=patients, n_genes=5
    ).folds[0]
    assert "G0" not in fold.genes  # it varies among patient A's spots only, which are tested


def test_a_report_of_a_protocol_is_json():
    features, counts, genes, patients, _ = _world(d=7)
    found = hest_published(features, counts, genes, _folds(patients))
    assert json.loads(json.dumps(found.to_dict()))["folds"][0]["n_train"] == 90


def test_penalties_are_chosen_across_groups_or_stretches_of_one():
    groups = np.repeat([4, 1, 7], [5, 6, 9])
    for train, test in inner_folds(groups):
        assert not set(groups[train]) & set(groups[test])
    for _, test in inner_folds(np.zeros(20)):
        assert (np.diff(test) == 1).all()
    with pytest.raises(EvaluationError, match="too few"):
        inner_folds(np.zeros(1))


def test_noise_is_shrunk_more_than_a_clear_line():
    rng = np.random.default_rng(0)
    x, groups = rng.normal(size=(60, 40)), np.repeat([0, 1, 2], 20)
    clear = choose_alpha(x, x[:, :2] * 3, groups)
    noise = choose_alpha(x, rng.normal(size=(60, 2)), groups)
    assert noise > clear


def _spoilt(features, counts, genes, folds, what):
    n = len(features)
    if what == "rows":
        return features[:-1], counts, genes, folds
    if what == "names":
        return features, counts, genes[:-1], folds
    if what == "twice":
        return features, counts, [genes[0], *genes[:-1]], folds
    if what == "no fold":
        return features, counts, genes, []
    if what == "no train":
        return features, counts, genes, [(np.array([], np.int64), np.arange(5))]
    if what == "out":
        return features, counts, genes, [(np.arange(5), np.array([n]))]
    if what == "mask":
        return features, counts, genes, [(np.ones(n, bool), np.arange(3))]
    if what == "both":
        return features, counts, genes, [(np.arange(9), np.arange(8, 12))]
    held = (features.copy(), counts.copy())
    held[what != "nan feature"][3, 1] = -1 if what == "negative" else np.nan
    return *held, genes, folds


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("rows", "one row for each spot"),
        ("names", "5 gene names"),
        ("twice", "5 of them different"),
        ("no fold", "no folds"),
        ("no train", "trains on rows of shape"),
        ("out", "different ones of 0 to 119"),
        ("mask", "list of row numbers"),
        ("both", "trains on and tests 1 rows, such as 8"),
        ("nan feature", "features of 1 spots are not finite, first in row 3"),
        ("nan count", "expression of 1 spots are not finite"),
        ("negative", "below 0, first in row 3"),
    ],
)
def test_what_cannot_be_measured_is_refused(what, words):
    features, counts, genes, patients, _ = _world()
    given = _spoilt(features, counts, genes, _folds(patients), what)
    with pytest.raises(EvaluationError, match=words):
        hest_published(*given)
    with pytest.raises(EvaluationError, match=words):
        hest_corrected(*given, patients=patients)


def test_a_patient_on_both_sides_is_refused_where_the_protocol_is_corrected():
    features, counts, genes, patients, _ = _world()
    folds = [(np.arange(0, 100), np.arange(100, 120))]
    hest_published(features, counts, genes, folds)  # as published: nobody looks
    with pytest.raises(EvaluationError, match="Patient D is on both sides of fold 0"):
        hest_corrected(features, counts, genes, folds, patients=patients)
    with pytest.raises(EvaluationError, match="3 patients for 120 spots"):
        hest_corrected(features, counts, genes, _folds(patients), patients=patients[:3])
    with pytest.raises(ValueError, match="n_genes is 0"):
        hest_corrected(features, counts, genes, _folds(patients), patients=patients, n_genes=0)
    with pytest.raises(EvaluationError, match="features of all 90 training spots are the same"):
        hest_published(np.ones((120, 4)), counts, genes, _folds(patients))
    counts[:] = 1
    with pytest.raises(EvaluationError, match="No gene varies"):
        hest_corrected(features, counts, genes, _folds(patients), patients=patients)


def _levels(n=80, d=12, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, d))
    levels = np.maximum(features[:, :4] + 3 + 0.1 * rng.normal(size=(n, 4)), 0)
    return features, levels


def test_st_aligns_error_equals_scikit_learns_network_on_the_same_fifth():
    from sklearn.model_selection import train_test_split

    features, levels = _levels()
    genes = ["CCK", "ACTB", "MOBP", "NPY"]
    found = st_align_mse(features, levels, genes, ["S"] * 80, seeds=(3,))
    assert set(found.genes) == {"CCK", "MOBP", "NPY"}  # ST-Align's, without the others
    train, test = train_test_split(np.arange(80), test_size=0.2, random_state=3)
    scaler = StandardScaler().fit(features[train])
    network = MLPRegressor(
        hidden_layer_sizes=(256,), max_iter=500, early_stopping=True, random_state=3
    )
    own = [genes.index(name) for name in found.genes]
    network.fit(scaler.transform(features[train]), levels[train][:, own])
    predicted = network.predict(scaler.transform(features[test]))
    slow = ((predicted - levels[test][:, own]) ** 2).mean()
    assert found.mean == pytest.approx(slow, abs=1e-9)
    mean = ((levels[train][:, own].mean(axis=0) - levels[test][:, own]) ** 2).mean()
    assert found.mean_expression == pytest.approx(mean, abs=1e-9)
    assert found.mean < found.mean_expression


def test_st_aligns_error_is_of_every_slide_and_seed_and_warns_of_leakage():
    features, levels = _levels()
    slides = np.repeat(["one", "two"], 40)
    found = st_align_mse(features, levels, ["A", "B", "C", "D"], slides, seeds=(0, 1))
    assert found.genes == ("A", "B", "C", "D")  # none of the paper's is there
    assert len(found.per_seed) == 2
    assert found.mean == pytest.approx(np.mean(found.per_seed))
    assert found.std == pytest.approx(np.std(found.per_seed))
    assert found.mean == pytest.approx(np.mean(list(found.per_slide.values())))
    assert found.mean == pytest.approx(np.mean(list(found.per_gene.values())))
    assert "SPATIAL LEAKAGE" in found.notes[0]
    assert any("4 genes and not the nine" in note for note in found.notes)
    again = st_align_mse(features, levels, ["A", "B", "C", "D"], slides, seeds=(0, 1))
    assert again == found
    assert json.loads(json.dumps(found.to_dict()))["slides"] == ["one", "two"]
    one = st_align_mse(features, levels[:, :1], ST_ALIGN_GENES[:1], slides, seeds=(0,))
    assert set(one.per_gene) == {ST_ALIGN_GENES[0]}


def test_st_align_refuses_small_slides_and_no_seeds():
    features, levels = _levels(20)
    genes = ["A", "B", "C", "D"]
    with pytest.raises(EvaluationError, match="Slide tiny has 9 spots"):
        st_align_mse(features, levels, genes, ["tiny"] * 9 + ["big"] * 11)
    with pytest.raises(EvaluationError, match="no seeds"):
        st_align_mse(features, levels, genes, ["S"] * 20, seeds=())
    with pytest.raises(EvaluationError, match="3 slides for 20 spots"):
        st_align_mse(features, levels, genes, ["S"] * 3)
