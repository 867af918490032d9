"""Our metrics against torchmetrics and ranx, on random cases with and without ties, to 1e-9.

Ties count against us, which neither library says of itself: they are given cosines in which a right target lies a hair below
a wrong one that equals it.
"""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from stamp_index.encoders.torch_compat import declare_torchvision_ops

declare_torchvision_ops()
pytest.importorskip("torchmetrics")
pytest.importorskip("ranx")

from ranx import Qrels, Run
from ranx import evaluate as ranx_evaluate
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_auroc,
    multiclass_f1_score,
)
from torchmetrics.functional.regression import pearson_corrcoef
from torchmetrics.functional.retrieval import (
    retrieval_average_precision,
    retrieval_hit_rate,
    retrieval_precision,
    retrieval_recall,
)

from stamp_index.evaluate.metrics import (
    average_precision,
    pearson_per_gene,
    retrieval_ranks,
    retrieval_recall_at_k,
)
from stamp_index.evaluate.probe.scores import class_scores, gene_scores
from stamp_index.evaluate.retrieval.neighbours import label_share
from stamp_index.evaluate.retrieval.scan import scan
from stamp_index.evaluate.retrieval.zones import blocks

pytestmark = [
    pytest.mark.slow,  # ranx compiles itself at its first call
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaWarning"),
]
CLOSE = 1e-9
A_HAIR = 1e-5  # above the width of a tie, below any other difference of quantised vectors


def vectors(seed, n=60, d=8, *, ties):
    """Pairs of unit vectors; with ties, targets come in groups that are the same."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(2, n, d))
    found[1] += found[0]
    if ties:
        found[1] = found[1][rng.integers(0, n // 4, n)]
    return (found / np.linalg.norm(found, axis=2, keepdims=True)).astype(np.float32)


def against_us(cosines, relevant):
    """Cosines (q, n) in float64 of which equal ones are exactly equal, right ones a hair lower."""
    # torchmetrics takes scores of 0 and less for no hits.
    return cosines.round(5) - A_HAIR / 2 * relevant + 2


def ranx_of(cosines, relevant, metrics):
    names = [f"{at:04d}" for at in range(cosines.shape[1])]
    qrels = Qrels(
        {
            str(q): {names[at]: 1 for at in np.flatnonzero(row)}
            for q, row in enumerate(relevant)
            if row.any()
        }
    )
    run = Run(
        {
            str(q): dict(zip(names, row.tolist(), strict=True))
            for q, row in enumerate(cosines)
            if relevant[q].any()
        }
    )
    return ranx_evaluate(qrels, run, metrics)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_recall_of_the_own_spot(seed, ties):
    queries, targets = vectors(seed, ties=ties)
    ranks = retrieval_ranks(queries, targets)
    own = np.eye(len(queries), dtype=bool)
    cosines = against_us(queries.astype(np.float64) @ targets.T.astype(np.float64), own)
    theirs = ranx_of(cosines, own, [f"recall@{k}" for k in (1, 5, 10)])
    for k in (1, 5, 10):
        ours = retrieval_recall_at_k(ranks, k)
        assert ours == pytest.approx(theirs[f"recall@{k}"], abs=CLOSE)
        for function in (retrieval_recall, retrieval_hit_rate):
            each = [
                function(torch.from_numpy(row), torch.from_numpy(right), top_k=k).item()
                for row, right in zip(cosines, own, strict=True)
            ]
            assert ours == pytest.approx(np.mean(each), abs=CLOSE)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_average_precision_of_labels(seed, ties):
    queries, targets = vectors(seed, ties=ties)
    labels = np.random.default_rng(seed).integers(0, 4, len(queries))
    relevant = labels[:, None] == labels
    cosines = (queries.astype(np.float64) @ targets.T.astype(np.float64)).round(5)
    ours = average_precision(cosines, relevant)
    shifted = against_us(cosines, relevant)
    each = [
        retrieval_average_precision(torch.from_numpy(row), torch.from_numpy(right)).item()
        for row, right in zip(shifted, relevant, strict=True)
    ]
    np.testing.assert_allclose(ours, each, atol=1e-6)  # torchmetrics adds in single precision
    assert ours.mean() == pytest.approx(ranx_of(shifted, relevant, "map"), abs=CLOSE)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_precision_of_the_first_ten(seed):
    queries, targets = vectors(seed, ties=False)
    n = len(queries)
    labels = np.random.default_rng(seed).integers(0, 4, n)
    one = np.zeros(n, np.int64)
    (found,) = scan((queries, targets), blocks(one, one), np.full((n, 1), 2.0, np.float32), 10)
    ours = label_share(found.best, labels, labels)[:, 0]
    cosines = queries.astype(np.float64) @ targets.T.astype(np.float64) + 2
    cosines[np.arange(n), np.arange(n)] = 0.0  # a query's own spot is no hit
    relevant = (labels[:, None] == labels) & ~np.eye(n, dtype=bool)
    each = [
        retrieval_precision(torch.from_numpy(row), torch.from_numpy(right), top_k=10).item()
        for row, right in zip(cosines, relevant, strict=True)
    ]
    np.testing.assert_allclose(ours, each, atol=1e-7)  # tenths in single precision
    assert ours.mean() == pytest.approx(ranx_of(cosines, relevant, "precision@10"), abs=CLOSE)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_scores_of_classes(seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, 300)
    output = rng.dirichlet(np.ones(4), 300)
    output[np.arange(300), truth] += 0.2
    output = (output / output.sum(axis=1, keepdims=True)).round(2 if seed == 2 else 12)  # ties
    output /= output.sum(axis=1, keepdims=True)
    ours = class_scores(truth, output)
    p, y = torch.from_numpy(output), torch.from_numpy(truth)
    held = {"num_classes": 4, "average": "macro"}
    said = torch.from_numpy(output.argmax(axis=1))
    for name, value in (
        ("balanced_accuracy", multiclass_accuracy(said, y, **held)),
        ("macro_f1", multiclass_f1_score(said, y, **held)),
        ("auroc", multiclass_auroc(p, y, **held)),
    ):
        assert ours[name] == pytest.approx(value.item(), abs=1e-6), name  # single precision


def test_pearson_of_genes():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(200, 5))
    said = 0.5 * truth + rng.normal(size=truth.shape)
    theirs = pearson_corrcoef(torch.from_numpy(said), torch.from_numpy(truth)).numpy()
    np.testing.assert_allclose(pearson_per_gene(said, truth), theirs, atol=CLOSE)
    one = gene_scores(truth[:, 0], said[:, 0])["pearson"]
    assert one == pytest.approx(theirs[0], abs=CLOSE)
