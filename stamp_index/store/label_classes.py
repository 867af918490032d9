"""Labels as classes: which labels are some, under which names, and in which order."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

MOST_NUMBERED: Final = 20  # numbers of clusters or grades; more whole numbers are counts
_WHOLE: Final = re.compile(r"-?[0-9]+")


def is_quantity(values: pd.Series[Any]) -> bool:
    """Whether a label's values stand on a scale, and are no classes.

    Numbers do, unless they are whole and at most 20 different ones: those are clusters or grades, also where they were
    stored as text. Missing values say nothing.

    Parameters
    ----------
    values : Series of shape (n,)
        As `Store.label` returns them.

    Examples
    --------
    >>> is_quantity(pd.Series([0.0, 3.0, 12.0, None])), is_quantity(pd.Series([0.5, 3.0]))
    (False, True)
    """
    types = pd.api.types
    if not types.is_numeric_dtype(values) or types.is_bool_dtype(values):
        return False
    different = values.dropna().unique().astype(np.float64)
    whole = np.isfinite(different) & (different == np.round(different))
    return not (0 < len(different) <= MOST_NUMBERED and bool(whole.all()))


def classes_of(values: pd.Series[Any]) -> tuple[NDArray[np.intp], tuple[str, ...]]:
    """Give the classes of spots numbers.

    Parameters
    ----------
    values : Series of shape (n,)

    Returns
    -------
    codes : ndarray of shape (n,), intp
        Place of each value's class in `names`; -1 where it is missing.
    names : tuple of str
        The classes that are there, sorted: whole numbers by size and without decimals, also those that are text.
    """
    codes, found = pd.factorize(values, sort=True)
    names = [class_name(one) for one in found]
    if not _all_whole(names):
        return np.asarray(codes), tuple(names)  # a Categorical has an order of its own
    ordered = in_order(names)
    place = np.array([*pd.Index(ordered).get_indexer(pd.Index(names)), -1], np.intp)
    return place[codes], tuple(ordered)


def class_name(value: object) -> str:
    """Write a class as text; whole numbers without their decimals."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def in_order(names: Iterable[str]) -> list[str]:
    """Sort names of classes as `classes_of` does: by size where all are whole numbers, else as text."""
    held = list(names)
    return sorted(held, key=int) if _all_whole(held) else sorted(held)


def _all_whole(names: list[str]) -> bool:
    return all(_WHOLE.fullmatch(name) for name in names)
