"""Few-shot curves: how well classes are told apart from a handful of labelled spots of each."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.evaluate.probe.folds import RANDOM, ProbeProgress, scaled
from stamp_index.evaluate.probe.result import Level, without_nan
from stamp_index.evaluate.probe.run import prepare
from stamp_index.evaluate.probe.scores import mean_and_sd
from stamp_index.evaluate.probe.summarise import fold_of, source_of
from stamp_index.evaluate.probe.tasks import ClassTask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from stamp_index.evaluate.probe.result import ProbeSource
    from stamp_index.evaluate.probe.run import Prepared
    from stamp_index.evaluate.probe.settings import ProbeSettings
    from stamp_index.store.view import StoreView

SHOTS: Final = (1, 5, 10, 50)


@dataclass(frozen=True)
class FewShotFit:
    """One fit.

    Attributes
    ----------
    shots, fold, draw : int
        Spots wanted of each class, and the numbers of fold and draw, from 1.
    n_train : int
        Spots it was fitted to: fewer than shots times classes where a class has fewer.
    scores, random_features : dict of str to float
        Of the spots held out: of the embeddings, and of the same fit on Gaussian noise.
    """

    shots: int
    fold: int
    draw: int
    n_train: int
    scores: dict[str, float]
    random_features: dict[str, float]


@dataclass(frozen=True)
class FewShotPoint:
    """One point of the curve: mean and sample standard deviation over all draws and folds."""

    shots: int
    n_fits: int
    level: Level
    random_features: Level


@dataclass(frozen=True)
class FewShotResult:
    """What `few_shot` found.

    Attributes
    ----------
    settings : ProbeSettings
    source : ProbeSource
        Two results with the same split hash were tested on the same spots.
    classes : tuple of str
    C : float
        Inverse strength of the penalty, the same in every fit.
    n_draws : int
    fits : tuple of FewShotFit
        By shots, fold and draw.
    points : tuple of FewShotPoint
        By shots.
    notes : tuple of str
        What was left out, and which classes had fewer spots than wanted.
    """

    settings: ProbeSettings
    source: ProbeSource
    classes: tuple[str, ...]
    C: float
    n_draws: int
    fits: tuple[FewShotFit, ...]
    points: tuple[FewShotPoint, ...]
    notes: tuple[str, ...]

    @property
    def chance(self) -> float:
        """Balanced accuracy of guessing."""
        return 1.0 / len(self.classes)

    def rows(self) -> list[dict[str, float]]:
        """One flat row for each number of shots: means and deviations of the scores, and the levels beside them."""
        out = []
        for point in self.points:
            row: dict[str, float] = {"shots": point.shots, "n_fits": point.n_fits}
            for name, mean in point.level.mean.items():
                row[name] = mean
                row[f"{name}_sd"] = point.level.sd[name]
                row[f"{RANDOM}_{name}"] = point.random_features.mean[name]
                row[f"{RANDOM}_{name}_sd"] = point.random_features.sd[name]
            out.append(row | {"chance": self.chance})
        return out

    def to_pandas(self) -> pd.DataFrame:
        """`rows` as a table, indexed by shots."""
        import pandas as pd

        return pd.DataFrame(self.rows()).set_index("shots")

    def to_json(self) -> str:
        """Every number as JSON, ``curve`` being `rows`; what is not defined is null."""
        values: dict[str, Any] = {
            name: asdict(getattr(self, name)) for name in ("settings", "source")
        }
        for name in ("classes", "C", "n_draws", "chance", "notes"):
            values[name] = getattr(self, name)
        values["curve"] = self.rows()
        values["fits"] = [asdict(fit) for fit in self.fits]
        return json.dumps(without_nan(values), indent=1, allow_nan=False)


def few_shot(
    store: StoreView,
    settings: ProbeSettings,
    *,
    shots: Sequence[int] = SHOTS,
    n_draws: int = 5,
    progress: Callable[[ProbeProgress], object] | None = None,
    labels: Mapping[int, str] | None = None,
) -> FewShotResult:
    """Fit classes to a few spots of each, drawn from a fold's training part, and try them on the spots held out.

    Parameters
    ----------
    store : StoreView
    settings : ProbeSettings
        For a label. Where `C` is not given it is 1: a single spot of each class leaves none to choose it by.
    shots : sequence of int
        Spots of each class, at least 1; all that there are where a class has fewer, which the notes say.
    n_draws : int
        Draws for each number of shots and fold, at least 1. A draw's spots are spread over the groups of the split
        (slides, where single spots are split), and those of few shots are among those of more.
    progress : callable, optional
        Told how far it is before every fit; what it raises ends the work.
    labels : mapping of int to str, optional
        As in `run_probe`.

    Returns
    -------
    FewShotResult
        The same for the same store version, settings and labels.

    Raises
    ------
    ValueError
        If the settings are for a gene, or `shots` or `n_draws` make no sense.
    QueryError, ProbeError
        As `run_probe`.

    Notes
    -----
    Features are centred and scaled on the whole training part: what a user has before any label is drawn.
    """
    shots = _checked(settings, shots, n_draws)
    ready = prepare(store, settings, labels=labels, progress=progress)
    task = ClassTask(len(ready.spots.classes))
    C = settings.C or task.default_C
    fits = sorted(
        _fits(ready, task, C=C, grid=(shots, n_draws), progress=progress),
        key=lambda one: (one.shots, one.fold),
    )
    return FewShotResult(
        settings=settings,
        source=source_of(store, ready.spots, fold_of(ready.plan, len(ready.spots.rows))),
        classes=ready.spots.classes,
        C=C,
        n_draws=n_draws,
        fits=tuple(fits),
        points=tuple(_point(k, [fit for fit in fits if fit.shots == k]) for k in shots),
        notes=(*ready.spots.notes, *_notes(ready, shots)),
    )


def _checked(settings: ProbeSettings, shots: Sequence[int], n_draws: int) -> tuple[int, ...]:
    """Numbers of shots, ascending; refuse what makes no sense."""
    if not settings.label:
        msg = f"Few shots are of classes, but the settings are for gene {settings.gene}. Name a label instead."
        raise ValueError(msg)
    wanted = tuple(sorted(set(shots)))
    if not wanted or wanted[0] < 1:
        msg = f"shots is {tuple(shots)!r}; it must name at least one number, each 1 or more."
        raise ValueError(msg)
    if n_draws < 1:
        msg = f"n_draws is {n_draws}; it must be at least 1."
        raise ValueError(msg)
    return wanted


def _fits(
    ready: Prepared,
    task: ClassTask,
    *,
    C: float,
    grid: tuple[tuple[int, ...], int],
    progress: Callable[[ProbeProgress], object] | None,
) -> Iterator[FewShotFit]:
    """Fit everything, fold after fold."""
    shots, n_draws = grid
    spots, seed, n_folds = ready.spots, ready.settings.seed, len(ready.plan)
    split = ready.settings.split
    groups = spots.places.groups("slide" if split == "spot" else split)
    noise = np.random.default_rng(seed).standard_normal(ready.features.shape, np.float32)
    for number, fold in enumerate(ready.plan, 1):
        # (train, test) of the embeddings and of the noise
        views = [scaled(x, fold.train, fold.test) for x in (ready.features, noise)]
        y, held = spots.truth[fold.train], spots.truth[fold.test]
        for draw in range(1, n_draws + 1):
            order = draw_order(y, groups[fold.train], (seed, number, draw))
            for place, k in enumerate(shots):
                done = ((number - 1) * n_draws + draw - 1) * len(shots) + place
                share = done / (n_folds * n_draws * len(shots))
                step = f"fold {number} of {n_folds}: {k} of each class"
                pause = partial(_tell, progress, ProbeProgress(step, number, n_folds, share))
                at = np.sort(np.concatenate([rows[:k] for rows in order]))
                scores = []
                for train, test in views:
                    fitted = next(iter(task.fits(train[at], y[at], (C,), pause)))
                    scores.append(task.scores(held, fitted.predict(test)))
                yield FewShotFit(k, number, draw, len(at), *scores)


def _tell(progress: Callable[[ProbeProgress], object] | None, at: ProbeProgress) -> None:
    if progress is not None:
        progress(at)


def draw_order(
    classes: NDArray[np.int64], groups: NDArray[np.int64], seed: tuple[int, ...]
) -> list[NDArray[np.int64]]:
    """Places of each class's spots in the order in which a draw takes them.

    Parameters
    ----------
    classes, groups : ndarray of shape (n,), int64
    seed : tuple of int

    Returns
    -------
    list of ndarray of int64
        One for each class that is there: a random spot of each group, groups in random order, then a second of each.
    """
    rng = np.random.default_rng(seed)
    order = []
    for one in np.unique(classes):
        at = rng.permutation(np.flatnonzero(classes == one))
        at = at[np.argsort(groups[at], kind="stable")]  # random within each group
        _, first, count = np.unique(groups[at], return_index=True, return_counts=True)
        turn = np.arange(len(at)) - np.repeat(first, count)
        order.append(at[np.lexsort((rng.permutation(len(at)), turn))])
    return order


def _point(shots: int, fits: Sequence[FewShotFit]) -> FewShotPoint:
    level = Level(*mean_and_sd([fit.scores for fit in fits]))
    random_features = Level(*mean_and_sd([fit.random_features for fit in fits]))
    return FewShotPoint(shots, len(fits), level, random_features)


def _notes(ready: Prepared, shots: Sequence[int]) -> Iterator[str]:
    """Say what C was, and where classes have fewer spots than wanted."""
    if ready.settings.C is None:
        yield f"C is {ClassTask.default_C:g}; few spots leave none to choose it by."
    for number, fold in enumerate(ready.plan, 1):
        counts = np.bincount(ready.spots.truth[fold.train], minlength=len(ready.spots.classes))
        few = [at for at in np.argsort(counts, kind="stable") if counts[at] < shots[-1]]
        if few:
            names = ", ".join(f"{ready.spots.classes[at]!r} ({counts[at]})" for at in few)
            yield f"Fold {number} trains on all spots of classes with fewer than {shots[-1]}: {names}."
