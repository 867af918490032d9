"""Ridge probes for many genes at once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from stamp_index.evaluate.probe.checks import check_groups
from stamp_index.evaluate.probe.folds import ProbeProgress, scaled
from stamp_index.evaluate.probe.ridge import RidgePath
from stamp_index.evaluate.probe.run import prepare
from stamp_index.evaluate.probe.scores import gene_scores, mean_and_sd
from stamp_index.evaluate.probe.tasks import GeneTask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from stamp_index.evaluate.probe.run import Prepared
    from stamp_index.evaluate.probe.settings import ProbeSettings
    from stamp_index.evaluate.probe.splits import PlannedFold
    from stamp_index.store.view import StoreView

    Array = NDArray[np.float64]


def run_gene_probes(
    store: StoreView,
    genes: Sequence[str],
    settings: ProbeSettings,
    *,
    progress: Callable[[ProbeProgress], object] | None = None,
) -> pd.DataFrame:
    """Ask what the stored embeddings tell of each of many genes.

    Each gene has the numbers that `run_probe` gives with ``settings.gene`` set to it, to 1e-6. Genes that were measured on the
    same slides share folds and one factorisation for each training part, whatever their number.

    Parameters
    ----------
    store : StoreView
    genes : sequence of str
        Different names.
    settings : ProbeSettings
        For a gene, any one: each of `genes` takes its place.
    progress : callable, optional
        Told how far it is before every factorisation, anew for each set of slides; what it raises ends the work.

    Returns
    -------
    DataFrame
        One row for each gene, in the order of `genes`: gene, n_spots, n_folds, pearson_mean, pearson_sd, r2_mean,
        r2_sd (over folds), C (median over folds), random_features_pearson_mean and random_features_pearson_sd (the same
        probe on Gaussian noise), chance (0: guessing has no correlation), and note, which says why numbers are missing.

    Raises
    ------
    ValueError
        If no gene is named, one is named twice, or the settings are for a label.
    MissingGenesError
        If no slide of the store measured one of them.
    QueryError, ProbeError
        As `run_probe`; a gene with the same expression at all its spots has a note instead.
    """
    import pandas as pd

    flaw = _flaw(genes, settings)
    if flaw:
        raise ValueError(flaw)
    rows: dict[str, dict[str, Any]] = {}
    for names in _measured_alike(store, genes, settings):
        ready = prepare(
            store, replace(settings, gene=names[0]), progress=progress, check=check_groups
        )
        rows |= _probed(store, ready, names, progress)
    return pd.DataFrame([{"gene": name, **rows[name]} for name in genes])


def _flaw(genes: Sequence[str], settings: ProbeSettings) -> str:
    """Say what is wrong with the values, or nothing."""
    if not settings.gene:
        return f"The settings are for label '{settings.label}'. Make them with the gene of your choice instead."
    if isinstance(genes, str) or len(genes) == 0:
        return f"genes is {genes!r}; it must name at least one, in a list."
    twice = sorted({name for name in genes if list(genes).count(name) > 1})
    return f"Genes {', '.join(twice[:5])} are named twice; name each once." if twice else ""


def _measured_alike(
    store: StoreView, genes: Sequence[str], settings: ProbeSettings
) -> list[list[str]]:
    """Genes in sets that were measured on the same slides, and so at the same spots."""
    rows = store.rows()
    slides = store.spots(("slide_id",), rows)["slide_id"]
    if settings.slides is not None:  # a slide that is not there is refused later
        slides = slides[slides.isin(settings.slides)]
    one_of_each = rows[slides.drop_duplicates().index]
    known = np.isfinite(store.expression(list(genes), one_of_each))  # (slides, g)
    sets: dict[bytes, list[str]] = {}
    for name, where in zip(genes, known.T, strict=True):
        sets.setdefault(where.tobytes(), []).append(name)
    return list(sets.values())


def _probed(
    store: StoreView,
    ready: Prepared,
    names: list[str],
    progress: Callable[[ProbeProgress], object] | None,
) -> dict[str, dict[str, Any]]:
    """Row of each gene of a set."""
    settings, truth = ready.settings, store.expression(names, ready.spots.rows).astype(np.float64)
    noise = np.random.default_rng(settings.seed).standard_normal(ready.features.shape, np.float32)
    chosen: list[Array] = []
    found: list[list[dict[str, float]]] = []
    by_chance: list[list[dict[str, float]]] = []
    for number, fold in enumerate(ready.plan, 1):
        told = _Told(progress, number, len(ready.plan))
        C = _chosen(ready.features, truth, fold, C=settings.C, told=told)
        chosen.append(C)
        for x, scores in ((ready.features, found), (noise, by_chance)):
            told("fitting")
            scores.append(_scores(x, truth, fold, C))
    rows = {}
    for at, name in enumerate(names):
        flat = np.ptp(truth[:, at]) == 0
        row: dict[str, Any] = {"n_spots": len(truth), "n_folds": len(ready.plan)}
        (mean, sd), (level, level_sd) = (
            mean_and_sd([fold[at] for fold in scores]) for scores in (found, by_chance)
        )
        for score in ("pearson", "r2"):
            row |= {f"{score}_mean": mean[score], f"{score}_sd": sd[score]}
        row["C"] = float(np.median([C[at] for C in chosen]))
        row["random_features_pearson_mean"] = level["pearson"]
        row["random_features_pearson_sd"] = level_sd["pearson"]
        row["chance"] = 0.0
        row["note"] = f"the same expression ({truth[0, at]:.3g}) at all spots" if flat else ""
        rows[name] = row
    return rows


class _Told:
    """Tells how far it is, within one fold."""

    def __init__(
        self, progress: Callable[[ProbeProgress], object] | None, fold: int, n_folds: int
    ) -> None:
        self._progress, self._fold, self._n_folds = progress, fold, n_folds

    def __call__(self, what: str) -> None:
        if self._progress is not None:
            step = f"fold {self._fold} of {self._n_folds}: {what}"
            share = (self._fold - 1) / self._n_folds
            self._progress(ProbeProgress(step, self._fold, self._n_folds, share))


def _chosen(
    features: NDArray[np.float32],
    truth: Array,
    fold: PlannedFold,
    *,
    C: float | None,
    told: Callable[[str], None],
) -> Array:
    """C of each gene (g,): given, or with the least squared error on the inner parts; the smallest of equals."""
    grid = np.array(GeneTask.grid)
    if C is not None or not fold.inner:
        return np.full(truth.shape[1], GeneTask.default_C if C is None else C)
    error = np.zeros((len(grid), truth.shape[1]))
    for train, test in fold.inner:
        told("choosing C")
        fit_x, test_x = scaled(features, train, test)
        path = RidgePath(fit_x)
        targets, turned = path.targets(truth[train]), path.turned(test_x)
        for place, one in enumerate(grid):
            error[place] += ((truth[test] - targets.predict(turned, 1.0 / one)) ** 2).sum(axis=0)
    best: Array = grid[error.argmin(axis=0)]
    return best


def _scores(
    features: NDArray[np.float32], truth: Array, fold: PlannedFold, C: Array
) -> list[dict[str, float]]:
    """Scores of each gene on the spots held out."""
    fit_x, test_x = scaled(features, fold.train, fold.test)
    path = RidgePath(fit_x)
    expected = path.targets(truth[fold.train]).predict(path.turned(test_x), 1.0 / C)
    held = truth[fold.test]
    return [gene_scores(held[:, at], expected[:, at]) for at in range(held.shape[1])]
