"""Spots whose domain somebody has named, and the slides and patients whose clusters are compared with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pandas as pd

from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.spots import read_spots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stamp_index.evaluate.spots import EvaluatedSpots
    from stamp_index.store.view import StoreView

MAX_CLASSES: Final = 100  # more are measurements, not domains


@dataclass(frozen=True)
class Group:
    """Slides that are clustered together.

    Attributes
    ----------
    scope : {"slide", "patient"}
        One slide, or all slides of a patient that has several.
    name : str
        Id of the slide or patient.
    slide_ids : tuple of str
    """

    scope: Literal["slide", "patient"]
    name: str
    slide_ids: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class LabelledSpots:
    """Spots with a class, of slides that have at least two.

    Attributes
    ----------
    label : str
    spots : EvaluatedSpots
        Without vectors.
    code : ndarray of shape (n,), int64
        Number of each spot's class, into `classes`.
    classes : tuple of str
        Sorted.
    notes : tuple of str
        What was left out, and why.
    """

    label: str
    spots: EvaluatedSpots
    code: NDArray[np.int64]
    classes: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def groups(self) -> tuple[Group, ...]:
        """Every slide, then every patient that has several slides."""
        slides, patients = self.spots.slide_ids, self.spots.patient_ids
        single = [Group("slide", slides[at], (slides[at],)) for at in np.unique(self.spots.slide)]
        pooled = []
        for one in np.unique(self.spots.patient):
            held = np.unique(self.spots.slide[self.spots.patient == one])
            if len(held) > 1:
                pooled.append(Group("patient", patients[one], tuple(slides[at] for at in held)))
        return (*single, *pooled)


def read_labelled(
    store: StoreView, label: str, slides: Sequence[str] | None = None, exclude: Sequence[str] = ()
) -> LabelledSpots:
    """Spots that have a label, in the order of `read_spots`.

    Parameters
    ----------
    store : StoreView
    label : str
    slides : sequence of str, optional
        All slides by default.
    exclude : sequence of str
        Classes whose spots are left out, such as "undetermined".

    Raises
    ------
    QueryError
        If no slide of the store has such a label.
    EvaluationError
        If a slide or an excluded class is not there, the label has too many values to be domains, or no slide has two
        classes.
    """
    if not len(store.slides()):
        msg = f"The store at {store.place} has no slides yet. Add some first."
        raise EvaluationError(msg)
    spots = read_spots(store, (), slides)
    text = class_names(store.label(label, spots.rows))
    notes: list[str] = []
    is_missing = text.isna().to_numpy()
    text = _without(text, exclude, label, notes)
    classes = sorted(set(text.dropna()))
    if len(classes) > MAX_CLASSES:
        msg = (
            f"Label '{label}' has {len(classes):,} different values, such as '{classes[0]}'; domains are at most "
            f"{MAX_CLASSES}. Choose a label with classes."
        )
        raise EvaluationError(msg)
    code = pd.Categorical(text, categories=classes).codes.astype(np.int64)
    takes_part = np.isin(spots.slide, _slides_with_classes(spots, code, label, notes))
    n_missing = int((is_missing & takes_part).sum())
    if n_missing:
        notes.append(
            f"{n_missing:,} of the {int(takes_part.sum()):,} spots of the other slides have no label '{label}' and "
            "were left out."
        )
    kept = takes_part & (code >= 0)
    return LabelledSpots(label, spots.at(kept), code[kept], tuple(classes), tuple(notes))


def class_names(values: pd.Series[Any]) -> pd.Series[Any]:
    """Classes as text: whole numbers without decimals, None for what is missing or blank."""

    def name(value: object) -> str | None:
        if value is None or value != value:  # NaN
            return None
        if isinstance(value, float) and value.is_integer():
            return str(int(value))
        return str(value).strip() or None

    return pd.Series([name(value) for value in values], dtype=object)


def some(names: Sequence[str]) -> str:
    """Write the first eight names, and how many more there are."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _without(
    text: pd.Series[Any], exclude: Sequence[str], label: str, notes: list[str]
) -> pd.Series[Any]:
    """Classes with None for those that are excluded."""
    held = sorted(set(text.dropna()))
    unknown = [name for name in exclude if name not in held]
    if unknown:
        msg = (
            f"Label '{label}' has no class {', '.join(map(repr, unknown))} on these slides; its classes are "
            f"{', '.join(map(repr, held[:20])) or 'none'}. Correct the classes that are excluded."
        )
        raise EvaluationError(msg)
    out = text.isin(list(exclude))
    if out.any():
        notes.append(
            f"{int(out.sum()):,} spots of class {', '.join(map(repr, exclude))} were left out, as asked."
        )
    return text.where(~out, None)


def _slides_with_classes(
    spots: EvaluatedSpots, code: NDArray[np.int64], label: str, notes: list[str]
) -> list[int]:
    """Numbers of the slides with at least two classes; notes the others."""
    n_classes = [
        len(np.unique(code[(spots.slide == at) & (code >= 0)]))
        for at in range(len(spots.slide_ids))
    ]
    for few, said in ((0, f"has no label '{label}'"), (1, f"has one class of '{label}' only")):
        names = [spots.slide_ids[at] for at, n in enumerate(n_classes) if n == few]
        if names:
            notes.append(f"Left out, as each {said}: {some(names)}.")
    kept = [at for at, n in enumerate(n_classes) if n > 1]
    if not kept:
        msg = (
            f"None of the {len(n_classes)} slides has spots of two classes of label '{label}', so there is nothing to "
            "compare clusters with. Choose another label, other slides, or exclude fewer classes."
        )
        raise EvaluationError(msg)
    return kept
