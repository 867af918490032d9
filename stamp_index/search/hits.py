"""Hits: the spots that a query found, with where they lie and what was measured there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pandas as pd

from stamp_index.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import anndata
    import pyarrow as pa
    from numpy.typing import NDArray

    from stamp_index.search.asking import Asked
    from stamp_index.store import Store

PLACE_COLUMNS: Final = (
    Keys.SPOT_ID,
    Keys.SLIDE_ID,
    Keys.PATIENT_ID,
    Keys.ORGAN,
    Keys.X_PX,
    Keys.Y_PX,
    Keys.X_UM,
    Keys.Y_UM,
)
FIXED_COLUMNS: Final = (Keys.RANK, Keys.SCORE, Keys.Z, Keys.PERCENTILE, *PLACE_COLUMNS)
_SHOWN: Final = 10  # names in a note
_TAKEN: Final = frozenset({*FIXED_COLUMNS, Keys.MEASURED})


def gene_column(gene: str) -> str:
    """Column of `Hits.table` with what was measured of a gene: its name, or ``expr(z)`` for a gene called z."""
    return f"expr({gene})" if gene in _TAKEN else gene


@dataclass(frozen=True, eq=False)
class Hits:
    """Spots that a query found, best first.

    Attributes
    ----------
    table : DataFrame with k rows
        - rank (1 is best) and score (cosine, or the weighted mean of two).
        - z: the score in standard deviations above the mean of this query's scores over a sample of
          the spots that are searched. Comparable between queries, as cosines are not.
        - percentile: share of random queries, in [0, 1], whose best hit in the whole store scores
          lower (see `stamp_index.search.calibration`); NaN where that is not known.
        - spot_id, slide_id, patient_id, organ, x_px and y_px (patch centre in level-0 pixels),
          x_um, y_um (microns).
        - measured, for a signature: mean of its genes' measured log1p CP10K, weighted as the
          signature weighs them, low genes counted negative (``sum(w * x) / sum(abs(w))``); NaN where
          the slide did not measure all of them.
        - one column per gene of `genes`: measured log1p CP10K, NaN where the slide did not measure
          it. A gene that has the name of another column, such as z, is in ``expr(z)``.

        Do not change it; `to_pandas` gives a copy.
    rows : ndarray of shape (k,), int64
        Rows of the store.
    genes : tuple of str
        Genes whose expression is reported.
    query : str
        What was asked. For a gene query it is the signature, as `parse_signature` reads it.
    notes : tuple of str
        What should be known about the answer, such as why there are fewer hits than asked for.
    store_version : int
        Version of the store that was searched.
    fingerprint : str
        Of the encoder that the scores rest on.
    ranked_by : {"score", "measured"}
        Column that the hits are in the order of, descending.
    store : Store
        Where the hits are from.
    is_whole : bool
        False where shards of an index did not answer; a note says which. Ask again in a moment.
    """

    table: pd.DataFrame
    rows: NDArray[np.int64]
    genes: tuple[str, ...]
    query: str
    notes: tuple[str, ...]
    store_version: int
    fingerprint: str
    store: Store = field(repr=False)
    ranked_by: Literal["score", "measured"] = "score"
    is_whole: bool = True

    def __len__(self) -> int:
        return len(self.table)

    @property
    def scores(self) -> NDArray[np.float32]:
        """Cosine of each hit, (k,); descending unless they are in the order of what was measured."""
        scores: NDArray[np.float32] = self.table[Keys.SCORE].to_numpy(np.float32)
        return scores

    @property
    def spot_ids(self) -> tuple[str, ...]:
        """Id of each hit."""
        return tuple(self.table[Keys.SPOT_ID])

    def thumbnails(self) -> list[bytes | None]:
        """JPEG of each hit's patch; None where its slide has no image."""
        return self.store.thumbnails(self.rows)

    def to_pandas(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.table.copy()

    def to_arrow(self) -> pa.Table:
        """Return the table for Arrow; query, notes, store version and encoder are its metadata."""
        import json

        import pyarrow as pa

        table = pa.Table.from_pandas(self.table, preserve_index=False)
        return table.replace_schema_metadata({"stamp_index": json.dumps(self._provenance())})

    def to_anndata(self) -> anndata.AnnData:
        """Return the hits as AnnData.

        Returns
        -------
        AnnData of shape (k, g)
            obs: the table without genes, its index the spot ids. X: measured log1p CP10K of `genes`
            (float32, NaN where not measured). ``obsm["spatial"]``: (k, 2), x and y in level-0
            pixels. ``uns["stamp_index"]``: query, notes, store_version, fingerprint.
        """
        import anndata

        measured = [gene_column(gene) for gene in self.genes]
        obs = self.table.drop(columns=measured).set_index(Keys.SPOT_ID)
        return anndata.AnnData(
            X=self.table[measured].to_numpy(np.float32).reshape(len(self), -1),
            obs=obs,
            var=pd.DataFrame(index=pd.Index(self.genes, dtype="str")),
            obsm={"spatial": self.table[[Keys.X_PX, Keys.Y_PX]].to_numpy(np.float64)},
            uns={"stamp_index": self._provenance()},
        )

    def _provenance(self) -> dict[str, Any]:
        return {
            "query": self.query,
            "notes": list(self.notes),
            "store_version": self.store_version,
            "fingerprint": self.fingerprint,
        }

    def _repr_html_(self) -> str:
        """Show hits with their pictures in a notebook."""
        from stamp_index.search.html import hits_html

        return hits_html(self)


@dataclass(frozen=True, eq=False)
class Answer:
    """One query and the rows that were found for it.

    Attributes
    ----------
    asked : Asked
        The query.
    scores, rows : ndarray of shape (k,), float32 and int64
        Best first.
    z, percentile : ndarray of shape (k,), float32
        As columns of `Hits.table`.
    notes : tuple of str
        What should be known about the rows.
    is_whole : bool
        As in `Hits`.
    """

    asked: Asked
    scores: NDArray[np.float32]
    rows: NDArray[np.int64]
    z: NDArray[np.float32]
    percentile: NDArray[np.float32]
    notes: tuple[str, ...] = ()
    is_whole: bool = True


def make_hits(store: Store, answers: Sequence[Answer]) -> list[Hits]:
    """Read what belongs to the rows that were found, once for all queries."""
    genes = tuple(dict.fromkeys(gene for answer in answers for gene in answer.asked.genes))
    rows = np.unique(np.concatenate([np.empty(0, np.int64), *(one.rows for one in answers)]))
    places = store.spots(PLACE_COLUMNS, rows)
    columns = {name: places[name].to_numpy() for name in PLACE_COLUMNS}
    measured = store.expression(genes, rows) if genes else np.empty((len(rows), 0), np.float32)
    expression = dict(zip(genes, measured.T, strict=True))
    return [
        _hits(store, answer, np.searchsorted(rows, answer.rows), (columns, expression))
        for answer in answers
    ]


def _hits(
    store: Store,
    answer: Answer,
    at: NDArray[np.int64],
    read: tuple[Mapping[str, NDArray[Any]], Mapping[str, NDArray[np.float32]]],
) -> Hits:
    """Hits of one query, which stand at `at` in what was read of the rows of all."""
    asked = answer.asked
    genes = tuple(dict.fromkeys(asked.genes))
    expression = {gene: read[1][gene][at] for gene in genes}
    columns: dict[str, NDArray[Any]] = {
        Keys.SCORE: answer.scores,
        Keys.Z: answer.z,
        Keys.PERCENTILE: answer.percentile,
        **{name: values[at] for name, values in read[0].items()},
    }
    if asked.weights:
        columns[Keys.MEASURED] = _measured_score(expression, dict(asked.weights))
    columns |= {gene_column(gene): values for gene, values in expression.items()}
    order, notes = np.arange(len(at)), [*asked.notes, *answer.notes]
    if asked.by_measured:
        order = np.argsort(-columns[Keys.MEASURED], kind="stable")  # NaN last
        notes += _ranked_last(columns[Keys.MEASURED])
    ranks = {Keys.RANK: np.arange(1, len(at) + 1)}
    table = pd.DataFrame(ranks | {name: values[order] for name, values in columns.items()})
    return Hits(
        table=table,
        rows=answer.rows[order],
        genes=genes,
        query=asked.text,
        notes=(*notes, *_not_measured(table, genes)),
        ranked_by="measured" if asked.by_measured else "score",
        is_whole=answer.is_whole,
        store_version=store.version,
        fingerprint=store.card.fingerprint,
        store=store,
    )


def _measured_score(
    expression: Mapping[str, NDArray[np.float32]], weights: Mapping[str, float]
) -> NDArray[np.float32]:
    """Weighted mean of log1p CP10K, (k,); NaN where a gene was not measured."""
    values = np.stack([expression[gene] for gene in weights]).astype(np.float64)  # (g, k)
    weight = np.array(list(weights.values()))
    return np.asarray(weight @ values / np.abs(weight).sum(), np.float32)


def _ranked_last(measured: NDArray[np.float32]) -> list[str]:
    n = int(np.isnan(measured).sum())
    if n == 0:
        return []
    return [
        f"{n} of {len(measured)} hits lie where not every gene was measured: they come last, by score."
    ]


def _not_measured(table: pd.DataFrame, genes: tuple[str, ...]) -> list[str]:
    """Say which genes the slides of some hits lack: one sentence for all that the same slides lack."""
    lacking: dict[tuple[str, ...], list[str]] = {}
    for gene in genes:
        missing = np.isnan(table[gene_column(gene)].to_numpy())
        if missing.any():
            slides = tuple(table.loc[missing, Keys.SLIDE_ID].unique())
            lacking.setdefault(slides, []).append(gene)
    n_slides = table[Keys.SLIDE_ID].nunique() if lacking else 0
    return [
        f"{_listed(names)} {'was' if len(names) == 1 else 'were'} not measured on {len(slides)} of the "
        f"{n_slides} slides of these hits ({_listed(slides)})."
        for slides, names in lacking.items()
    ]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
