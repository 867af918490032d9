"""What scores are held against, so that a search can say that it found nothing.

The percentile of a hit is the share of random queries of the same kind whose best hit in the whole store
scores lower: the store's own spots (none finds its own patient) for pictures, profiles and spots, random
signatures for signatures. The score itself is compared, not its z: how far a query's best score stands
above its other scores says how rare the tissue is, and noise has such a best score too, while a nearest
neighbour that is far away is what unknown inputs have in common (Sun et al., "Out-of-Distribution
Detection with Deep Nearest Neighbors", ICML 2022).

Measured on the phantom (6 slides of 3 patients, the demo's encoder trained on two of them; 32 pictures of
each kind of nonsense, against both embeddings): the best hit is below the 1st percentile for 97 to 100 %
of the pictures of noise, smooth clouds, blank glass, shuffled tissue and a magnified detail, 81 to 100 % of
one colour and of stripes, 81 to 94 % of negatives, 31 to 38 % of tissue with red and blue exchanged; and,
a false alarm, for 4 to 5 % of the patches of the patient that the encoder was not trained on. By z it is
for 72 to 78 % of shuffled tissue, and for at most 3 % of any other.
Of signatures, the six that are planted lie above the 74th percentile of random ones; housekeeping and
ribosomal genes at the 17th to 20th; four markers of tissues that exclude each other at the 21st to 31st,
three such at the 60th to 62nd. Held against the spots' own profiles instead, half of the planted ones lie
below the 5th: a few genes are never as near as a whole profile. How many genes random signatures have, and
whether low ones are among them, moves a percentile by 0.1 at most, so there is one background for all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.index.background import (
    SAMPLE_ROWS,
    Background,
    background_of_rows,
    sample_rows,
)
from stamp_index.index.halves import as_float32
from stamp_index.search.asking import DEFAULT_RECALL, NO_KIND, check_modality
from stamp_index.search.kept import Kept
from stamp_index.search.nearest import finder
from stamp_index.search.sources import Findable
from stamp_index.shards.silence import listening

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.search.asking import Ask, QueryKind
    from stamp_index.search.sources import Sources

_KEPT: Final = 16  # 2 MB each at d = 512
_N_SIGNATURES: Final = 128  # 6 ms each to encode with the demo's encoder, on one core
_MOST_ROWS: Final = 200_000  # searched exactly, 256 queries take seconds of more rows
_MOST_FUSED: Final = 20_000  # the same of two embeddings that have indexes: 32 reads of all vectors
_LEAST_ROWS: Final = 2
_OUTGROWN: Final = 1.2  # times the spots that a stored background was made with
# Percentile of the best hit below which nothing stands out, and the random queries that it takes to say so.
_ALARMS: Final = {"image": (0.01, 100), "gene": (0.01, 100), "signature": (0.5, 20)}
_SEED: Final = 0
NO_PERCENTILES: Final = (
    "Percentiles are not known: random queries of both embeddings would take long among so many spots. Read z, or "
    "search one embedding."
)
NOTHING_STANDS_OUT: Final = "Nothing stands out"  # how a note begins that says so


class _IncompleteError(Exception):
    """Shards did not answer while a background was made, which is not kept."""

    def __init__(self, background: Background) -> None:
        super().__init__("shards did not answer")
        self.background = background


class Backgrounds:
    """The background of every way of asking one version of a store. Threads may share it.

    Parameters
    ----------
    sources : Sources
        Where rows come from.
    """

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._kept: Kept[Background | None] = Kept(_KEPT)
        self._drawn: Kept[NDArray[np.float32]] = Kept(1)

    def of(self, ask: Ask, kind: QueryKind) -> Background | None:
        """Return what scores of some queries are held against.

        Parameters
        ----------
        ask : Ask
            What is searched.
        kind : QueryKind
            What asks.

        Returns
        -------
        Background or None
            Without queries where finding their best hits would take long: more than 20,000
            rows by two embeddings that have indexes, or more than 200,000 rows without any. None for fewer than 2 rows.
        """
        usual = replace(ask, k=1, condition=None, one_per=None, recall=DEFAULT_RECALL)
        try:
            return self._kept.get((usual.against, kind), lambda: self._make_whole(usual, kind))
        except _IncompleteError as exc:
            return exc.background

    def outgrown(self, ask: Ask, kind: QueryKind) -> tuple[str, ...]:
        """Say so where percentiles compare with what was found when the store had far fewer spots."""
        if self._stored(ask, kind) is None:
            return ()
        modality = ask.modalities[0]
        then = self._sources.n_indexed(modality)
        now = int(np.count_nonzero(self._sources.has_vector(modality)))
        if now <= _OUTGROWN * then:
            return ()
        return (
            f"Percentiles are a little too high: they compare with random queries that were asked when the "
            f"{modality} index held {then:,} spots, and {now:,} are searched now. Fold the newer ones into the index.",
        )

    def _stored(self, ask: Ask, kind: QueryKind) -> Background | None:
        """Background that an index carries for this way of asking, if it does."""
        if len(ask.modalities) > 1:
            return None
        return self._sources.background(ask.modalities[0], kind.name)

    def _make_whole(self, ask: Ask, kind: QueryKind) -> Background | None:
        """Make what is kept; where shards do not answer it is not, and percentiles are not known for now."""
        with listening() as silence:
            background = _widened(self._make(ask, kind))
        if silence and background is not None:
            raise _IncompleteError(replace(background, best=background.best[:0]))
        return background

    def _make(self, ask: Ask, kind: QueryKind) -> Background | None:
        sources, modalities = self._sources, ask.modalities
        stored = self._stored(ask, kind)
        if stored is not None:
            return stored
        searched = sources.has_vectors(modalities)
        n = int(np.count_nonzero(searched))
        if n < _LEAST_ROWS:
            return None
        sample = self._sample(ask, searched)
        indexed = [sources.has_index(modality) for modality in modalities]
        fused, plain = len(indexed) > 1, not any(indexed)
        is_slow = plain and n > _MOST_ROWS
        if fused and not plain:
            is_slow, ask = n > _MOST_FUSED, replace(ask, recall=1.0)
        if is_slow or kind == NO_KIND:
            return Background.compute(sample)
        find = finder(sources, ask)
        if kind.draw is not None:
            draw = kind.draw
            queries = self._drawn.get(
                kind, lambda: draw(_N_SIGNATURES, np.random.default_rng(_SEED))
            )
            best = find(queries, 1, Findable(searched, n))[0]
            return Background.compute(sample, best[np.isfinite(best)])
        return background_of_rows(
            sources.store,
            check_modality(kind.name),
            sample,
            searched=searched,
            search=lambda asked, allowed: find(asked, 2, Findable(allowed, int(allowed.sum())))[:2],
            seed=_SEED,
        )

    def _sample(self, ask: Ask, searched: NDArray[np.bool_]) -> NDArray[np.floating[Any]]:
        """Vectors whose products with a query are the scores of random rows, (m, d)."""
        rows = sample_rows(searched, SAMPLE_ROWS, seed=_SEED)
        store = self._sources.store
        if len(ask.against) == 1:
            return store.vectors(ask.modalities[0], rows)
        weighted = [w * store.vectors(m, rows).astype(np.float32) for m, w in ask.against]
        return np.asarray(np.sum(weighted, axis=0), np.float32)


def _widened(background: Background | None) -> Background | None:
    """Convert the sample once, not with every query."""
    if background is None:
        return None
    return replace(background, sample=as_float32(background.sample))


def what_it_says(
    background: Background, kind: QueryKind, score: float, percentile: float
) -> tuple[str, ...]:
    """Say so where the best hit of a query is no better than those of random ones.

    Parameters
    ----------
    background : Background
        What the score was held against.
    kind : QueryKind
        What asked.
    score, percentile : float
        Of the best hit.
    """
    n = len(background.best)
    alarm, least = _ALARMS.get(kind.name, (0.0, 0))
    if n < least or not percentile < alarm:
        return ()
    start = f"{NOTHING_STANDS_OUT}: the best score, {score:.2f}, is below that of {1 - percentile:.0%} of {n}"
    if kind.name == "signature":
        return (
            f"{start} random signatures. Few spots can be told by these genes: they may be found everywhere, or in tissues that exclude each other.",
        )
    return (
        f"{start} spots of this store as queries. This one may be unlike all that is in it; if it is a "
        f"picture, check its pixel size and its stain.",
    )
