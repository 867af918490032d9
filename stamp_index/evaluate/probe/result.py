"""What a probe found."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from stamp_index.evaluate.probe.snippet import python_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from numpy.typing import NDArray

    from stamp_index.evaluate.probe.settings import ProbeSettings


@dataclass(frozen=True)
class ProbeSource:
    """What a probe was run on.

    Attributes
    ----------
    store_path, store_id : str
        Where the store lay, and the name it was given when it was made.
    store_version : int
    encoder, fingerprint : str
        Whose embeddings.
    split_hash : str
        Of the row ids and their folds: two results with the same were tested on the same spots.
    """

    store_path: str
    store_id: str
    store_version: int
    encoder: str
    fingerprint: str
    split_hash: str


@dataclass(frozen=True)
class ProbeCounts:
    """How much a probe was run on: spots, groups of its split, slides, patients that are known."""

    spots: int
    groups: int
    slides: int
    patients: int


@dataclass(frozen=True)
class ProbeFold:
    """One fold.

    Attributes
    ----------
    number : int
        From 1.
    n_train, n_test, n_near : int
        Spots of the training and the test part, and those left out because they are too near to the test part.
    held_out : tuple of str
        Slides or patients of the test part; none with blocks and single spots.
    C : float
    converged : bool
    scores : dict of str to float
    """

    number: int
    n_train: int
    n_test: int
    n_near: int
    held_out: tuple[str, ...]
    C: float
    converged: bool
    scores: dict[str, float]


@dataclass(frozen=True)
class Level:
    """Mean and sample standard deviation over folds of each number (NaN where it is not defined)."""

    mean: dict[str, float]
    sd: dict[str, float]


@dataclass(frozen=True)
class ClassScore:
    """One class: its share found, over all folds, its spots, and how often it was said."""

    name: str
    recall: float
    support: int
    n_predicted: int


@dataclass(frozen=True, eq=False)
class ProbePredictions:
    """Every spot, as the fold saw it that held it out.

    Attributes
    ----------
    rows, fold : ndarray of shape (n,), int64
        Row id, and number of the fold from 1.
    spot_ids, slide_ids : ndarray of shape (n,), object
    truth, predicted : ndarray of shape (n,)
        Names of classes (object), or expression (float64).
    output : ndarray of shape (n, k), float64
        Probability of each class in the order of `ProbeResult.classes`; for a gene the prediction.
    """

    rows: NDArray[np.int64]
    fold: NDArray[np.int64]
    spot_ids: NDArray[np.object_]
    slide_ids: NDArray[np.object_]
    truth: NDArray[Any]
    predicted: NDArray[Any]
    output: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """What `run_probe` found.

    Attributes
    ----------
    settings : ProbeSettings
    source : ProbeSource
    counts : ProbeCounts
    classes : tuple of str
        Sorted; none for a gene.
    folds : tuple of ProbeFold
    level : Level
        The probe: ``balanced_accuracy``, ``macro_f1``, ``auroc``; or ``pearson``, ``spearman``, ``r2``.
    pooled : dict of str to float
        The same numbers over the held-out spots of all folds together. Pooled AUROC and correlations compare spots
        across probes, so they are usually below the mean over folds.
    levels : dict of str to Level
        Probes that see nothing of the spots: ``random_features`` (the same probe on noise), and ``majority`` and
        ``stratified``, or ``train_mean``.
    per_class : tuple of ClassScore
    confusion : ndarray of shape (k, k), int64
        Spots of each class (rows) by predicted class (columns); (0, 0) for a gene.
    predictions : ProbePredictions
    notes, warnings : tuple of str
        What was left out; and why the numbers may be too good.
    drawn : mapping of int to str, optional
        The labels that were given instead of stored ones.
    """

    settings: ProbeSettings
    source: ProbeSource
    counts: ProbeCounts
    classes: tuple[str, ...]
    folds: tuple[ProbeFold, ...]
    level: Level
    pooled: dict[str, float]
    levels: dict[str, Level]
    per_class: tuple[ClassScore, ...]
    confusion: NDArray[np.int64]
    predictions: ProbePredictions
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    drawn: Mapping[int, str] | None = None

    @property
    def metric(self) -> str:
        """The number by which a probe is judged."""
        return "balanced_accuracy" if self.classes else "pearson"

    @property
    def chance(self) -> float:
        """What guessing gives of `metric`: 1 / number of classes, or no correlation."""
        return 1.0 / len(self.classes) if self.classes else 0.0

    def to_json(self, *, predictions: bool = False) -> str:
        """Every number as JSON; what is not defined is null.

        Parameters
        ----------
        predictions : bool
            Also every spot: row, fold, ids, truth, predicted, output. `result_from_json` reads it back.
        """
        values: dict[str, Any] = {
            name: asdict(getattr(self, name)) for name in ("settings", "source", "counts", "level")
        }
        for name in ("folds", "per_class"):
            values[name] = [asdict(one) for one in getattr(self, name)]
        for name in ("classes", "metric", "chance", "pooled", "notes", "warnings"):
            values[name] = getattr(self, name)
        values["levels"] = {name: asdict(level) for name, level in self.levels.items()}
        values["confusion"] = self.confusion.tolist()
        if predictions:
            held = self.predictions
            names = [one.name for one in fields(held)]
            values["predictions"] = {name: getattr(held, name).tolist() for name in names}
        return json.dumps(without_nan(values), indent=1, allow_nan=False)

    def to_pandas(self) -> pd.DataFrame:
        """One row per spot, in the order of the row ids.

        Columns: spot_id, slide_id, fold, truth, predicted; and for classes right (bool) and probability (of the
        true class), for a gene residual (predicted less measured).
        """
        import pandas as pd

        held = self.predictions
        frame = pd.DataFrame(
            {
                "spot_id": held.spot_ids,
                "slide_id": held.slide_ids,
                "fold": held.fold,
                "truth": held.truth,
                "predicted": held.predicted,
            },
            index=pd.Index(held.rows, name="row"),
        )
        if self.classes:
            place = {name: number for number, name in enumerate(self.classes)}
            true = np.array([place[name] for name in held.truth], np.int64)
            frame["right"] = held.truth == held.predicted
            frame["probability"] = held.output[np.arange(len(true)), true]
        else:
            frame["residual"] = held.predicted - held.truth
        return frame

    def to_python(self) -> str:
        """Python that repeats this run and leaves it in ``result``."""
        return python_of(self.settings, self.source, self.drawn)


def without_nan(value: Any) -> Any:  # noqa: ANN401 - whatever JSON may hold
    """Put null for numbers that JSON has no sign for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: without_nan(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(part) for part in value]
    return value
