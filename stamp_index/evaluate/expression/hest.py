"""HEST-Benchmark: how well frozen image features predict 50 genes, as published and corrected.

The published protocol is ``src/hest/bench`` of mahmoodlab/HEST at 0512f57 (Jaume et al. 2024, arXiv 2406.16192). Its numbers
can be compared with the published table; those of the corrected one cannot, and are what we trust.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.expression.hest_checks import check_folds, check_groups, check_table
from stamp_index.evaluate.expression.metrics import mse_per_gene
from stamp_index.evaluate.metrics import pearson_per_gene
from stamp_index.evaluate.ridge import choose_alpha

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Fold = tuple[NDArray[np.int64], NDArray[np.int64]]
    Float = np.floating[Any]

COMPONENTS: Final = 256  # --latent_dim
SEED: Final = 1  # --seed
N_GENES: Final = 50  # var_50genes.json
_MAX_ITER: Final = 1000
_PUBLISHED_NOTES: Final = (
    "HEST-Benchmark as published: log1p of raw counts without scaling to a total; StandardScaler and PCA fitted on the "
    "training spots; Ridge (lsqr, alpha = 100 / (components x genes), no intercept); Pearson over all test spots together.",
    "The published gene lists were chosen on all samples, test included (HEST issue 89).",
)
_CORRECTED_NOTES: Final = (
    "Changed from HEST-Benchmark: the genes of largest variance of log1p counts are chosen on the training spots of each "
    "fold; Ridge has an intercept; its alpha is chosen by cross-validation within the training spots, grouped by patient; "
    "Pearson is also given within each slide; constant genes are left out of means, and counted.",
    "Not changed: log1p of raw counts, StandardScaler and PCA (seed 1) fitted on the training spots.",
)


@dataclass(frozen=True)
class HestFold:
    """One fold.

    Attributes
    ----------
    genes : tuple of str
    pearson, mse : tuple of float
        One per gene, over all test spots together; Pearson is NaN where either side is constant.
    mean_pearson : float
    slide_pearson : dict
        Mean Pearson over genes within each test slide; empty in the published protocol.
    alpha : float
        Penalty of the ridge regression.
    n_components, n_train, n_test, n_constant : int
    """

    genes: tuple[str, ...]
    pearson: tuple[float, ...]
    mse: tuple[float, ...]
    mean_pearson: float
    slide_pearson: dict[str, float]
    alpha: float
    n_components: int
    n_train: int
    n_test: int
    n_constant: int


@dataclass(frozen=True)
class HestResult:
    """What a protocol measured.

    Attributes
    ----------
    protocol : {"hest", "hest corrected"}
    mean, std : float
        Of the folds' mean Pearson; std divides by the number of folds, as HEST's does.
    folds : tuple of HestFold
    notes : tuple of str
        What was done, and what was unlike the protocol.
    """

    protocol: Literal["hest", "hest corrected"]
    mean: float
    std: float
    folds: tuple[HestFold, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values; NaN stays NaN."""
        return asdict(self)


def hest_published(
    features: NDArray[Float], counts: NDArray[Float], genes: Sequence[str], folds: Sequence[Fold]
) -> HestResult:
    """Measure features by HEST-Benchmark as its code does it.

    Parameters
    ----------
    features : ndarray of shape (n, d), float
        Of patches of 112 um, to be like the published.
    counts : ndarray of shape (n, g)
        Raw counts of the genes to predict, all of which are used: for the published numbers, those of the task's
        ``var_50genes.json``.
    genes : sequence of str
        Names of the g columns.
    folds : sequence of (train, test)
        Row numbers; HEST's are whole slides.

    Returns
    -------
    HestResult
        `mean` is NaN where any gene is constant, as HEST's is.

    Raises
    ------
    EvaluationError
        If an array has the wrong shape or a value that is no number, or a fold is empty, out of range or has a row on
        both sides.

    Notes
    -----
    Equal to the published code up to rounding: features of the PCA are float32 there and here, and the solver stops
    at scikit-learn's own tolerance, which was 1e-3 before release 1.2 and is 1e-4 since. With fewer than 256 feature
    columns or training spots the published code fails; here there are fewer components, and a note says so.
    """
    check_table(features, counts, genes)
    check_folds(folds, len(features))
    found = [_published_fold(features, np.log1p(counts), genes, fold) for fold in folds]
    return _result("hest", found, _PUBLISHED_NOTES)


def hest_corrected(
    features: NDArray[Float],
    counts: NDArray[Float],
    genes: Sequence[str],
    folds: Sequence[Fold],
    *,
    patients: Sequence[str],
    slides: Sequence[str] | None = None,
    n_genes: int = N_GENES,
) -> HestResult:
    """Measure features by HEST-Benchmark without its known faults.

    Parameters
    ----------
    features, counts, genes, folds
        As in `hest_published`, but with every gene that was measured: each fold chooses its own.
    patients, slides : sequence of str
        Of each row; a slide is a patient's by default.
    n_genes : int
        Genes that each fold chooses, those of largest variance of log1p counts over its training spots.

    Returns
    -------
    HestResult
        Its notes name every change.

    Raises
    ------
    EvaluationError
        As in `hest_published`; also if a patient is on both sides of a fold, or no gene varies.
    """
    check_table(features, counts, genes)
    check_folds(folds, len(features))
    patient = check_groups("patients", patients, len(features))
    slide = patient if slides is None else check_groups("slides", slides, len(features))
    if n_genes < 1:
        msg = f"n_genes is {n_genes}; expected at least 1."
        raise ValueError(msg)
    found = []
    for number, fold in enumerate(folds):
        shared = set(patient[fold[0]].tolist()) & set(patient[fold[1]].tolist())
        if shared:
            msg = (
                f"Patient {', '.join(sorted(shared))} is on both sides of fold {number}: its sections look alike, so the "
                "result would be too good. Move the slides of a patient to one side."
            )
            raise EvaluationError(msg)
        chosen = _most_variable(np.log1p(counts[fold[0]]), genes, n_genes)
        targets = np.log1p(counts[:, chosen]).astype(np.float64)
        names = [genes[i] for i in chosen]
        found.append(_corrected_fold(features, targets, names, fold, groups=(patient, slide)))
    return _result("hest corrected", found, _CORRECTED_NOTES)


def reduce_features(
    train: NDArray[Float], test: NDArray[Float]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Standardise features and take principal components, both fitted on the training spots.

    Parameters
    ----------
    train, test : ndarray of shape (n, d) and (m, d)

    Returns
    -------
    train, test : ndarray of shape (n, c) and (m, c), float32
        c is 256, or less where there are fewer columns or training spots.

    Raises
    ------
    EvaluationError
        If all training spots have the same features.
    """
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if (train == train[:1]).all():
        msg = f"The features of all {len(train):,} training spots are the same, so nothing can be fitted. Check them."
        raise EvaluationError(msg)
    n_components = min(COMPONENTS, *train.shape)
    steps = make_pipeline(StandardScaler(), PCA(n_components, random_state=SEED))
    fitted = steps.fit_transform(train), steps.transform(test)
    return fitted[0].astype(np.float32), fitted[1].astype(
        np.float32
    )  # HEST makes them torch.Tensor


def _published_fold(
    features: NDArray[Float], targets: NDArray[Float], genes: Sequence[str], fold: Fold
) -> HestFold:
    from sklearn.linear_model import Ridge

    train, test = fold
    x_train, x_test = reduce_features(features[train], features[test])
    alpha = 100 / (x_train.shape[1] * targets.shape[1])
    model = Ridge(
        alpha=alpha, solver="lsqr", fit_intercept=False, max_iter=_MAX_ITER, random_state=SEED
    )
    predicted = model.fit(x_train, targets[train]).predict(x_test).reshape(len(test), -1)
    pearson = pearson_per_gene(predicted, targets[test])
    mean = float(np.mean(pearson))  # one constant gene makes it NaN, as it does HEST's
    return _fold(
        (pearson, mse_per_gene(predicted, targets[test])),
        genes,
        mean_pearson=mean,
        slide_pearson={},
        alpha=alpha,
        shape=(x_train.shape[1], len(train), len(test)),
    )


def _corrected_fold(
    features: NDArray[Float],
    targets: NDArray[np.float64],
    genes: Sequence[str],
    fold: Fold,
    *,
    groups: tuple[NDArray[np.str_], NDArray[np.str_]],
) -> HestFold:
    from sklearn.linear_model import Ridge

    (train, test), (patient, slide) = fold, groups
    x_train, x_test = reduce_features(features[train], features[test])
    inner = patient[train] if len(np.unique(patient[train])) > 1 else slide[train]
    alpha = choose_alpha(x_train, targets[train], inner)
    predicted = Ridge(alpha=alpha).fit(x_train, targets[train]).predict(x_test)
    predicted = predicted.reshape(len(test), -1)
    pearson = pearson_per_gene(predicted, targets[test])
    within = {}
    for name in np.unique(slide[test]).tolist():
        here = slide[test] == name
        within[name] = _mean(pearson_per_gene(predicted[here], targets[test][here]))
    return _fold(
        (pearson, mse_per_gene(predicted, targets[test])),
        genes,
        mean_pearson=_mean(pearson),
        slide_pearson=within,
        alpha=alpha,
        shape=(x_train.shape[1], len(train), len(test)),
    )


def _fold(
    per_gene: tuple[NDArray[np.float64], NDArray[np.float64]],
    genes: Sequence[str],
    *,
    mean_pearson: float,
    slide_pearson: dict[str, float],
    alpha: float,
    shape: tuple[int, int, int],
) -> HestFold:
    pearson, mse = per_gene
    return HestFold(
        tuple(genes),
        tuple(pearson.tolist()),
        tuple(mse.tolist()),
        mean_pearson,
        slide_pearson,
        alpha,
        *shape,
        n_constant=int(np.isnan(pearson).sum()),
    )


def _most_variable(levels: NDArray[Float], genes: Sequence[str], n_genes: int) -> NDArray[np.int64]:
    variance = levels.var(axis=0, dtype=np.float64)
    order = sorted(np.flatnonzero(variance > 0).tolist(), key=lambda i: (-variance[i], genes[i]))
    if not order:
        msg = "No gene varies over the training spots of a fold, so none can be predicted. Check the counts."
        raise EvaluationError(msg)
    return np.array(order[:n_genes], np.int64)


def _mean(values: NDArray[np.float64]) -> float:
    held = values[~np.isnan(values)]
    return float(held.mean()) if len(held) else float("nan")


def _result(
    protocol: Literal["hest", "hest corrected"], folds: list[HestFold], notes: tuple[str, ...]
) -> HestResult:
    means = np.array([fold.mean_pearson for fold in folds])
    fewest = min(fold.n_components for fold in folds)
    said = list(notes)
    if fewest < COMPONENTS:
        said.append(
            f"There are {fewest} principal components in place of {COMPONENTS}: the features have no more columns, or the fold no "
            "more training spots; the published code fails there."
        )
    constant = sum(fold.n_constant for fold in folds)
    if constant:
        said.append(f"{constant} genes of all folds together are constant and have no correlation.")
    return HestResult(protocol, float(means.mean()), float(means.std()), tuple(folds), tuple(said))
