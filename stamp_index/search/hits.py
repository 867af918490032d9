"""Hits: the spots that a query found, with where they lie and what was measured there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stamp_index.keys import Keys

if TYPE_CHECKING:
    import anndata
    import pyarrow as pa
    from numpy.typing import NDArray

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
FIXED_COLUMNS: Final = (Keys.RANK, Keys.SCORE, *PLACE_COLUMNS)


@dataclass(frozen=True, eq=False)
class Hits:
    """Spots that a query found, best first.

    Attributes
    ----------
    table : DataFrame with k rows
        rank (1 is best), score (cosine), spot_id, slide_id, patient_id, organ, x_px and y_px (patch
        centre in level-0 pixels), x_um, y_um (microns), and one column per gene of `genes`:
        measured log1p CP10k, NaN where the slide did not measure it. Do not change it; `to_pandas`
        gives a copy.
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
    store : Store
        Where the hits are from.
    """

    table: pd.DataFrame
    rows: NDArray[np.int64]
    genes: tuple[str, ...]
    query: str
    notes: tuple[str, ...]
    store_version: int
    fingerprint: str
    store: Store = field(repr=False)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def scores(self) -> NDArray[np.float32]:
        """Cosine of each hit, (k,), descending."""
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
            obs: the table without genes, its index the spot ids. X: measured log1p CP10k of `genes`
            (float32, NaN where not measured). ``obsm["spatial"]``: (k, 2), x and y in level-0
            pixels. ``uns["stamp_index"]``: query, notes, store_version, fingerprint.
        """
        import anndata

        obs = self.table[list(FIXED_COLUMNS)].set_index(Keys.SPOT_ID)
        return anndata.AnnData(
            X=self.table[list(self.genes)].to_numpy(np.float32).reshape(len(self), -1),
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


def make_hits(
    store: Store,
    found: tuple[NDArray[np.float32], NDArray[np.int64]],
    genes: tuple[str, ...],
    *,
    query: str,
    notes: tuple[str, ...],
) -> Hits:
    """Read what belongs to the rows that were found: (scores (k,), rows (k,)), best first."""
    scores, rows = found
    places = store.spots(PLACE_COLUMNS, rows).reset_index(drop=True)
    head = pd.DataFrame(
        {Keys.RANK: np.arange(1, len(rows) + 1), Keys.SCORE: scores.astype(np.float32)}
    )
    measured = pd.DataFrame(
        store.expression(genes, rows) if genes else np.empty((len(rows), 0), np.float32),
        columns=pd.Index(genes, dtype="str"),
    )
    table = pd.concat([head, places, measured], axis=1)
    return Hits(
        table=table,
        rows=rows,
        genes=genes,
        query=query,
        notes=(*notes, *_not_measured(table, genes)),
        store_version=store.version,
        fingerprint=store.card.fingerprint,
        store=store,
    )


def _not_measured(table: pd.DataFrame, genes: tuple[str, ...]) -> list[str]:
    notes = []
    n_slides = table[Keys.SLIDE_ID].nunique()
    for gene in genes:
        slides = table.loc[table[gene].isna(), Keys.SLIDE_ID].unique()
        if len(slides):
            shown = ", ".join(slides[:10]) + (", ..." if len(slides) > 10 else "")
            notes.append(
                f"{gene} was not measured on {len(slides)} of the {n_slides} slides of these hits "
                f"({shown})."
            )
    return notes
