"""Some spots of a store, such as those inside a lasso: as CSV, AnnData, and objects for QuPath."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.errors import QueryError
from stamp_index.export.annotated import genes_in_common, h5ad_bytes, obs_of, var_of
from stamp_index.export.choosing import SLOTS, choose_slides, each, provenance, unit_vectors
from stamp_index.export.csv_tables import table_csv
from stamp_index.export.qupath import spot_features
from stamp_index.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray

    from stamp_index.store.view import StoreView

MAX_SPOTS: Final = 50_000  # of one AnnData, which is made in memory
MAX_SHAPES: Final = 10_000  # of one GeoJSON; as many as are read again
_FIRST: Final = (
    Keys.SLIDE_ID, Keys.BARCODE, Keys.X_PX, Keys.Y_PX, Keys.X_UM, Keys.Y_UM, "n_counts", "n_genes",
)  # fmt: skip


def spots_table(store: StoreView, rows: ArrayLike, genes: Sequence[str] = ()) -> pd.DataFrame:
    """Describe some spots.

    Parameters
    ----------
    store : Store
    rows : int array of shape (m,)
    genes : sequence of str
        Their expression is added, log1p of counts per 10,000; NaN where a slide did not measure one.

    Returns
    -------
    DataFrame with m rows
        spot_id, slide_id, barcode, x_px and y_px (level-0 pixels), x_um and y_um, n_counts, n_genes; ``expr(GENE)`` per gene;
        ``label(NAME)`` per label that any of the spots has; store_id, store_version and encoder (its fingerprint).

    Raises
    ------
    QueryError
        If a row is not in the store.
    MissingGenesError
        If the store holds no such gene.
    """
    at = np.asarray(rows, np.int64)
    table = store.spots([Keys.SPOT_ID, *_FIRST], at)
    if genes:
        values = store.expression(list(genes), at)
        for column, gene in enumerate(genes):
            table[f"expr({gene})"] = values[:, column]
    labels = store.labels(at).dropna(axis=1, how="all")
    for name in labels:
        table[f"label({name})"] = labels[name].to_numpy()
    return table.assign(
        store_id=store.store_id, store_version=store.version, encoder=store.card.fingerprint
    )


def spots_csv(store: StoreView, rows: ArrayLike, genes: Sequence[str] = ()) -> bytes:
    """`spots_table` as CSV, in UTF-8; text that a spreadsheet would run as a formula gets an apostrophe before it.

    Raises
    ------
    QueryError, MissingGenesError
        As `spots_table`.
    """
    return table_csv(spots_table(store, rows, genes))


def spots_geojson(
    store: StoreView, slide_id: str, rows: ArrayLike, genes: Sequence[str] = ()
) -> dict[str, Any]:
    """Draw some spots of a slide as detections, at their true diameter in level-0 pixels.

    Parameters
    ----------
    store : Store
    slide_id : str
    rows : int array of shape (m,)
        Of this slide; at most 10,000.
    genes : sequence of str
        Their expression becomes measurements, beside `n_counts` and `n_genes`.

    Returns
    -------
    dict
        FeatureCollection.

    Raises
    ------
    QueryError
        If there are more than 10,000 spots, a row is not of the slide, or the store has no such slide.
    MissingPixelSizeError
        If the slide has no pixel size.
    """
    slide = next(each(choose_slides(store, slide_id)))
    at = np.asarray(rows, np.int64)
    if len(at) > MAX_SHAPES:
        msg = f"{len(at):,} spots are asked for as shapes; at most {MAX_SHAPES:,} are written. Choose a smaller region."
        raise QueryError(msg)
    if ((at < slide.first_spot) | (at >= slide.first_spot + slide.n_spots)).any():
        msg = f"Some of the {len(at):,} rows are not of slide '{slide_id}'. Give rows of one slide."
        raise QueryError(msg)
    return {"type": "FeatureCollection", "features": spot_features(store, slide, at, genes)}


def spots_anndata(store: StoreView, rows: ArrayLike) -> AnnData:
    """Put some spots in an AnnData with the slots of `to_anndata`.

    Parameters
    ----------
    store : Store
    rows : int array of shape (m,)
        At most 50,000, of any slides.

    Returns
    -------
    AnnData of m spots and g genes
        ``X`` and ``layers["counts"]`` (csr, float32): raw counts of the genes that every slide with counts has measured;
        rows of 0 where a slide has none, as ``obs["has_counts"]`` says. ``obs``, ``var``, ``obsm`` and ``uns["stamp"]``
        are as in `to_anndata`.

    Raises
    ------
    QueryError
        If there are no rows, too many, or their slides have no gene in common.
    """
    from anndata import AnnData
    from scipy.sparse import csr_matrix

    at: NDArray[np.int64] = np.asarray(rows, np.int64)
    if not 1 <= len(at) <= MAX_SPOTS:
        msg = f"{len(at):,} spots are asked for in one file; expected 1 to {MAX_SPOTS:,}. Choose another region."
        raise QueryError(msg)
    obs = obs_of(store, at)
    here = choose_slides(store, list(dict.fromkeys(obs[Keys.SLIDE_ID].astype(str))))
    n_genes = here.set_index(Keys.SLIDE_ID)["n_genes"]
    obs["has_counts"] = n_genes.loc[obs[Keys.SLIDE_ID].astype(str)].to_numpy() > 0
    kept = genes_in_common(store, here.loc[here["n_genes"] > 0, Keys.SLIDE_ID].tolist())
    counts = csr_matrix(store.sparse_counts(at)[:, kept], dtype=np.float32)
    obsm: dict[str, NDArray[Any]] = {
        "spatial": store.spots([Keys.X_PX, Keys.Y_PX], at).to_numpy(np.float64)
    }
    for modality, slot in SLOTS.items():
        obsm[slot] = unit_vectors(store, modality, at)
        obs[f"has_{slot}"] = store.has_vector(modality)[at]
    uns = {"stamp": provenance(store, here)}
    return AnnData(
        counts, obs, var_of(store, kept), uns=uns, obsm=obsm, layers={"counts": counts.copy()}
    )


def spots_h5ad(store: StoreView, rows: ArrayLike) -> bytes:
    """Make the content of an h5ad file of `spots_anndata` in memory.

    Raises
    ------
    QueryError
        As `spots_anndata`.
    """
    return h5ad_bytes(spots_anndata(store, rows))
