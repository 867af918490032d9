"""What any encoder must beat: predictions and retrieval vectors that need no training, or a closed form.

BLEEP's way of predicting from retrieved spots is `stamp_index.evaluate.expression.predict_by_mean`, on the vectors of any
encoder. Nothing here is random but `random_vectors`, which is so by its seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.ridge import choose_alpha

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Float = np.floating[Any]
    Embed = Callable[[NDArray[Float]], NDArray[np.float32]]

COMPONENTS: Final = 64  # axes of the shared space, where there are so many
_MOST_COMPONENTS: Final = (
    300  # of each side before CCA, as the closed form has for the legacy ST sections
)


@dataclass(frozen=True)
class PairedMaps:
    """Fitted maps of image features and of expression into one space.

    Attributes
    ----------
    image, gene : callable
        Map rows (n, d) or (n, g) to unit vectors (n, c), float32.
    """

    image: Embed
    gene: Embed


def random_vectors(n: int, dim: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Draw n unit vectors (n, dim) of directions that mean nothing."""
    return _unit(np.random.default_rng(seed).normal(size=(n, dim)))


def mean_expression(train_expression: NDArray[Float], n: int) -> NDArray[np.float64]:
    """Mean (n, g) of the training spots (m, g), the same for each of n spots.

    Raises
    ------
    EvaluationError
        If there is no training spot.
    """
    if not len(train_expression):
        msg = "There are no training spots to average. Give at least one."
        raise EvaluationError(msg)
    mean = np.asarray(train_expression).mean(axis=0, dtype=np.float64)
    return np.broadcast_to(mean, (n, len(mean))).copy()


def fit_ridge(
    train_image: NDArray[Float],
    train_expression: NDArray[Float],
    groups: NDArray[Any] | None = None,
) -> PairedMaps:
    """PCA of expression, and ridge regression of image features onto it.

    Parameters
    ----------
    train_image : ndarray of shape (n, d)
        Image features.
    train_expression : ndarray of shape (n, g)
        log1p CP10K.
    groups : ndarray of shape (n,), optional
        Patient of each spot, by which the penalty is chosen (`stamp_index.evaluate.ridge.choose_alpha`); one for all by
        default.

    Returns
    -------
    PairedMaps

    Raises
    ------
    EvaluationError
        If there are fewer than two spots, the numbers of rows differ, a value is not finite, or nothing varies.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    _check_pair(train_image, train_expression)
    scaler = StandardScaler().fit(train_image)
    n_components = max(1, min(COMPONENTS, len(train_image) - 1, train_expression.shape[1]))
    pca = PCA(n_components, random_state=0).fit(train_expression)
    # The first components keep the lead, but do not drown the rest in a cosine: scores have the fourth root of their variance.
    # By the plain components recall was lower by a tenth to a third.
    loud = np.sqrt(np.maximum(pca.singular_values_, 1e-12))
    x, y = scaler.transform(train_image), pca.transform(train_expression) / loud
    held = np.zeros(len(x)) if groups is None else groups
    model = Ridge(alpha=choose_alpha(x, y, held)).fit(x, y)
    return PairedMaps(
        lambda rows: _unit(model.predict(scaler.transform(rows)).reshape(len(rows), -1)),
        lambda rows: _unit(pca.transform(rows) / loud),
    )


def fit_cca(train_image: NDArray[Float], train_expression: NDArray[Float]) -> PairedMaps:
    """Regularised canonical correlation analysis of image features and expression.

    Parameters, result and errors are those of `fit_ridge`; there is no penalty to choose
    (`stamp_index.encoders.linear_maps.shrunk_cca`).
    """
    from stamp_index.encoders.linear_maps import shrunk_cca, shrunk_components

    _check_pair(train_image, train_expression)
    sides = [np.asarray(side, np.float32) for side in (train_image, train_expression)]
    components = [shrunk_components(side, _MOST_COMPONENTS) for side in sides]
    reduced = [fitted(side) for fitted, side in zip(components, sides, strict=True)]
    to_image, to_gene = shrunk_cca(reduced[0], reduced[1], COMPONENTS)
    return PairedMaps(
        lambda rows: _unit(to_image(components[0](np.asarray(rows, np.float32)))),
        lambda rows: _unit(to_gene(components[1](np.asarray(rows, np.float32)))),
    )


def _unit(rows: NDArray[Float]) -> NDArray[np.float32]:
    """Rows of unit length; one without length gets the first direction, so that it can be searched."""
    wide = np.array(rows, np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    wide[length[:, 0] == 0, 0] = 1.0
    return (wide / np.where(length > 0, length, 1.0)).astype(np.float32)


def _check_pair(image: NDArray[Float], expression: NDArray[Float]) -> None:
    if np.ndim(image) != 2 or np.ndim(expression) != 2 or len(image) != len(expression):
        msg = (
            f"Image features have shape {np.shape(image)} and expression {np.shape(expression)}; expected (n, d) and (n, g): "
            "one row for each training spot."
        )
        raise EvaluationError(msg)
    if len(image) < 2:
        msg = f"{len(image)} training spots are too few to fit a baseline; give at least 2."
        raise EvaluationError(msg)
    for name, side in (("image features", image), ("expression", expression)):
        bad = np.flatnonzero(~np.isfinite(side).all(axis=1))
        if len(bad):
            msg = f"The {name} of {len(bad):,} training spots are not finite, first in row {bad[0]}. Leave those spots out."
            raise EvaluationError(msg)
        if (np.asarray(side) == np.asarray(side)[:1]).all():
            msg = f"The {name} of all {len(side):,} training spots are the same, so nothing can be fitted. Check them."
            raise EvaluationError(msg)
