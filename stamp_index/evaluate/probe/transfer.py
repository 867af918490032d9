"""A probe that learns on some slides and is tried on others, once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from stamp_index.evaluate.probe.errors import ProbeError
from stamp_index.evaluate.probe.folds import RANDOM, cross_validate
from stamp_index.evaluate.probe.scores import confusion
from stamp_index.evaluate.probe.splits import plan_transfer
from stamp_index.evaluate.probe.spots import find_spots, read_features
from stamp_index.evaluate.probe.tasks import ClassTask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stamp_index.evaluate.probe.settings import ProbeSettings
    from stamp_index.store.view import StoreView


@dataclass(frozen=True, eq=False)
class TransferResult:
    """What `transfer_probe` found.

    Attributes
    ----------
    classes : tuple of str
    n_train, n_test : int
        Spots.
    scores : dict of str to float
        ``balanced_accuracy``, ``macro_f1``, ``auroc`` on the tested spots.
    random_features : dict of str to float
        The same of a probe on noise.
    C : float
        Inverse strength of the penalty, chosen on the training slides.
    confusion : ndarray of shape (k, k), int64
        Tested spots of each class (rows) by predicted class (columns).
    notes : tuple of str
        Which spots were left out.
    """

    classes: tuple[str, ...]
    n_train: int
    n_test: int
    scores: dict[str, float]
    random_features: dict[str, float]
    C: float
    confusion: NDArray[np.int64]
    notes: tuple[str, ...]

    @property
    def chance(self) -> float:
        """Balanced accuracy of guessing among the classes that are tested."""
        return 1.0 / int((self.confusion.sum(axis=1) > 0).sum())

    @property
    def accuracy(self) -> float:
        """Share of tested spots whose class was told."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def majority(self) -> float:
        """Accuracy of always saying the commonest class that is tested."""
        return float(self.confusion.sum(axis=1).max() / self.confusion.sum())


def transfer_probe(
    store: StoreView, settings: ProbeSettings, train: Sequence[str], test: Sequence[str]
) -> TransferResult:
    """Learn a label's classes on the training slides and tell them on the tested ones.

    Parameters
    ----------
    store : StoreView
    settings : ProbeSettings
        Label, features, C, classes and seed; its split and slides are not looked at.
    train, test : sequence of str
        Slide ids; the caller sees to it that no patient is on both sides, or says so.

    Returns
    -------
    TransferResult

    Raises
    ------
    ProbeError
        If a side has no labelled spot, or the training slides have one class.
    QueryError
        If there is no such slide or label.
    """
    if not settings.label:
        msg = f"A probe that is carried from slides to slides is of a label; the settings are for gene {settings.gene}."
        raise ValueError(msg)
    asked = replace(settings, slides=(*train, *test))
    spots = find_spots(store, asked).sampled(asked)
    is_train = spots.table["slide_id"].isin(list(train)).to_numpy()
    n_classes = len(np.unique(spots.truth[is_train]))
    if n_classes < 2 or is_train.all():
        held = (
            "the tested slides have no spot"
            if is_train.all()
            else (f"the training slides have {n_classes} class{'es' * (n_classes != 1)}")
        )
        msg = (
            f"Nothing can be carried from {', '.join(train)} to {', '.join(test)}: {held} with label '{settings.label}'. "
            "Label more spots."
        )
        raise ProbeError(msg)
    fold = plan_transfer(spots.places, spots.class_of, is_train, seed=settings.seed)
    task = ClassTask(len(spots.classes))
    features = read_features(store, settings.features, spots.rows)
    output, (outcome,) = cross_validate(
        features, spots.truth, [fold], task, C=settings.C, seed=settings.seed
    )
    said = output[fold.test].argmax(axis=1)
    return TransferResult(
        spots.classes,
        len(fold.train),
        len(fold.test),
        outcome.scores,
        outcome.levels[RANDOM],
        outcome.C,
        confusion(spots.truth[fold.test], said, len(spots.classes)),
        spots.notes,
    )
