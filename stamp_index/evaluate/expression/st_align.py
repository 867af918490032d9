"""The mean squared error of ST-Align's gene prediction: a small network on frozen image features, within a slide."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.expression.hest_checks import check_groups, check_table
from stamp_index.evaluate.expression.metrics import mse_per_gene

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# ST-Align (arXiv 2411.16793), where gene prediction is reported.
ST_ALIGN_GENES: Final[tuple[str, ...]] = (
    *("FABP7", "CCK", "PVALB", "PCP4", "MOBP", "SNAP25", "IGKC", "HBB", "NPY"),
)  # fmt: skip
TEST_SHARE: Final = 0.2
HIDDEN: Final = (256,)  # neither the paper nor its code says the size
SEEDS: Final = (0, 1, 2, 3, 4)
_MAX_ITER: Final = 500
_FEWEST: Final = 10  # spots of a slide; the network leaves a tenth of its eight out to stop early
_NOTES: Final = (
    "SPATIAL LEAKAGE: 20 % of the spots of each slide are tested at random, so every tested spot has neighbours of nearly its "
    "own expression and picture among the training spots. Compare only with numbers of the same protocol.",
    f"The paper says neither the network, nor how expression is scaled, nor the seeds; here one hidden layer of {HIDDEN[0]} "
    "(ReLU, Adam, stops early on a tenth of the training spots) on standardised features.",
)


@dataclass(frozen=True)
class StAlignResult:
    """Mean squared errors.

    Attributes
    ----------
    genes : tuple of str
    slides : tuple of str
    mean, std : float
        Of the seeds' mean over slides and genes; std divides by the number of seeds.
    per_seed : tuple of float
    per_slide, per_gene : dict
        Mean over the seeds.
    mean_expression : float
        The same of predicting each gene's training mean, which a network must beat.
    notes : tuple of str
    """

    genes: tuple[str, ...]
    slides: tuple[str, ...]
    mean: float
    std: float
    per_seed: tuple[float, ...]
    per_slide: dict[str, float]
    per_gene: dict[str, float]
    mean_expression: float
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def st_align_mse(
    features: NDArray[np.floating[Any]],
    expression: NDArray[np.floating[Any]],
    genes: Sequence[str],
    slides: Sequence[str],
    *,
    seeds: Sequence[int] = SEEDS,
) -> StAlignResult:
    """Predict genes within slides by a small network, as ST-Align reports it.

    Parameters
    ----------
    features : ndarray of shape (n, d)
        Frozen image features.
    expression : ndarray of shape (n, g)
        Levels of genes, such as log1p CP10K.
    genes : sequence of str
        Names of the columns. Those of ST-Align's nine that are among them are predicted; all, where none of them is.
    slides : sequence of str
        Slide of each row; each slide has its own networks.
    seeds : sequence of int
        Each draws its own fifth of the spots to test, and starts its own network.

    Returns
    -------
    StAlignResult

    Raises
    ------
    EvaluationError
        If the arrays do not belong together or hold what is no number, a slide has fewer than 10 spots, or there is
        no seed.
    """
    check_table(features, expression, genes)
    of_slide = check_groups("slides", slides, len(features))
    names = tuple(gene for gene in ST_ALIGN_GENES if gene in set(genes)) or tuple(genes)
    targets = expression[:, [list(genes).index(name) for name in names]].astype(np.float64)
    slide_ids = tuple(np.unique(of_slide).tolist())
    _check_slides(of_slide, slide_ids, seeds)
    errors = np.empty((len(seeds), len(slide_ids), 2, len(names)))
    unfinished = 0
    for i, seed in enumerate(seeds):
        for j, slide in enumerate(slide_ids):
            here = np.flatnonzero(of_slide == slide)
            errors[i, j], finished = _one_slide(features[here], targets[here], seed)
            unfinished += not finished
    notes = list(_NOTES)
    if set(names) != set(ST_ALIGN_GENES):
        notes.append(f"Predicted are {len(names)} genes and not the nine of the paper.")
    if unfinished:
        notes.append(f"{unfinished} networks were not at rest after {_MAX_ITER} rounds.")
    per_seed = errors[:, :, 0].mean(axis=(1, 2))
    return StAlignResult(
        names,
        slide_ids,
        float(per_seed.mean()),
        float(per_seed.std()),
        tuple(per_seed.tolist()),
        dict(zip(slide_ids, errors[:, :, 0].mean(axis=(0, 2)).tolist(), strict=True)),
        dict(zip(names, errors[:, :, 0].mean(axis=(0, 1)).tolist(), strict=True)),
        float(errors[:, :, 1].mean()),
        tuple(notes),
    )


def _one_slide(
    features: NDArray[np.floating[Any]], targets: NDArray[np.float64], seed: int
) -> tuple[NDArray[np.float64], bool]:
    """Errors (2, g) of the network and of the training mean, and whether the network came to rest."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPRegressor
    from sklearn.preprocessing import StandardScaler

    train, test = train_test_split(
        np.arange(len(features)), test_size=TEST_SHARE, random_state=seed
    )
    scaler = StandardScaler().fit(features[train])
    network = MLPRegressor(
        hidden_layer_sizes=HIDDEN, max_iter=_MAX_ITER, early_stopping=True, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a note of the result says it
        # One column is told from a table with one gene by nothing but its shape.
        y = targets[train] if targets.shape[1] > 1 else targets[train, 0]
        network.fit(scaler.transform(features[train]), y)
    predicted = network.predict(scaler.transform(features[test])).reshape(len(test), -1)
    mean = np.broadcast_to(targets[train].mean(axis=0), predicted.shape)
    errors = np.stack([mse_per_gene(one, targets[test]) for one in (predicted, mean)])
    return errors, bool(network.n_iter_ < _MAX_ITER)


def _check_slides(
    of_slide: NDArray[np.str_], slide_ids: Sequence[str], seeds: Sequence[int]
) -> None:
    for slide in slide_ids:
        n = int((of_slide == slide).sum())
        if n < _FEWEST:
            msg = f"Slide {slide} has {n} spots; expected at least {_FEWEST}, to test a fifth of them. Leave it out."
            raise EvaluationError(msg)
    if not len(seeds):
        msg = "There are no seeds. Give at least one."
        raise EvaluationError(msg)
