"""How a query is asked, whatever is asked: read once, checked, and never changed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeGuard

import numpy as np

from stamp_index.search.filtering import parse_filter
from stamp_index.search.filtering.nodes import And, Compare, In, Known, Not, Or
from stamp_index.store import Modality
from stamp_index.store.schema import MODALITIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from stamp_index.search.filtering import Condition


Against: TypeAlias = Modality | Mapping[Modality, float]
OnePer: TypeAlias = Literal["slide", "patient"] | float | None

DEFAULT_K: Final = 48
_MOST_UM: Final = 1e9  # longer than any slide
DEFAULT_RECALL: Final = 0.99
RECALLS: Final = (0.95, 0.99, 1.0)


@dataclass(frozen=True)
class Ask:
    """What every query is asked with.

    Attributes
    ----------
    against : tuple of (modality, weight)
        Embeddings that are searched; the weights are above 0 and add up to 1.
    k : int
        Hits wanted.
    condition : Condition or None
        Which spots may be hits.
    one_per : {"slide", "patient"}, float or None
        Of what there may be one hit only; a number is a radius in microns.
    recall : float
        One of `RECALLS`; 1 is exact search.
    """

    against: tuple[tuple[Modality, float], ...]
    k: int
    condition: Condition | None
    one_per: OnePer
    recall: float

    @classmethod
    def of(
        cls,
        against: Against,
        *,
        k: int,
        filters: Condition | str | None = None,
        one_per: OnePer = None,
        recall: float = DEFAULT_RECALL,
    ) -> Ask:
        """Check what a caller gave.

        Raises
        ------
        QueryError
            If the text of a filter cannot be read.
        ValueError
            If `against`, `k`, `one_per` or `recall` is no such thing.
        """
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
            msg = f"k is {k!r}; expected a whole number of hits, 1 or more."
            raise ValueError(msg)
        if filters is not None and not isinstance(filters, (str, And, Or, Not, Compare, In, Known)):
            msg = (
                f"filters is {filters!r}; expected text such as 'organ == \"breast\"', or a Condition that "
                f"parse_filter or all_of made."
            )
            raise ValueError(msg)
        if isinstance(recall, bool) or recall not in RECALLS:
            known = ", ".join(str(value) for value in RECALLS[:-1])
            msg = f"recall is {recall!r}; expected {known}, or 1.0 for exact search."
            raise ValueError(msg)
        return cls(
            against=_weights(against),
            k=int(k),
            condition=parse_filter(filters) if isinstance(filters, str) else filters,
            one_per=_checked_one_per(one_per),
            recall=float(recall),
        )

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Embeddings that are searched."""
        return tuple(modality for modality, _ in self.against)


@dataclass(frozen=True)
class QueryKind:
    """What random queries of the same make are like.

    Attributes
    ----------
    name : {"image", "gene", "signature", ""}
        "image" and "gene" for queries that are like these embeddings of the store's spots; "" where
        nothing is known.
    draw : callable or None
        ``draw(n, rng)`` makes n random queries of a kind that no spot is of: float32 (n, d), unit length.
    """

    name: Literal["image", "gene", "signature", ""] = ""
    draw: Callable[[int, np.random.Generator], NDArray[np.float32]] | None = field(
        default=None, compare=False
    )


NO_KIND: Final = QueryKind()
ROW_KINDS: Final[dict[Modality, QueryKind]] = {name: QueryKind(name) for name in MODALITIES}


@dataclass(frozen=True)
class Asked:
    """What one query is, in words, and what it wants to know of its hits.

    Attributes
    ----------
    text : str
        For `Hits.query`.
    genes : tuple of str
        The store's genes to report.
    notes : tuple of str
        What should be known about the query.
    weights : tuple of (str, float)
        Signature by the store's genes; empty for other queries.
    by_measured : bool
        Whether hits are put in the order of the signature as it was measured at them.
    kind : QueryKind
        What random queries of its make are like.
    """

    text: str
    genes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    weights: tuple[tuple[str, float], ...] = ()
    by_measured: bool = False
    kind: QueryKind = NO_KIND


def check_modality(modality: object) -> Modality:
    """Return one of the two, or refuse.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if modality not in MODALITIES:
        msg = f"There are no {modality!r} embeddings; expected 'image' or 'gene'."
        raise ValueError(msg)
    return modality


def _weights(against: Against) -> tuple[tuple[Modality, float], ...]:
    if not isinstance(against, Mapping):
        if against not in MODALITIES:
            msg = f"against is {against!r}; expected 'image', 'gene', or weights such as {{'image': 0.5, 'gene': 0.5}}."
            raise ValueError(msg)
        return ((check_modality(against), 1.0),)
    given = {check_modality(modality): weight for modality, weight in against.items()}
    good = [_is_number(weight) and 0 <= weight < math.inf for weight in given.values()]
    total = sum(given.values()) if all(good) else 0.0
    if not 0 < total < math.inf:
        msg = (
            f"against is {dict(against)!r}; expected 'image', 'gene', or weights of 0 or more, not all 0, such as "
            f"{{'image': 0.5, 'gene': 0.5}}."
        )
        raise ValueError(msg)
    return tuple((name, given[name] / total) for name in MODALITIES if given.get(name))


def _checked_one_per(one_per: OnePer) -> OnePer:
    if one_per is None or (isinstance(one_per, str) and one_per in ("slide", "patient")):
        return one_per
    if not _is_number(one_per) or not 0 < one_per <= _MOST_UM:
        msg = (
            f"one_per is {one_per!r}; expected 'slide', 'patient', or a radius in microns above 0."
        )
        raise ValueError(msg)
    return float(one_per)


def _is_number(value: Any) -> TypeGuard[float]:  # noqa: ANN401 - whatever a caller gave
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def checked_vector(vector: ArrayLike, dim: int) -> NDArray[np.float32]:
    """One unit vector, as (1, d).

    Raises
    ------
    ValueError
        If it has another shape, holds NaN or infinite values, or is all zeros.
    """
    values: NDArray[Any] = np.asarray(vector)
    if values.shape != (dim,) or values.dtype.kind not in "fiu":
        msg = (
            f"The vector is {values.dtype} of shape {values.shape}; this store's embeddings have "
            f"{dim} numbers."
        )
        raise ValueError(msg)
    return checked_vectors(values[None], dim)


def checked_vectors(vectors: ArrayLike, dim: int) -> NDArray[np.float32]:
    """Scale vectors (q, d) to unit length.

    Raises
    ------
    ValueError
        If they have another shape, or one of them has no direction.
    """
    values: NDArray[Any] = np.asarray(vectors)
    if values.ndim != 2 or values.shape[1] != dim or values.dtype.kind not in "fiu":
        msg = (
            f"The vectors are {values.dtype} of shape {values.shape}; expected (q, {dim}): this "
            f"store's embeddings have {dim} numbers."
        )
        raise ValueError(msg)
    asked = values.astype(np.float64)
    lengths = np.linalg.norm(asked, axis=1)
    wrong = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
    if len(wrong):
        which = f"Vector {wrong[0]}" if len(values) > 1 else "The vector"
        msg = (
            f"{which} has length {lengths[wrong[0]]}; expected a finite one that is not all zeros."
        )
        raise ValueError(msg)
    unit: NDArray[np.float32] = (asked / lengths[:, None]).astype(np.float32)
    return unit
