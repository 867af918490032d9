"""What is refused before features are measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stamp_index.evaluate.errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def check_table(
    features: NDArray[np.floating[Any]], targets: NDArray[np.floating[Any]], genes: Sequence[str]
) -> None:
    """Refuse arrays that do not belong together, or hold what is no number or no level.

    Raises
    ------
    EvaluationError
    """
    if np.ndim(features) != 2 or np.ndim(targets) != 2 or len(features) != len(targets):
        msg = (
            f"Features have shape {np.shape(features)} and expression {np.shape(targets)}; expected (n, d) and (n, g): one "
            "row for each spot."
        )
        raise EvaluationError(msg)
    if not len(features) or not features.shape[1]:
        msg = f"Features have shape {features.shape}; expected at least one spot and one column."
        raise EvaluationError(msg)
    if len(genes) != targets.shape[1] or len(set(genes)) != len(genes) or not len(genes):
        msg = (
            f"There are {len(genes)} gene names, {len(set(genes))} of them different, for {targets.shape[1]} columns; "
            "expected one name for each, at least one, and none twice."
        )
        raise EvaluationError(msg)
    for name, table in (("features", features), ("expression", targets)):
        bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
        if len(bad):
            msg = f"The {name} of {len(bad):,} spots are not finite, first in row {bad[0]}. Leave those spots out."
            raise EvaluationError(msg)
    if (targets < 0).any():
        row = int(np.flatnonzero((targets < 0).any(axis=1))[0])
        msg = f"Expression is below 0, first in row {row}; expected counts, or the logarithm of 1 + counts."
        raise EvaluationError(msg)


def check_folds(folds: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]], n: int) -> None:
    """Refuse folds without rows on a side, with rows that are not there, or with a row on both sides.

    Raises
    ------
    EvaluationError
    """
    if not len(folds):
        msg = "There are no folds. Give at least one pair of training and test rows."
        raise EvaluationError(msg)
    for number, sides in enumerate(folds):
        for name, rows in zip(("trains on", "tests"), sides, strict=True):
            held = np.asarray(rows)
            if held.ndim != 1 or not held.size or held.dtype.kind not in "iu":
                msg = (
                    f"Fold {number} {name} rows of shape {held.shape} and type {held.dtype}; expected a list of row "
                    "numbers, at least one."
                )
                raise EvaluationError(msg)
            if held.min() < 0 or held.max() >= n or len(np.unique(held)) < len(held):
                msg = f"Fold {number} {name} rows {held.min()} to {held.max()}; expected different ones of 0 to {n - 1}."
                raise EvaluationError(msg)
        both = np.intersect1d(*sides)
        if len(both):
            msg = f"Fold {number} trains on and tests {len(both):,} rows, such as {both[0]}. Take them out of one side."
            raise EvaluationError(msg)


def check_groups(name: str, groups: Sequence[str], n: int) -> NDArray[np.str_]:
    """Names of each row's group, as an array.

    Raises
    ------
    EvaluationError
        If there is not one for each row.
    """
    held = np.array([str(group) for group in groups])
    if len(held) != n:
        msg = f"There are {len(held)} {name} for {n} spots; expected one for each."
        raise EvaluationError(msg)
    return held
