"""Which part of a gallery is a query's own slide, its patient's other slides, and other patients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

BLOCK: Final = 512  # queries at once
OWN_SLIDE, OWN_PATIENT, OTHERS = 0, 1, 2  # zones: nested, from the nearest outwards
N_ZONES: Final = 3


@dataclass(frozen=True)
class Block:
    """Queries ``start`` to ``stop``, all of one slide, and the zones of the gallery as they see it.

    Attributes
    ----------
    start, stop : int
    stretches : tuple of (int, int, int)
        First and last-plus-one target, and the zone; they cover the gallery without overlap.
    """

    start: int
    stop: int
    stretches: tuple[tuple[int, int, int], ...]


def blocks(slide: NDArray[np.int64], patient: NDArray[np.int64]) -> Iterator[Block]:
    """Blocks of queries over a gallery that is the same spots.

    Parameters
    ----------
    slide, patient : ndarray of shape (n,), int64
        Ascending numbers; spots of a slide stand together, and slides of a patient.
    """
    n = len(slide)
    for first, last in _runs(slide):
        p_first = int(np.searchsorted(patient, patient[first], "left"))
        p_last = int(np.searchsorted(patient, patient[first], "right"))
        around = (
            (0, p_first, OTHERS),
            (p_first, first, OWN_PATIENT),
            (first, last, OWN_SLIDE),
            (last, p_last, OWN_PATIENT),
            (p_last, n, OTHERS),
        )
        stretches = tuple(one for one in around if one[0] < one[1])
        for start in range(first, last, BLOCK):
            yield Block(start, min(start + BLOCK, last), stretches)


def zone_sizes(slide: NDArray[np.int64], patient: NDArray[np.int64]) -> NDArray[np.int64]:
    """Targets in each zone of each spot, (n, 3)."""
    of_slide = np.bincount(slide)[slide]
    of_patient = np.bincount(patient)[patient]
    return np.column_stack([of_slide, of_patient - of_slide, len(slide) - of_patient])


def _runs(numbers: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """First and last-plus-one place of each stretch of equal numbers."""
    edges = np.flatnonzero(np.diff(numbers)) + 1
    bounds = [0, *edges.tolist(), len(numbers)]
    yield from zip(bounds[:-1], bounds[1:], strict=True)
