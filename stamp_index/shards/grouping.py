"""Dividing the positions of an index between slides, so that every shard has about as many rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stamp_index.errors import AnnIndexError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stamp_index.index.difference import SlideFacts


def slide_numbers(rows: NDArray[np.int64], slides: Sequence[SlideFacts]) -> NDArray[np.int64]:
    """Return the number of each row's slide in `slides`, (n,), int64; -1 for rows of none of them."""
    order = np.argsort([facts[2] for facts in slides], kind="stable")
    first = np.array([slides[i][2] for i in order], np.int64)
    stop = first + np.array([slides[i][3] for i in order], np.int64)
    at = np.searchsorted(first, rows, side="right") - 1
    inside = (at >= 0) & (rows < stop[at]) if len(first) else np.zeros(len(rows), np.bool_)
    return np.where(inside, order[at], -1) if len(first) else np.full(len(rows), -1)


def divide(slide_of: NDArray[np.int64], n_groups: int) -> list[tuple[int, int]]:
    """Cut positions into contiguous groups of whole runs of a slide.

    Parameters
    ----------
    slide_of : ndarray of shape (n,), int64
        Slide of each position. A slide whose rows lie in several runs may be divided between them.
    n_groups : int
        Groups wanted.

    Returns
    -------
    list of (int, int)
        Start and stop of each group; none is empty. The cuts are the ends of runs that lie nearest to those of equal
        groups: a group has at most the rows of the longest run more than its share.

    Raises
    ------
    AnnIndexError
        If there are fewer runs than groups.
    ValueError
        If `n_groups` is below 1.
    """
    if n_groups < 1:
        msg = f"{n_groups} shards were asked for; expected 1 or more."
        raise ValueError(msg)
    n = len(slide_of)
    ends = np.append(np.flatnonzero(np.diff(slide_of)) + 1, n) if n else np.empty(0, np.int64)
    if len(ends) < n_groups:
        msg = (
            f"{n_groups} shards were asked for, but the index has rows of {len(ends)} slides, and a slide is not "
            f"divided. Ask for at most {len(ends)}."
        )
        raise AnnIndexError(msg)
    cuts = [0]
    for number in range(1, n_groups):
        # Later groups need a run each; this one needs one after the last cut.
        least = int(np.searchsorted(ends, cuts[-1], side="right"))
        most = len(ends) - (n_groups - number) - 1
        wanted = number * n / n_groups
        after = int(np.clip(np.searchsorted(ends, wanted), least, most))
        before = max(after - 1, least)
        nearer = before if wanted - ends[before] <= ends[after] - wanted else after
        cuts.append(int(ends[nearer]))
    return list(zip(cuts, [*cuts[1:], n], strict=True))
