"""Values of a slide's spots as codes of 16 bits, and what the codes mean.

A viewer turns codes into colours by a table of 65,536 entries, so that another range of colours costs no new
data; half the bytes of float32, and a precision of one in 65,534 of the range.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pandas as pd

from stamp_index.errors import QueryError
from stamp_index.export.category_colours import MAX_CATEGORIES
from stamp_index.store.label_classes import classes_of, is_quantity
from stamp_index.view.spots import rows_of_slide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stamp_index.store.view import StoreView

TOP: Final = 65_535
UNIT: Final = "log1p CP10K"


@dataclass(frozen=True)
class LayerMeaning:
    """What the codes of a layer mean.

    Attributes
    ----------
    name : str
        Of the gene or label.
    kind : {"continuous", "categories"}
    unit : str
        "" where there is none.
    low, high : float
        Continuous: code 0 is not known, code c is ``low + (c - 1) / 65534 * (high - low)``.
    p1, p99 : float
        Percentiles of the known values.
    categories : tuple of str
        Code 0 is not known, code i the i-th category.
    note : str
        What must be said beside the layer, such as that it is predicted.
    """

    name: str
    kind: Literal["continuous", "categories"]
    unit: str = ""
    low: float = 0.0
    high: float = 1.0
    p1: float = 0.0
    p99: float = 1.0
    categories: tuple[str, ...] = ()
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Layer:
    """Codes of a slide's spots, (n,) uint16 in the order of its rows, and what they mean."""

    codes: NDArray[np.uint16]
    meaning: LayerMeaning

    def values(self) -> NDArray[np.float64]:
        """Numbers that the codes of a continuous layer stand for, (n,); NaN is not known."""
        low, high = self.meaning.low, self.meaning.high
        values = low + (self.codes - 1.0) / (TOP - 1) * (high - low)
        values[self.codes == 0] = np.nan
        return values


def gene_layer(store: StoreView, slide_id: str, gene: str) -> Layer:
    """Measured expression of a gene, log1p of counts per 10,000.

    Raises
    ------
    QueryError
        If there is no such slide, or it did not measure the gene.
    """
    rows = rows_of_slide(store, slide_id)
    if gene not in store.genes_of(slide_id):
        msg = f"{gene} was not measured on slide {slide_id}. Ask for its prediction, or for another gene."
        raise QueryError(msg)
    return continuous(store.expression([gene], rows)[:, 0], name=gene, unit=UNIT)


def label_layer(store: StoreView, slide_id: str, label: str) -> Layer:
    """Read a label of a slide's spots: see `layer_of_label`.

    Raises
    ------
    QueryError
        If there is no such slide or label, or the label has more than 200 values here.
    """
    return layer_of_label(store.label(label, rows_of_slide(store, slide_id)), name=label)


def layer_of_label(values: pd.Series[Any], *, name: str) -> Layer:
    """Layer of a label's values, (n,): continuous where they are a quantity, else categories. Missing is not known.

    Whole numbers of which there are at most 20 are categories: see `is_quantity`.

    Raises
    ------
    QueryError
        If there are more than 200 categories.
    """
    return values_layer(values, name=name) if is_quantity(values) else categories(values, name=name)


def values_layer(values: pd.Series[Any], *, name: str) -> Layer:
    """Layer of any values, (n,): numbers are continuous, all else is categories. Missing is not known.

    Raises
    ------
    QueryError
        If there are more than 200 categories.
    """
    types = pd.api.types
    if types.is_numeric_dtype(values) and not types.is_bool_dtype(values):
        return continuous(values.to_numpy(np.float64, na_value=np.nan), name=name)
    return categories(values, name=name)


def continuous(values: NDArray[Any], *, name: str, unit: str = "", note: str = "") -> Layer:
    """Layer of numbers, (n,); NaN is not known."""
    values = np.asarray(values, np.float64)
    known = np.isfinite(values)
    codes = np.zeros(len(values), np.uint16)
    if not known.any():
        return Layer(codes, LayerMeaning(name, "continuous", unit, note=note))
    held = values[known]
    low, high = min(0.0, float(held.min())), float(held.max())
    high = high if high > low else low + 1.0
    codes[known] = 1 + np.round((held - low) / (high - low) * (TOP - 1)).astype(np.uint16)
    p1, p99 = (float(value) for value in np.quantile(held, (0.01, 0.99)))
    return Layer(codes, LayerMeaning(name, "continuous", unit, low, high, p1, p99, note=note))


def categories(values: pd.Series[Any], *, name: str, order: Sequence[str] | None = None) -> Layer:
    """Layer of names, (n,); None is not known.

    Parameters
    ----------
    values : Series of n str or None
    name : str
        Of the layer.
    order : sequence of str, optional
        The categories, whether or not they are there, so that slides have the same codes; values that are none of
        them are not known. By default those that are there, sorted.

    Raises
    ------
    QueryError
        If there are more than 200.
    """
    if order is None:
        codes, names = classes_of(values)
    else:
        names = tuple(order)
        codes = pd.Index(order).get_indexer(pd.Index(values))
    if len(names) > MAX_CATEGORIES:
        msg = f"The label {name} has {len(names)} values on this slide; at most {MAX_CATEGORIES} are drawn."
        raise QueryError(msg)
    meaning = LayerMeaning(name, "categories", categories=names)
    return Layer((codes + 1).astype(np.uint16), meaning)
