"""What scores of unrelated queries look like, so that a score can be held against them.

A cosine alone says little: embeddings of one modality lie in a narrow part of the space, and how
near a query is to all of it depends on the query. So a score is measured in standard deviations
above the mean of its own query's scores over a sample of rows (z), and the score itself is held
against those of the best hits of background queries (percentile).
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from stamp_index.errors import AnnIndexError
from stamp_index.index.halves import as_float32

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from stamp_index.store import Modality, Store

    Search = Callable[
        [NDArray[np.float32], NDArray[np.bool_]], tuple[NDArray[np.float32], NDArray[np.int64]]
    ]

SAMPLE_ROWS: Final = 1_024  # the mean of a query's scores is then known to 3 % of their spread
N_QUERIES: Final = 256
_GROUPS: Final = 32  # patients that background queries are drawn from: a filter each
_LEAST_SPREAD: Final = 1e-6  # of scores over a sample; rows that are all alike have none
_FIELDS: Final = ("sample", "best")
_MOST_BYTES: Final = 256 * 2**20  # a sample of 1,024 rows of 512 dimensions has 1 MB
# What the readers of archives and arrays raise for damaged ones, as found by damaging them.
DAMAGED_ARRAY: Final = (
    *(ValueError, TypeError, LookupError, EOFError, SyntaxError, TokenError, RuntimeError),
    *(MemoryError, OverflowError, struct.error),
)
_DAMAGED: Final = (*DAMAGED_ARRAY, OSError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, eq=False)
class Background:
    """Scores of unrelated rows and of unrelated queries in one modality.

    Attributes
    ----------
    sample : ndarray of shape (m, d), float16 or float32
        Vectors of random rows, at least 2.
    best : ndarray of shape (b,), float32
        Score of the best hit of each background query, ascending; empty where none was asked.
    """

    sample: NDArray[np.floating[Any]]
    best: NDArray[np.float32]

    @classmethod
    def compute(
        cls, sample: NDArray[np.floating[Any]], best: NDArray[np.floating[Any]] | None = None
    ) -> Self:
        """Make a background of a sample and of what was found for background queries, in any order.

        Raises
        ------
        ValueError
            If shapes are wrong, there are fewer than 2 rows, or a score is not finite.
        """
        scores = np.empty(0, np.float32) if best is None else np.asarray(best, np.float32)
        if sample.ndim != 2 or len(sample) < 2 or scores.ndim != 1 or not np.isfinite(scores).all():
            msg = (
                f"The sample has shape {sample.shape} and the scores {scores.shape}; expected (at least "
                f"2, d) and (b,), all scores finite."
            )
            raise ValueError(msg)
        return cls(sample, np.sort(scores))

    def z_scores(
        self, queries: NDArray[np.float32], scores: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Measure scores in standard deviations above the mean of their query's scores over the sample.

        Parameters
        ----------
        queries : ndarray of shape (q, d), float32
            Unit vectors.
        scores : ndarray of shape (q, k), float32
            Their scores.

        Returns
        -------
        ndarray of shape (q, k), float32
        """
        usual = queries @ as_float32(self.sample).T  # (q, m)
        mean = usual.mean(axis=1, keepdims=True, dtype=np.float64)
        spread = usual.std(axis=1, keepdims=True, dtype=np.float64)
        z: NDArray[np.float32] = ((scores - mean) / np.maximum(spread, _LEAST_SPREAD)).astype(
            np.float32
        )
        return z

    def percentiles(self, scores: ArrayLike) -> NDArray[np.float32]:
        """Share of background queries whose best hit scores lower, in [0, 1]; NaN without queries."""
        values = np.asarray(scores, np.float32)
        if len(self.best) == 0:
            return np.full(values.shape, np.nan, np.float32)
        below = np.searchsorted(self.best, values, side="left")
        return np.where(np.isnan(values), np.nan, below / len(self.best)).astype(np.float32)

    def save(self, path: Path | str) -> None:
        """Write to a file of arrays (``.npz``)."""
        with Path(path).open("wb") as file:
            np.savez(file, **{name: getattr(self, name) for name in _FIELDS})

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        AnnIndexError
            If the file is missing, damaged or holds something else.
        """
        try:
            sample, best = _arrays_of(Path(path))
        except _DAMAGED as exc:
            msg = f"The background of random queries at {path} cannot be read ({exc}). Build the index again."
            raise AnnIndexError(msg) from exc
        floats = sample.dtype.kind == "f" and best.dtype.kind == "f"
        if not floats or sample.ndim != 2 or len(sample) < 2 or best.ndim != 1:
            msg = (
                f"The background of random queries at {path} has arrays of shape {sample.shape} and "
                f"{best.shape}; expected (at least 2, d) and (b,). Build the index again."
            )
            raise AnnIndexError(msg)
        return cls(sample, best)


def _arrays_of(path: Path) -> list[NDArray[Any]]:
    """Read the arrays of a file, which may be packed, but not to more than a sample can take."""
    with path.open("rb") as file, zipfile.ZipFile(file) as packed:
        n_bytes = sum(member.file_size for member in packed.infolist())
        if n_bytes > _MOST_BYTES:
            msg = f"it unpacks to {n_bytes:,} bytes, expected {_MOST_BYTES:,} at most"
            raise ValueError(msg)
        found = []
        for name in _FIELDS:
            with packed.open(f"{name}.npy") as member:
                found.append(np.lib.format.read_array(member, allow_pickle=False))
    return found


def sample_rows(has_vector: NDArray[np.bool_], n: int, *, seed: int) -> NDArray[np.int64]:
    """Random rows that have an embedding: (at most n,), ascending."""
    rows = np.flatnonzero(has_vector)
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(rows, min(n, len(rows)), replace=False))


def background_of_rows(
    store: Store,
    query: Modality,
    sample: NDArray[np.floating[Any]],
    *,
    searched: NDArray[np.bool_],
    search: Search,
    seed: int = 0,
) -> Background:
    """Make the background of queries that are like the store's own rows.

    Parameters
    ----------
    store : Store
        The rows.
    query : {"image", "gene"}
        Which of their embeddings asks.
    sample : ndarray of shape (m, d), float16 or float32
        Vectors of random rows of what is searched.
    searched : ndarray of shape (n_rows,), bool
        Rows that can be found.
    search : callable
        ``search(queries, allowed)`` gives scores and rows of shape (q, 2), best first.
    seed : int
        Decides the queries.

    Returns
    -------
    Background
        Of 256 queries of at most 32 patients, or what the store has. A query finds nothing of its own
        patient, nor of its own slide where the patient is not known; where the store has no other, it
        finds anything but its own row.
    """
    has_query = store.has_vector(query)
    groups = _groups(store, has_query, seed)
    per_group = -(-N_QUERIES // max(len(groups), 1))
    best: list[NDArray[np.float32]] = [np.empty(0, np.float32)]
    for number, own in enumerate(groups):
        rows = sample_rows(has_query & own, per_group, seed=seed + number)
        others = searched & ~own
        vectors = store.vectors(query, rows).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        scores, found = search(vectors, others if others.any() else searched)
        scores = np.where(found == rows[:, None], -np.inf, scores).max(axis=1, initial=-np.inf)
        best.append(scores[scores > -np.inf])
    return Background.compute(sample, np.concatenate(best))


def _groups(store: Store, has_query: NDArray[np.bool_], seed: int) -> list[NDArray[np.bool_]]:
    """Rows of each of some patients, or of slides whose patient is not known, that have queries."""
    slides = store.slides()
    patient = slides["patient_id"].fillna("").astype(str)
    names = patient.where(patient != "", "slide " + slides["slide_id"]).to_numpy()
    order = np.random.default_rng(seed).permutation(np.unique(names))
    masks = (store.mask_of(names == name) for name in order)
    kept: list[NDArray[np.bool_]] = []
    for mask in masks:
        if len(kept) < _GROUPS and (mask & has_query).any():
            kept.append(mask)
    return kept
