"""Every way of predicting expression that a report has: those of the encoder, and what they must beat."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.evaluate.baselines import fit_cca, fit_ridge, mean_expression, random_vectors
from stamp_index.evaluate.expression.by_retrieval import (
    mean_weights,
    predict_by_all,
    predict_by_similarity,
    softmax_weights,
)
from stamp_index.evaluate.expression.hest import reduce_features
from stamp_index.evaluate.ridge import choose_alpha

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    Values = NDArray[np.floating[Any]]
    Predict = Callable[[slice, Values], NDArray[np.float64]]

RIDGE: Final = "PCA 256 + ridge on image embeddings"
SLIDE_MEAN: Final = "mean of the slide (sees the test spots)"
ENCODER, BASELINE, ORACLE = "encoder", "baseline", "oracle"


@dataclass(frozen=True)
class Method:
    """A way of predicting expression.

    Attributes
    ----------
    name : str
    kind : {"encoder", "baseline"}
        Whether the encoder's embeddings are what is judged.
    predict : callable
        Maps a stretch of the test spots and the training spots' levels of some genes (m, g) to predictions (n, g).
    """

    name: str
    kind: str
    predict: Predict


@dataclass(frozen=True, eq=False)
class Spots:
    """What methods see.

    Attributes
    ----------
    train_image, train_gene, test_image : ndarray of shape (m, d), (m, d) and (n, d), float32
        Embeddings of unit length.
    train_profile : ndarray of shape (m, p), float32
        Levels of the genes that vary most over the training spots, on which baselines are fitted.
    targets : ndarray of shape (m, g), float32
        Levels of the genes by which the ridge regression's penalty is chosen.
    groups : ndarray of shape (m,), int64
        Patient of each training spot, or slide where there is one patient.
    """

    train_image: NDArray[np.float32]
    train_gene: NDArray[np.float32]
    test_image: NDArray[np.float32]
    train_profile: NDArray[np.float32]
    targets: NDArray[np.float32]
    groups: NDArray[np.int64]


def expression_methods(spots: Spots, *, k: int, temperature: float, seed: int) -> list[Method]:
    """Every method, fitted; those of the encoder first.

    Parameters
    ----------
    spots : Spots
    k : int
        Training spots that a prediction is the mean of.
    temperature : float
        Of softmax weights.
    seed : int
        Of random vectors.
    """
    query, gene = spots.test_image, spots.train_gene
    some = min(k, len(gene))
    soft = softmax_weights(query, gene, k, temperature=temperature)
    return [
        Method(
            f"retrieval, mean of {some} (BLEEP)", ENCODER, _weighted(mean_weights(query, gene, k))
        ),
        Method(f"retrieval, softmax of {some}", ENCODER, _weighted(soft)),
        Method(
            "retrieval, softmax of all",
            ENCODER,
            lambda part, y: predict_by_all(query[part], gene, y, temperature=temperature),
        ),
        Method(
            "retrieval, cosines of all (Loki)",
            ENCODER,
            lambda part, y: predict_by_similarity(query[part], gene, y),
        ),
        Method(RIDGE, ENCODER, _ridge(spots)),
        *_baselines(spots, k, seed),
    ]


def _baselines(spots: Spots, k: int, seed: int) -> list[Method]:
    n_train, n_test = len(spots.train_image), len(spots.test_image)
    some = min(k, n_train)
    noise = random_vectors(n_train + n_test, spots.train_image.shape[1], seed=seed)
    random = mean_weights(noise[n_train:], noise[:n_train], k)
    found = [
        Method(f"random vectors, mean of {some}", BASELINE, _weighted(random)),
        Method("mean of the training spots", BASELINE, _mean),
        Method(
            f"image-only neighbours, mean of {some}",
            BASELINE,
            _weighted(mean_weights(spots.test_image, spots.train_image, k)),
        ),
    ]
    ridge = fit_ridge(spots.train_image, spots.train_profile, spots.groups)
    cca = fit_cca(spots.train_image, spots.train_profile)
    for name, maps in (("PCA + ridge", ridge), ("CCA", cca)):
        weights = mean_weights(maps.image(spots.test_image), maps.gene(spots.train_profile), k)
        found.append(Method(f"{name} vectors, mean of {some}", BASELINE, _weighted(weights)))
    return found


def raw_methods(
    spots: Spots,
    name: str,
    train: NDArray[np.float32],
    test: NDArray[np.float32],
    *,
    k: int,
) -> list[Method]:
    """Neighbours by raw features (m, c) and (n, c), and ridge regression on them: what nothing learnt from pairs can do.

    Parameters
    ----------
    spots : Spots
    name : str
        Of the features.
    train, test : ndarray of shape (m, c) and (n, c), float32
    k : int
        Training spots that a prediction is the mean of.

    Returns
    -------
    list of Method
        Baselines.
    """
    unit = [
        one / np.maximum(np.linalg.norm(one, axis=1, keepdims=True), 1e-12) for one in (train, test)
    ]
    near = _weighted(mean_weights(unit[1], unit[0], k))
    some = min(k, len(train))
    return [
        Method(f"neighbours by {name}, mean of {some}", BASELINE, near),
        Method(
            f"PCA 256 + ridge on {name}",
            BASELINE,
            _ridge(replace(spots, train_image=train, test_image=test)),
        ),
    ]


def _mean(part: slice, values: Values) -> NDArray[np.float64]:
    return mean_expression(values, part.stop - part.start)


def _weighted(weights: csr_matrix) -> Predict:
    def predict(part: slice, values: Values) -> NDArray[np.float64]:
        mean: NDArray[np.float64] = weights[part] @ values
        return mean

    return predict


def _ridge(spots: Spots) -> Predict:
    from sklearn.linear_model import Ridge

    x_train, x_test = reduce_features(spots.train_image, spots.test_image)
    alpha = choose_alpha(x_train, spots.targets, spots.groups)
    wide = x_train.astype(np.float64)

    def predict(part: slice, values: Values) -> NDArray[np.float64]:
        model = Ridge(alpha=alpha).fit(wide, values)
        predicted: NDArray[np.float64] = model.predict(x_test[part].astype(np.float64))
        return predicted.reshape(len(predicted), -1)

    return predict
