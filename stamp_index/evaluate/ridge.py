"""Ridge regression whose penalty is chosen without a look at the group that judges it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.evaluate.errors import EvaluationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Penalties tried, as multiples of n times the mean variance of a column: 0.0001 hardly shrinks, 100 leaves nothing.
ALPHA_FACTORS: Final = tuple(float(factor) for factor in np.logspace(-4, 2, 7))
INNER_FOLDS: Final = 5


def inner_folds(groups: NDArray[Any]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Folds of training rows that keep every group on one side.

    Parameters
    ----------
    groups : ndarray of shape (n,)
        Patient (or slide) of each row. Where there is only one, the folds are stretches of rows that follow each
        other: neighbours in the file mostly lie beside each other on the slide.

    Returns
    -------
    list of (train, test)
        At most five pairs of row numbers.

    Raises
    ------
    EvaluationError
        If there are fewer than two rows.
    """
    from sklearn.model_selection import GroupKFold, KFold

    n, n_groups = len(groups), len(np.unique(groups))
    if n < 2:
        msg = f"{n} training spots are too few to choose a penalty by cross-validation; give at least 2."
        raise EvaluationError(msg)
    if n_groups > 1:
        folds = GroupKFold(min(INNER_FOLDS, n_groups)).split(groups, groups=groups)
    else:
        folds = KFold(min(INNER_FOLDS, n)).split(groups)
    return [(train.astype(np.int64), test.astype(np.int64)) for train, test in folds]


def choose_alpha(
    x: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]], groups: NDArray[Any]
) -> float:
    """Penalty of a ridge regression of all columns of y that predicts left-out groups best.

    Parameters
    ----------
    x : ndarray of shape (n, d)
    y : ndarray of shape (n, g)
    groups : ndarray of shape (n,)
        See `inner_folds`.

    Returns
    -------
    float
        The one of `ALPHA_FACTORS` times n and the mean variance of x with the least squared error.

    Raises
    ------
    EvaluationError
        If there are fewer than two rows.
    """
    from sklearn.linear_model import RidgeCV

    folds = inner_folds(groups)
    variance = float(np.asarray(x, dtype=np.float64).var(axis=0).mean())
    alphas = np.array(ALPHA_FACTORS) * len(x) * max(variance, 1e-12)
    search = RidgeCV(alphas, cv=folds, scoring="neg_mean_squared_error")
    return float(search.fit(np.asarray(x, np.float64), np.asarray(y, np.float64)).alpha_)
