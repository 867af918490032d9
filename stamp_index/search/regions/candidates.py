"""Which slides to look at: the nearest rows of each prototype vote for theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.search.regions.prototypes import Prototypes

# Votes that count half, as a share of the spots that the query has of a prototype. The nearest rows are a sample of
# those that answer, and slides that have all of the query must go before slides with much of a part of it: of 256
# slides, 31 with a planted mixture and 64 with much of one half of it, the first 16 were right by 1.0 of the slides;
# with a value of 1, by 0.3 (1,024 rows a prototype).
_FEW: Final = 0.1


def rank_slides(
    slide_of_row: NDArray[np.int64],
    answering: NDArray[np.bool_],
    prototypes: Prototypes,
    n_slides: int,
) -> NDArray[np.int64]:
    """Order slides by how much of the query their spots answer.

    Parameters
    ----------
    slide_of_row : ndarray of shape (p, n), int64
        Slide of each of the n rows nearest to each prototype.
    answering : ndarray of shape (p, n), bool
        Which of these rows are near enough to answer it.
    prototypes : Prototypes
        Their weights are shares of the query.
    n_slides : int
        Slides that could have been found.

    Returns
    -------
    ndarray of shape (s,), int64
        Slides with any such row, most votes first; equal ones by number.

    Notes
    -----
    Each prototype is a word, and each slide a document, scored like BM25 (Robertson and Zaragoza 2009, "The Probabilistic
    Relevance Framework"): a prototype counts by its share of the query, less where it is found on most slides, and
    more rows of it on one slide count less and less.
    """
    found, position = np.unique(slide_of_row[answering], return_inverse=True)
    votes = np.zeros((len(slide_of_row), len(found)))
    np.add.at(votes, (np.nonzero(answering)[0], position), 1)
    rarity = np.log(1.0 + n_slides / np.maximum((votes > 0).sum(axis=1), 1))
    few = _FEW * np.maximum(prototypes.weights * len(prototypes.of_spot), 1.0)[:, None]
    support = (prototypes.weights * rarity) @ (votes / (votes + few))  # (s,)
    order: NDArray[np.int64] = found[np.lexsort((found, -support))]
    return order
