"""Numbers of a probe: arrays in, numbers out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def confusion(
    truth: NDArray[np.int64], predicted: NDArray[np.int64], n_classes: int
) -> NDArray[np.int64]:
    """How many spots of each class (rows) were taken for each class (columns), (k, k)."""
    counts: NDArray[np.int64] = np.zeros((n_classes, n_classes), np.int64)
    np.add.at(counts, (truth, predicted), 1)
    return counts


def recalls(
    truth: NDArray[np.int64], predicted: NDArray[np.int64], n_classes: int
) -> NDArray[np.float64]:
    """Share of each class's spots that were found, (k,); NaN for a class without spots."""
    right = np.bincount(truth[truth == predicted], minlength=n_classes)
    support = np.bincount(truth, minlength=n_classes)
    found: NDArray[np.float64] = np.full(n_classes, np.nan)
    np.divide(right, support, out=found, where=support > 0)
    return found


def class_scores(truth: NDArray[np.int64], probability: NDArray[np.float64]) -> dict[str, float]:
    """Balanced accuracy, macro-F1 and AUROC.

    Parameters
    ----------
    truth : ndarray of shape (n,), int64
        Class of each spot.
    probability : ndarray of shape (n, k), float64
        Of each class; the largest is the class that is predicted.

    Returns
    -------
    dict of str to float
        ``balanced_accuracy``, ``macro_f1`` and ``auroc`` (one class against the rest, mean over classes), over the
        classes that `truth` has. The AUROC is NaN where `truth` has one class only.
    """
    from sklearn.metrics import f1_score, roc_auc_score

    present = np.unique(truth)
    predicted = probability.argmax(axis=1)
    auroc = [
        roc_auc_score(truth == one, probability[:, one]) for one in present if len(present) > 1
    ]
    return {
        "balanced_accuracy": float(np.nanmean(recalls(truth, predicted, probability.shape[1]))),
        "macro_f1": float(
            f1_score(truth, predicted, labels=present, average="macro", zero_division=0)
        ),
        "auroc": float(np.mean(auroc)) if auroc else float("nan"),
    }


def gene_scores(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> dict[str, float]:
    """Pearson, Spearman and R2 of predicted expression.

    Parameters
    ----------
    truth, predicted : ndarray of shape (n,), float64

    Returns
    -------
    dict of str to float
        ``pearson``, ``spearman`` and ``r2``. All are NaN where `truth` is constant (or a single spot); a constant
        prediction has a correlation of 0, for it tells nothing.
    """
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import r2_score

    if np.ptp(truth) == 0:
        return dict.fromkeys(("pearson", "spearman", "r2"), float("nan"))
    flat = np.ptp(predicted) <= 1e-9 * max(float(np.abs(predicted).max()), 1e-300)
    return {
        "pearson": 0.0 if flat else float(pearsonr(truth, predicted).statistic),
        "spearman": 0.0 if flat else float(spearmanr(truth, predicted).statistic),
        "r2": float(r2_score(truth, predicted)),
    }


def mean_and_sd(rows: Sequence[dict[str, float]]) -> tuple[dict[str, float], dict[str, float]]:
    """Mean and sample standard deviation of each number over folds, those where it is NaN left out."""
    mean, sd = {}, {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        values = values[np.isfinite(values)]
        mean[name] = float(values.mean()) if len(values) else float("nan")
        sd[name] = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
    return mean, sd
