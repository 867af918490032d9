"""Values of a slide's spots that a figure is coloured by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

import numpy as np

from stamp_index.errors import QueryError
from stamp_index.export.category_colours import MAX_CATEGORIES
from stamp_index.export.choosing import choose_slides, each, rows_of
from stamp_index.store.label_classes import classes_of, is_quantity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.store.view import StoreView

Origin: TypeAlias = Literal["measured", "predicted", "label"]
UNIT: Final = "log1p CP10K"
_ENDS: Final = (0.01, 0.99)  # quantiles where colours end: one spot must not take them all


@dataclass(frozen=True)
class SpotValues:
    """What spots are coloured by.

    Attributes
    ----------
    xy_px : ndarray of shape (n, 2), float64
        Centres in level-0 pixels.
    values : ndarray of shape (n,), float64
        NaN is not drawn. Of categories: their codes, from 0.
    name : str
        Such as a gene's.
    unit : str
        Stands at the colour bar; "" where there is none.
    origin : {"measured", "predicted", "label"}
        Where the values are from. The title says of expression whether it was measured, and nothing of a label.
    categories : tuple of str
        What the codes mean, at most 200; none where values are numbers.

    Raises
    ------
    ValueError
        If there are not as many places as values, a value is no code of `categories`, these are too many, or `origin` is
        none of the three.
    """

    xy_px: NDArray[np.float64]
    values: NDArray[np.float64]
    name: str
    unit: str = UNIT
    origin: Origin = "measured"
    categories: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.xy_px.shape != (len(self.values), 2):
            msg = f"{len(self.values)} values stand at places of shape {self.xy_px.shape}; expected (n, 2)."
            raise ValueError(msg)
        if self.origin not in get_args(Origin):
            msg = f"origin is {self.origin!r}; expected 'measured', 'predicted' or 'label'."
            raise ValueError(msg)
        if self.categories:
            self._check_codes()

    def _check_codes(self) -> None:
        n = len(self.categories)
        if n > MAX_CATEGORIES:
            msg = f"{n} categories are to be drawn; at most {MAX_CATEGORIES} are. Merge some."
            raise ValueError(msg)
        wrong = ~np.isin(self.values, np.arange(n)) & ~np.isnan(self.values)
        if wrong.any():
            msg = (
                f"A value is {self.values[wrong][0]:g}; expected a code from 0 to {n - 1}, or NaN."
            )
            raise ValueError(msg)


def measured_values(store: StoreView, slide_id: str, gene: str) -> SpotValues:
    """Measured expression of a gene on a slide, to be drawn.

    Parameters
    ----------
    store : Store
    slide_id : str
    gene : str
        A symbol of the store.

    Raises
    ------
    QueryError
        If the store has no such slide, or the slide did not measure the gene.
    MissingGenesError
        If no slide measured the gene.
    """
    slide = next(each(choose_slides(store, slide_id)))
    values = store.expression([gene], rows_of(slide))[:, 0].astype(np.float64)
    if not np.isfinite(values).any():
        msg = f"{gene} was not measured on slide '{slide_id}'. Predict it with predict_map, or choose another gene."
        raise QueryError(msg)
    return SpotValues(centres_of(store, slide), values, gene)


def label_values(store: StoreView, slide_id: str, label: str) -> SpotValues:
    """Label of a slide's spots, to be drawn: in one colour for each of its values, or by size where they are a quantity.

    Whole numbers of which there are at most 20 are no quantity, but names of clusters or grades, as in the viewer.

    Parameters
    ----------
    store : Store
    slide_id : str
    label : str
        One of the store's.

    Raises
    ------
    QueryError
        If the store has no such slide or label, no spot of the slide has it, or it has more than 200 values here.

    Examples
    --------
    >>> SlideFigure(store, "P1_A", label_values(store, "P1_A", "domain")).png()  # doctest: +SKIP
    """
    slide = next(each(choose_slides(store, slide_id)))
    held = store.label(label, rows_of(slide))
    if held.isna().all():
        msg = f"No spot of slide '{slide_id}' has the label {label}. Choose another label or slide."
        raise QueryError(msg)
    xy = centres_of(store, slide)
    if is_quantity(held):
        values = held.to_numpy(np.float64, na_value=np.nan)
        return SpotValues(xy, values, label, unit="", origin="label")
    codes, names = classes_of(held)  # in the viewer's order, and so in its colours
    if len(names) > MAX_CATEGORIES:
        msg = f"The label {label} has {len(names)} values on this slide; at most {MAX_CATEGORIES} are drawn."
        raise QueryError(msg)
    values = np.where(codes < 0, np.nan, codes)
    return SpotValues(xy, values, label, "", "label", names)


def centres_of(store: StoreView, slide: Any) -> NDArray[np.float64]:  # noqa: ANN401
    """Patch centres (n, 2) of a slide in level-0 pixels."""
    return store.spots(["x_px", "y_px"], rows_of(slide)).to_numpy(np.float64)


def pitch_of(xy: NDArray[np.float64]) -> float:
    """Usual distance of a spot from its nearest neighbour, in level-0 pixels."""
    from scipy.spatial import KDTree

    if len(xy) < 2:
        return 100.0
    some = xy[:: max(1, len(xy) // 1000)]
    distance = np.asarray(KDTree(xy).query(some, k=2)[0])[:, 1]
    return float(np.median(distance)) or 1.0


def colour_ends(values: NDArray[np.float64]) -> tuple[float, float]:
    """Values where the colours end, NaN aside; apart from each other even where all are the same."""
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0, 1.0
    low, high = (float(value) for value in np.quantile(known, _ENDS))
    return (low, high) if high - low > 1e-6 else (low, low + 1.0)
