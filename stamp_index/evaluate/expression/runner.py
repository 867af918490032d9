"""Predict the expression of a store's test spots from their images, by every method, from the store alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.evaluate.expression.by_retrieval import TEMPERATURE, K
from stamp_index.evaluate.expression.genes import highly_variable
from stamp_index.evaluate.expression.methods import (
    ORACLE,
    SLIDE_MEAN,
    Spots,
    expression_methods,
    raw_methods,
)
from stamp_index.evaluate.expression.moments import slide_moments
from stamp_index.evaluate.expression.reading import gene_lists, read_predicted, slide_parts
from stamp_index.evaluate.expression.report import ExpressionReport
from stamp_index.evaluate.expression.tables import Measured, gene_table, report_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from stamp_index.evaluate.expression.methods import Method
    from stamp_index.evaluate.expression.reading import PredictedSpots
    from stamp_index.evaluate.split import Split
    from stamp_index.store.view import StoreView

    Progress = Callable[[int, int], object]

PROFILE_GENES: Final = 1000  # of largest variance, on which PCA + ridge and CCA are fitted
_VALUES: Final = 2**26  # levels held at a time: 256 MiB in float32


def evaluate_expression(  # noqa: PLR0913 - what is predicted, from what, beside what, and who is told
    store: StoreView,
    split: Split,
    *,
    k: int = K,
    genes: Sequence[str] | None = None,
    temperature: float = TEMPERATURE,
    seed: int = 0,
    raw: Mapping[str, StoreView] | None = None,
    progress: Progress | None = None,
) -> ExpressionReport:
    """Measure how well the test spots' images tell their expression.

    Parameters
    ----------
    store : StoreView
        Its encoder's embeddings and its counts are all that is read.
    split : Split
        Training spots are what is retrieved, and what regressions are fitted on.
    k : int
        Training spots that a prediction is the mean of, at least 1.
    genes : sequence of str, optional
        Genes to predict. By default three lists chosen on the training spots: 50 that vary most, 50 that are highest,
        and all.
    temperature : float
        Of softmax weights.
    seed : int
        Of the random baseline.
    raw : mapping of str to StoreView, optional
        The store seen through raw features (`stamp_index.evaluate.raw_features.raw_views`), as baselines.
    progress : callable, optional
        Called with the predictions made so far and with those that there are in all.

    Returns
    -------
    ExpressionReport
        Each row has: method, kind (of the encoder, a baseline, or an oracle that sees what is asked), genes and their
        hash, n_genes, on (a slide, or all of them), held out by (patient or section), N test, N train, mean and median
        Pearson over genes (on all slides: over their spots together), mean Pearson over slides, mean MSE, n constant
        (genes without a correlation, left out), n not measured (pairs of slide and gene), a 95 % interval of the mean
        Pearson by bootstrap over patients where at least two are tested, and the number of patients.

    Raises
    ------
    EvaluationError
        If there are no training slides, a side has no spot with both embeddings, one is not finite, or the sides share
        no gene.
    MissingGenesError
        If one of `genes` was not measured on every training slide and on some test slide.
    ValueError
        If k is below 1 or the temperature not above 0.

    Notes
    -----
    The embeddings are compared as BLEEP does: images of test spots with *gene* embeddings of training spots.
    """
    spots = read_predicted(store, split)
    lists = gene_lists(spots.levels, genes)
    seen = _seen(store, spots, lists[0].names)
    methods = expression_methods(seen, k=k, temperature=temperature, seed=seed)
    for name, view in (raw or {}).items():
        train, test = (
            view.vectors("image", side.rows).astype(np.float32)
            for side in (spots.train, spots.test)
        )
        methods += raw_methods(seen, name, train, test, k=k)
    names = tuple(dict.fromkeys(name for one in lists for name in one.names))
    moments = _measure(store, spots, names, methods, progress=progress)
    kinds = {**{method.name: method.kind for method in methods}, SLIDE_MEAN: ORACLE}
    measured = Measured(names, lists, moments, kinds, spots.test, split, len(spots.train))
    return ExpressionReport(
        report_rows(measured),
        gene_table(measured),
        lists,
        split,
        {"id": store.store_id, "version": store.version},
        {"name": store.encoder, "fingerprint": store.card.fingerprint},
        {"k": k, "temperature": temperature, "seed": seed},
        _notes(store, spots, k),
    )


def _seen(store: StoreView, spots: PredictedSpots, targets: Sequence[str]) -> Spots:
    train = spots.train
    profile = highly_variable(spots.levels, PROFILE_GENES).names
    one_patient = len(train.patient_ids) == 1
    return Spots(
        train.vectors["image"],
        train.vectors["gene"],
        spots.test.vectors["image"],
        store.expression(profile, train.rows),
        store.expression(targets, train.rows),
        train.slide if one_patient else train.patient,
    )


def _measure(
    store: StoreView,
    spots: PredictedSpots,
    genes: Sequence[str],
    methods: Sequence[Method],
    *,
    progress: Progress | None,
) -> dict[str, NDArray[np.float64]]:
    """Moments (slides, 7, genes) of each method, some genes at a time so that memory stays bounded."""
    parts = slide_parts(spots.test)
    names = [*(method.name for method in methods), SLIDE_MEAN]
    found = {name: np.zeros((len(parts), 7, len(genes))) for name in names}
    most = max(part.stop - part.start for part in parts)
    width = max(1, _VALUES // (len(spots.train) + 4 * most))
    starts = range(0, len(genes), width)
    done, total = 0, len(starts) * len(parts) * len(methods)
    for start in starts:
        some = list(genes[start : start + width])
        at = slice(start, start + len(some))
        train = store.expression(some, spots.train.rows)  # (m, g)
        for number, part in enumerate(parts):
            truth = store.expression(some, spots.test.rows[part])  # (n, g)
            for method in methods:
                predicted = method.predict(part, train)
                found[method.name][number, :, at] = slide_moments(predicted, truth)
                done += 1
                if progress is not None:
                    progress(done, total)
            level = np.broadcast_to(truth.mean(axis=0, dtype=np.float64), truth.shape)
            found[SLIDE_MEAN][number, :, at] = slide_moments(level, truth)
    return found


def _notes(store: StoreView, spots: PredictedSpots, k: int) -> tuple[str, ...]:
    train, n_train = spots.train, len(spots.train)
    notes = [
        "Expression is log1p of counts per 10,000, not smoothed over neighbours.",
        f"{len(spots.levels.genes):,} of {len(store.genes):,} genes of the store were measured on every training slide and on "
        "some test slide; no other gene is predicted.",
        "A gene that was measured constant has no correlation: such genes are left out of means of Pearson, and counted. A "
        "constant prediction has 0.",
        "Cosines as weights (Loki) may be negative and sum to about 0, in a space whose embeddings are centred above all: "
        "then what is predicted is wild.",
    ]
    if k > n_train:
        notes.append(
            f"k is {k}, but there are {n_train:,} training spots: the mean of them all is taken."
        )
    if len(train.patient_ids) == 1:
        inner = "slides" if len(train.slide_ids) > 1 else "stretches of one slide"
        notes.append(f"All training spots are of one patient: penalties are chosen across {inner}.")
    return tuple(notes)
